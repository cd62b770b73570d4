"""Batch augmentations on the device: random erasing, mixup and CutMix, as functions of keys.

Every example brings its own key, so an image is erased in the same way on any mesh and however a
batch is split. Partners for mixing are near in the global batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from zoo.config.data import MixConfig

_ERASE_TRIES = 10  # timm's: boxes drawn until one fits into the image


def erase(
    image: Float[Array, "B rows cols C"], keys: Key[Array, " B"], cfg: MixConfig
) -> Float[Array, "B rows cols C"]:
    """Random erasing (Zhong 2017, arXiv 1708.04896) of normalised images, one box an image.

    The box follows timm: area uniform in `erase_area`, aspect log-uniform in `erase_aspect`, the
    first of ten draws that fits; none fits: the image stays. The fill is N(0, 1) a pixel, or 0.
    """
    rows, cols = image.shape[1:3]

    def one(image, key):
        which, area_key, aspect_key, place_key, noise_key = jax.random.split(key, 5)
        area = (
            rows
            * cols
            * jax.random.uniform(
                area_key, (_ERASE_TRIES,), minval=cfg.erase_area[0], maxval=cfg.erase_area[1]
            )
        )
        log_aspect = jax.random.uniform(
            aspect_key,
            (_ERASE_TRIES,),
            minval=jnp.log(cfg.erase_aspect[0]),
            maxval=jnp.log(cfg.erase_aspect[1]),
        )
        height = jnp.round(jnp.sqrt(area * jnp.exp(log_aspect)))
        width = jnp.round(jnp.sqrt(area / jnp.exp(log_aspect)))
        fits = (height < rows) & (width < cols)
        first = jnp.argmax(fits)
        height, width = height[first], width[first]
        u = jax.random.uniform(place_key, (2,))
        top, left = jnp.floor(u[0] * (rows - height + 1)), jnp.floor(u[1] * (cols - width + 1))
        box = _box_mask(image.shape[:2], top, left, top + height, left + width)
        chosen = (jax.random.uniform(which) < cfg.erase) & fits[first]
        fill = jnp.zeros_like(image)
        if cfg.erase_fill == "noise":
            fill = jax.random.normal(noise_key, image.shape, image.dtype)
        return jnp.where((box & chosen)[..., None], fill, image)

    return jax.vmap(one)(image, keys)


def mix(
    image: Float[Array, "B rows cols C"],
    target: Float[Array, "B classes"],
    key: Key[Array, ""],
    keys: Key[Array, " B"],
    cfg: MixConfig,
    *,
    partner: int = 1,
) -> tuple[Float[Array, "B rows cols C"], Float[Array, "B classes"]]:
    """Mixup (Zhang 2018, arXiv 1710.09412) and CutMix (Yun 2019, arXiv 1905.04899).

    Args:
      key: for draws that the whole batch shares (`per="batch"`).
      keys: for draws that each example makes (`per="example"`).
      partner: how many rows before an image, around the end, lies the one it is mixed with.

    Returns:
      The mixed images, and targets mixed by the share of pixels that each image really has.
    """
    batch, rows, cols = image.shape[:3]
    draw = lambda key: _draw(key, (rows, cols), cfg)
    if cfg.per == "batch":
        share, box = draw(key)
        share, box = jnp.full((batch,), share), jnp.broadcast_to(box, (batch, rows, cols))
    else:
        share, box = jax.vmap(draw)(keys)
    # Outside a CutMix box `own` is 1, inside 0; for mixup the box is empty and `own` is the share.
    is_cut = jnp.any(box, axis=(1, 2))
    own = jnp.where(is_cut[:, None, None], 1.0 - box, share[:, None, None])[..., None]
    other_image, other_target = (jnp.roll(x, partner, axis=0) for x in (image, target))
    mixed_target = share[:, None] * target + (1 - share[:, None]) * other_target
    return own * image + (1 - own) * other_image, mixed_target


def _draw(
    key: Key[Array, ""], size: tuple[int, int], cfg: MixConfig
) -> tuple[Float[Array, ""], Bool[Array, "rows cols"]]:
    """One draw: the share of an image's own pixels, and the box that its partner fills."""
    rows, cols = size
    on_key, which_key, mixup_key, cutmix_key, centre_key = jax.random.split(key, 5)
    on = jax.random.uniform(on_key) < cfg.probability
    use_cutmix = cfg.cutmix > 0 and (cfg.mixup == 0 or jax.random.uniform(which_key) < 0.5)
    share, box = jnp.ones(()), jnp.zeros(size, bool)
    if cfg.mixup > 0:
        share = jax.random.beta(mixup_key, cfg.mixup, cfg.mixup)
        share = jnp.maximum(share, 1 - share) if cfg.keep_larger else share
    if cfg.cutmix > 0:
        wanted = jax.random.beta(cutmix_key, cfg.cutmix, cfg.cutmix)
        half = 0.5 * jnp.sqrt(1 - wanted)
        centre = jax.random.uniform(centre_key, (2,))
        corners = [
            jnp.clip(jnp.round((centre[axis] + sign * half) * size[axis]), 0, size[axis])
            for sign in (-1, 1)
            for axis in (0, 1)
        ]
        cut = _box_mask(size, *corners)
        box = cut & use_cutmix
        share = jnp.where(use_cutmix, 1 - jnp.sum(cut) / (rows * cols), share)
    return jnp.where(on, share, 1.0), box & on


def _box_mask(
    size: tuple[int, int],
    top: Float[Array, ""] | Int[Array, ""],
    left: Float[Array, ""] | Int[Array, ""],
    bottom: Float[Array, ""] | Int[Array, ""],
    right: Float[Array, ""] | Int[Array, ""],
) -> Bool[Array, "rows cols"]:
    row, col = jnp.arange(size[0])[:, None], jnp.arange(size[1])[None, :]
    return ((row >= top) & (row < bottom)) & ((col >= left) & (col < right))
