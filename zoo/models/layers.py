"""Layers that every model shares: dense, norm, attention, MLP, and the stack of blocks.

Parameters are float32; a layer computes in the dtype of its input, except that norms' statistics
and softmax are float32. Each parameter's metadata `axes` names its dimensions for zoo.sharding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int, Key

from zoo.models.fused_attention import LANES, fits, fused_attention
from zoo.models.initializers import Initializer, ones, zeros
from zoo.models.positions import Rotation, rotate
from zoo.sharding.rules import Axis, constrain, gather, on_tpu, per_shard


def make_param(
    init: Initializer, shape: Sequence[int], axes: Sequence[Axis], *, rngs: nnx.Rngs
) -> nnx.Param:
    """A float32 parameter with the logical axis name of each dimension."""
    return nnx.Param(init(rngs.params(), tuple(shape), jnp.float32), axes=tuple(axes))


def lift(param: nnx.Param, ndim: int, dtype: Any) -> Array:
    """The parameter in this dtype, with leading axes of 1 up to `ndim` dimensions."""
    value = param[...].astype(dtype)
    return value.reshape((1,) * (ndim - value.ndim) + value.shape)


class Dense(nnx.Module):
    """x @ kernel + bias, the kernel stored [in, out]."""

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        axes: tuple[Axis, Axis],
        kernel_init: Initializer,
        bias_init: Initializer = zeros,
        rngs: nnx.Rngs,
    ):
        self.axes = axes
        self.kernel = make_param(kernel_init, (in_size, out_size), axes, rngs=rngs)
        # A bias as wide as the model is too small to be worth gathering.
        bias_axis = "norm" if axes[1] == "embed" else axes[1]
        self.bias = make_param(bias_init, (out_size,), (bias_axis,), rngs=rngs)

    def __call__(self, x: Float[Array, "*B from"]) -> Float[Array, "*B to"]:
        kernel = gather(self.kernel[...].astype(x.dtype), *self.axes)
        return x @ kernel + lift(self.bias, x.ndim, x.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last dimension, with scale and bias."""

    def __init__(self, width: int, *, epsilon: float, rngs: nnx.Rngs):
        self.scale = make_param(ones, (width,), ("norm",), rngs=rngs)
        self.bias = make_param(zeros, (width,), ("norm",), rngs=rngs)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        wide = x.astype(jnp.float32)
        mean = jnp.mean(wide, -1, keepdims=True)
        if x.dtype == jnp.float32:
            variance = jnp.mean(jnp.square(wide - mean), -1, keepdims=True)
        else:
            # Both moments in one pass. What cancels is smaller by far than what rounding x to
            # its dtype has already lost.
            square = jnp.mean(jnp.square(wide), -1, keepdims=True)
            variance = jnp.maximum(square - jnp.square(mean), 0.0)
        scale, bias = (lift(p, x.ndim, jnp.float32) for p in (self.scale, self.bias))
        y = (wide - mean) * (jax.lax.rsqrt(variance + self.epsilon) * scale) + bias
        return y.astype(x.dtype)


class Attention(nnx.Module):
    """Multi-head attention of queries to keys and values, all of the same width."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        qk_norm: bool = False,
        epsilon: float = 1e-6,
        fused: bool = False,
        kernel_init: Initializer,
        rngs: nnx.Rngs,
    ):
        """`fused`: one kernel on TPUs, where it fits, instead of XLA's operations."""
        self.num_heads = num_heads
        self.fused = fused
        head_size = width // num_heads
        heads = ("heads", head_size)  # split between heads only
        init = {"kernel_init": kernel_init, "rngs": rngs}
        # Three kernels rather than one: a joint one would be initialised for an output of 3 D,
        # which is sqrt(1/2) too small, and its output would have to be split again.
        self.q = Dense(width, width, axes=("embed", heads), **init)
        self.k = Dense(width, width, axes=("embed", heads), **init)
        self.v = Dense(width, width, axes=("embed", heads), **init)
        self.out = Dense(width, width, axes=(heads, "embed"), **init)
        self.q_norm = LayerNorm(head_size, epsilon=epsilon, rngs=rngs) if qk_norm else None
        self.k_norm = LayerNorm(head_size, epsilon=epsilon, rngs=rngs) if qk_norm else None

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Float[Array, "B S D"] | None = None,
        *,
        rotation: Rotation | None = None,
        probabilities: bool = False,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B N T S"] | None]:
        """Queries of `x` look at `context`, by default at `x` itself.

        Returns:
          The output, and the attention probabilities where they are asked for.
        """
        fused = self.fused and context is None and not probabilities
        context = x if context is None else context
        q, k, v = self._heads(self.q(x)), self._heads(self.k(context)), self._heads(self.v(context))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if fused and on_tpu() and fits(q.shape[3], self.num_heads, q.shape[1]):
            y, weights = attend_fused(q, k, v), None
        else:
            y, weights = attend(q, k, v)
        y = self.out(checkpoint_name(y.reshape(x.shape), "attended"))
        return y, weights if probabilities else None

    def _heads(self, x: Float[Array, "B T D"]) -> Float[Array, "B T N H"]:
        x = x.reshape(*x.shape[:2], self.num_heads, -1)
        return constrain(x, "batch", None, "heads", None)


