"""Layers that every model shares: dense, norm, attention, MLP, and the stack of blocks.

Parameters are float32; a layer computes in the dtype of its input, except that norms' statistics
and softmax are float32. Each parameter's metadata `axes` names its dimensions for zoo.sharding.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from zoo.sharding.rules import constrain

Initializer = Callable[..., Array]
zeros = nnx.initializers.zeros_init()
ones = nnx.initializers.ones_init()


def make_param(
    init: Initializer, shape: Sequence[int], axes: Sequence[str | None], *, rngs: nnx.Rngs
) -> nnx.Param:
    """A float32 parameter with the logical axis name of each dimension."""
    return nnx.Param(init(rngs.params(), tuple(shape), jnp.float32), axes=tuple(axes))


class Dense(nnx.Module):
    """x @ kernel + bias, the kernel stored [in, out]."""

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        axes: tuple[str, str],
        kernel_init: Initializer,
        bias_init: Initializer = zeros,
        rngs: nnx.Rngs,
    ):
        self.kernel = make_param(kernel_init, (in_size, out_size), axes, rngs=rngs)
        # A bias is too small to gather: only tensor parallelism splits it.
        bias_axis = "norm" if axes[1] == "embed" else axes[1]
        self.bias = make_param(bias_init, (out_size,), (bias_axis,), rngs=rngs)

    def __call__(self, x: Float[Array, "*B from"]) -> Float[Array, "*B to"]:
        y = x @ self.kernel[...].astype(x.dtype)
        return y + jnp.expand_dims(self.bias[...].astype(x.dtype), range(x.ndim - 1))


class LayerNorm(nnx.Module):
    """Layer normalisation over the last dimension, with scale and bias."""

    def __init__(self, width: int, *, epsilon: float, rngs: nnx.Rngs):
        self.scale = make_param(ones, (width,), ("norm",), rngs=rngs)
        self.bias = make_param(zeros, (width,), ("norm",), rngs=rngs)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        wide = x.astype(jnp.float32)
        mean = jnp.mean(wide, -1, keepdims=True)
        variance = jnp.mean(jnp.square(wide - mean), -1, keepdims=True)
        y = (wide - mean) * jax.lax.rsqrt(variance + self.epsilon)
        lift = lambda p: jnp.expand_dims(p[...], range(x.ndim - 1))
        return (y * lift(self.scale) + lift(self.bias)).astype(x.dtype)


class Attention(nnx.Module):
    """Multi-head attention of queries to keys and values, all of the same width."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        qk_norm: bool = False,
        epsilon: float,
        kernel_init: Initializer,
        rngs: nnx.Rngs,
    ):
        self.num_heads = num_heads
        # Three kernels rather than one: a joint one would be initialised for an output of 3 D,
        # which is sqrt(1/2) too small, and its output would have to be split again.
        dense = lambda axes: Dense(width, width, axes=axes, kernel_init=kernel_init, rngs=rngs)
        self.q = dense(("embed", "heads"))
        self.k = dense(("embed", "heads"))
        self.v = dense(("embed", "heads"))
        self.out = dense(("heads", "embed"))
        head_size = width // num_heads
        norm = lambda: LayerNorm(head_size, epsilon=epsilon, rngs=rngs) if qk_norm else None
        self.q_norm, self.k_norm = norm(), norm()

    def __call__(
        self, x: Float[Array, "B T D"], context: Float[Array, "B S D"] | None = None
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B N T S"]]:
        """Returns the output and the attention probabilities."""
        context = x if context is None else context

        def heads(dense: Dense, x: Array, norm: LayerNorm | None = None) -> Array:
            y = dense(x).reshape(*x.shape[:2], self.num_heads, -1)
            y = constrain(y, "batch", None, "heads", None)
            return norm(y) if norm is not None else y

        q, k = heads(self.q, x, self.q_norm), heads(self.k, context, self.k_norm)
        v = heads(self.v, context)
        y, probabilities = attend(q, k, v)
        return self.out(y.reshape(x.shape)), probabilities


def attend(
    q: Float[Array, "B T N H"], k: Float[Array, "B S N H"], v: Float[Array, "B S N H"]
) -> tuple[Float[Array, "B T N H"], Float[Array, "B N T S"]]:
    """Scaled dot-product attention: the mean of values, and the probabilities it weighs them by."""
    scores = jnp.einsum("BTNH,BSNH->BNTS", q * q.shape[-1] ** -0.5, k)
    probabilities = jax.nn.softmax(scores.astype(jnp.float32)).astype(v.dtype)
    return jnp.einsum("BNTS,BSNH->BTNH", probabilities, v), probabilities


class Mlp(nnx.Module):
    """Dense, GELU, Dense."""

    def __init__(
        self,
        width: int,
        mlp_dim: int,
        *,
        gelu: str,
        kernel_init: Initializer,
        bias_init: Initializer = zeros,
        rngs: nnx.Rngs,
    ):
        init = {"kernel_init": kernel_init, "bias_init": bias_init, "rngs": rngs}
        self.up = Dense(width, mlp_dim, axes=("embed", "mlp"), **init)
        self.down = Dense(mlp_dim, width, axes=("mlp", "embed"), **init)
        self.gelu = gelu

    def __call__(
        self, x: Float[Array, "B T D"], *, keys: Key[Array, " B"] | None = None, rate: float = 0.0
    ) -> Float[Array, "B T D"]:
        """`keys` and `rate`: dropout of the hidden units."""
        hidden = constrain(self.up(x), "batch", None, "mlp")
        hidden = jax.nn.gelu(hidden, approximate=self.gelu == "tanh")
        return self.down(dropout(hidden, keys, rate))


def dropout(
    x: Float[Array, "B ..."], keys: Key[Array, " B"] | None, rate: float
) -> Float[Array, "B ..."]:
    """Zeroes a share `rate` of the numbers, scales up the rest; off without keys.

    Each example draws from its own key: the outcome does not depend on the rest of the batch.
    """
    if keys is None or rate == 0.0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def drop_path(
    x: Float[Array, "B T D"], keys: Key[Array, " B"] | None, rate: Float[Array, ""] | None
) -> Float[Array, "B T D"]:
    """Drops a residual branch for a share `rate` of the examples, scales up the rest (Huang 2016)."""
    if keys is None or rate is None:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate))(keys)
    scale = (keep / (1 - rate)).astype(x.dtype)
    return x * scale[:, None, None]


def fold_in(keys: Key[Array, " B"] | None, number: int | Array) -> Key[Array, " B"] | None:
    """Each example's key for purpose `number`; None stays None."""
    if keys is None:
        return None
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def stack(make: Callable[[nnx.Rngs], nnx.Module], depth: int, *, rngs: nnx.Rngs) -> nnx.Module:
    """`depth` modules as one, each parameter with a leading axis named "layers"."""
    module = jax.vmap(lambda key: make(nnx.Rngs(key)))(jax.random.split(rngs.params(), depth))
    for _, param in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        param.set_metadata(axes=("layers", *param.get_metadata()["axes"]))
    return module


def unstack(module: nnx.Module, depth: int) -> list[nnx.Module]:
    """The modules of a `stack`. Splits each parameter once, so that its gradient is one concatenate."""
    leaves, tree = jax.tree.flatten(module)
    parts = [jax.lax.split(leaf, (1,) * depth, 0) for leaf in leaves]
    return [jax.tree.unflatten(tree, [part[i][0] for part in parts]) for i in range(depth)]


REMAT: dict[str, Callable[..., bool] | None] = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}
