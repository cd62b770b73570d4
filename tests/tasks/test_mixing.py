"""Mixup, CutMix and random erasing: what they promise about pixels, targets and randomness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.config.data import MixConfig
from zoo.tasks import mixing

mix = jax.jit(mixing.mix, static_argnums=4)
erase = jax.jit(mixing.erase, static_argnums=2)

B, SIZE, CLASSES = 8, 12, 8
KEY = jax.random.key(0)
KEYS = jax.random.split(jax.random.key(1), B)
# Image i is filled with i, and has class i: a pixel tells where it comes from.
IMAGE = jnp.broadcast_to(jnp.arange(B, dtype=jnp.float32)[:, None, None, None], (B, SIZE, SIZE, 1))
TARGET = jnp.eye(B, CLASSES)
PARTNER = np.roll(np.arange(B), 1)


def share_of_own(image):
    """The share of each image's own value, from its mean: own s + partner (1 - s)."""
    own = np.arange(B)
    return (np.asarray(image).mean((1, 2, 3)) - PARTNER) / (own - PARTNER)


@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize("which", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_targets_follow_the_share_of_pixels(which, per):
    image, target = mix(IMAGE, TARGET, KEY, KEYS, MixConfig(per=per, **which))
    share = share_of_own(image)
    np.testing.assert_allclose(target[np.arange(B), np.arange(B)], share, atol=1e-5)
    np.testing.assert_allclose(target[np.arange(B), PARTNER], 1 - share, atol=1e-5)
    np.testing.assert_allclose(target.sum(1), 1, rtol=1e-6)
    assert (np.ptp(share) < 1e-5) == (per == "batch")
    assert np.any(share < 0.999)


def test_cutmix_pastes_one_box_of_the_partner():
    image, _ = mix(IMAGE, TARGET, KEY, KEYS, MixConfig(cutmix=1.0, per="example"))
    for own, partner, pixels in zip(range(B), PARTNER, np.asarray(image)[..., 0], strict=True):
        pasted = pixels == partner
        assert np.all(pasted | (pixels == own))
        rows, cols = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        if len(rows):
            box = pasted[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
            assert box.all()


def test_keep_larger_keeps_the_larger_share():
    cfg = MixConfig(mixup=0.5, keep_larger=True, per="example")
    image, _ = mix(IMAGE, TARGET, KEY, KEYS, cfg)
    assert np.all(share_of_own(image) >= 0.5)
    image, _ = mix(IMAGE, TARGET, KEY, KEYS, MixConfig(mixup=0.5, per="example"))
    assert np.any(share_of_own(image) < 0.5)


def test_probability_zero_changes_nothing():
    cfg = MixConfig(mixup=1.0, cutmix=1.0, probability=0.0)
    image, target = mix(IMAGE, TARGET, KEY, KEYS, cfg)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(target, TARGET)


def test_erasing_fills_one_box_of_the_allowed_area():
    cfg = MixConfig(erase=1.0, erase_fill="zero", erase_area=(0.1, 0.3), erase_aspect=(0.5, 2.0))
    erased = np.asarray(erase(IMAGE + 1, KEYS, cfg))[..., 0] == 0
    for mask in erased:
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].all()
        # Sides are rounded to whole pixels: half a pixel each way.
        assert 0.06 < mask.mean() < 0.36


def test_erasing_an_image_depends_on_its_own_key_alone():
    cfg = MixConfig(erase=0.7)
    whole = erase(IMAGE, KEYS, cfg)
    np.testing.assert_array_equal(whole[2:5], erase(IMAGE[2:5], KEYS[2:5], cfg))
    changed = np.any(np.asarray(whole != IMAGE), axis=(1, 2, 3))
    assert 0 < changed.sum() < B