def attend(
    q: Float[Array, "B T N H"], k: Float[Array, "B S N H"], v: Float[Array, "B S N H"]
) -> tuple[Float[Array, "B T N H"], Float[Array, "B N T S"]]:
    """Scaled dot-product attention: the mean of values, and the probabilities it weighs them by."""
    scores = jnp.einsum("BTNH,BSNH->BNTS", q * q.shape[-1] ** -0.5, k)
    probabilities = jax.nn.softmax(scores.astype(jnp.float32)).astype(v.dtype)
    return jnp.einsum("BNTS,BSNH->BTNH", probabilities, v), probabilities


def attend_fused(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T N H"],
    v: Float[Array, "B T N H"],
    *,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """As `attend`, by a TPU kernel on each device's own examples and heads."""
    head_size = q.shape[-1]
    flat = [x.reshape(*x.shape[:2], -1) for x in (q, k, v)]
    kernel = partial(fused_attention, head_size=head_size, interpret=interpret)
    # The kernel takes whole groups of LANES, so a device must get whole groups.
    return per_shard(kernel, flat, ("batch", None, ("heads", LANES))).reshape(q.shape)


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


def fold_in(keys: Key[Array, " B"] | None, number: int | Int[Array, ""]) -> Key[Array, " B"] | None:
    """Each example's key for the purpose `number`; None stays None."""
    if keys is None:
        return None
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def dropout(
    x: Float[Array, "B *rest"], keys: Key[Array, " B"] | None, rate: float
) -> Float[Array, "B *rest"]:
    """Zeroes a share `rate` of the numbers and scales up the rest; without keys it does nothing.

    Each example draws from its own key: the outcome does not depend on the rest of the batch.
    """
    if keys is None or rate == 0.0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def drop_path(
    x: Float[Array, "B T D"], keys: Key[Array, " B"] | None, rate: Float[Array, ""] | None
) -> Float[Array, "B T D"]:
    """Drops a residual branch for a share `rate` of the examples and scales up the rest.

    Stochastic depth (Huang 2016, arXiv 1603.09382); without keys or rate it does nothing.
    """
    if keys is None or rate is None:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate))(keys)
    return x * (keep / (1 - rate)).astype(x.dtype)[:, None, None]


def stack(make: Callable[[nnx.Rngs], nnx.Module], depth: int, *, rngs: nnx.Rngs) -> nnx.Module:
    """`depth` modules as one, each parameter with a leading axis named "layers"."""
    keys = jax.random.split(rngs.params(), depth)
    module = jax.vmap(lambda key: make(nnx.Rngs(key)))(keys)
    for _, param in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        param.set_metadata(axes=("layers", *param.get_metadata()["axes"]))
    return module


# What the backward pass finds stored, of each layer; it recomputes the rest.
_policies = jax.checkpoint_policies
_attended = _policies.save_only_these_names("attended")
_REMAT: dict[str, Callable[..., bool]] = {
    # Every matrix product: recomputing the rest is element-wise work, nearly free, and a loop
    # would otherwise store all of it.
    "none": _policies.save_from_both_policies(_policies.dots_saveable, _attended),
    # All but scores and probabilities, whose size is quadratic in the tokens.
    "attention": _policies.save_from_both_policies(
        _policies.dots_with_no_batch_dims_saveable, _attended
    ),
    # Products with a parameter.
    "dots": _policies.dots_with_no_batch_dims_saveable,
    # Only the block's input.
    "full": _policies.nothing_saveable,
}


def run_stack(
    call: Callable[[Any, Array, Any], tuple[Array, Any]],
    module: nnx.Module,
    x: Float[Array, "B T D"],
    layer_inputs: Any,
    *,
    depth: int,
    scan: bool,
    remat: str,
) -> tuple[Float[Array, "B T D"], Any]:
    """Sends `x` through every layer of a `stack`.

    Args:
      call: (one layer's module, x, its inputs) -> (x, what to collect).
      layer_inputs: a tree of arrays [L, ...].
      scan: one compiled layer in a loop, or each layer compiled by itself.
      remat: what the backward pass recomputes: none, attention, dots or full.

    Returns:
      x, and what the layers gave to collect, stacked [L, ...].
    """
    # Unrolled, the compiler sees all layers and decides better than a policy what to keep.
    if scan or remat != "none":
        call = jax.checkpoint(call, policy=_REMAT[remat], prevent_cse=not scan)
    if scan:
        body = lambda x, layer: call(layer[0], x, layer[1])
        return jax.lax.scan(body, x, (module, layer_inputs), length=depth)
    # One split of each parameter: its gradient is then one concatenation, where slices would
    # add up `depth` arrays of zeros.
    leaves, tree = jax.tree.flatten((module, layer_inputs))
    parts = [jax.lax.split(jnp.asarray(leaf), (1,) * depth) for leaf in leaves]
    collected = []
    for i in range(depth):
        layer, inputs = jax.tree.unflatten(tree, [part[i][0] for part in parts])
        x, out = call(layer, x, inputs)
        collected.append(out)
    return x, jax.tree.map(lambda *outs: jnp.stack(outs), *collected)
