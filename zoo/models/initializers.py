"""How the parameters of a ViT start."""

from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array

from zoo.config.vit import ViTConfig

Initializer = Callable[..., Array]
zeros = nnx.initializers.zeros_init()
ones = nnx.initializers.ones_init()


def initializers(cfg: ViTConfig) -> dict[str, Initializer]:
    """How each kind of parameter starts.

    `xavier` is big_vision's: the blocks' kernels by Xavier, each by its own shape, patch embedding
    and representation by LeCun (Flax's, whose standard deviation is right in spite of its
    truncation), positions N(0, 1/D), MLP biases N(0, 1e-12).

    `trunc_normal` is DeiT's: N(0, 0.02^2), which PyTorch's `trunc_normal_` truncates at +-2, a
    hundred standard deviations away, so not at all; patch embedding as PyTorch's Conv2d, uniform
    within 1/sqrt(fan_in).
    """
    normal = nnx.initializers.normal
    head = zeros if cfg.head_init == "zeros" else normal(0.02)
    if cfg.init == "xavier":
        return {
            "patch": nnx.initializers.lecun_normal(),
            "patch_bias": zeros,
            "kernel": nnx.initializers.xavier_uniform(),
            "representation": nnx.initializers.lecun_normal(),
            "mlp_bias": normal(1e-6),
            "token": zeros,
            "position": normal(cfg.width**-0.5),
            "probe": nnx.initializers.xavier_uniform(),
            "head": head,
        }
    bound = (cfg.patch_size**2 * (cfg.channels or 1)) ** -0.5

    def uniform(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    names = ("kernel", "representation", "token", "position", "probe")
    return {
        "patch": uniform,
        "patch_bias": uniform,
        "mlp_bias": zeros,
        "head": head,
        **dict.fromkeys(names, normal(0.02)),
    }
