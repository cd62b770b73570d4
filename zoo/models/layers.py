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
from jaxtyping import Array, Float, Int, Key

from zoo.models.attention import ATTENDED, Mask, attention
from zoo.models.initializers import Initializer, ones, zeros
from zoo.models.positions import Rotation, rotate
from zoo.sharding.rules import Axis, constrain, gather

KeysValues = tuple[Float[Array, "B S K H"], Float[Array, "B S K H"]]


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
    """x @ kernel + bias, the kernel stored [in, out]; the bias may be left out."""

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        axes: tuple[Axis, Axis],
        kernel_init: Initializer,
        bias_init: Initializer = zeros,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        self.axes = axes
        self.kernel = make_param(kernel_init, (in_size, out_size), axes, rngs=rngs)
        # A bias as wide as the model is too small to be worth gathering.
        bias_axis = "norm" if axes[1] == "embed" else axes[1]
        self.bias = (
            make_param(bias_init, (out_size,), (bias_axis,), rngs=rngs) if use_bias else None
        )

    def __call__(self, x: Float[Array, "*B from"]) -> Float[Array, "*B to"]:
        y = x @ gather(self.kernel[...].astype(x.dtype), *self.axes)
        return y if self.bias is None else y + lift(self.bias, x.ndim, x.dtype)


class Embedding(nnx.Module):
    """A table of vectors [V, D], and the same table as an output layer."""

    axes = ("vocab", "embed")

    def __init__(self, num: int, width: int, *, init: Initializer, rngs: nnx.Rngs):
        self.table = make_param(init, (num, width), self.axes, rngs=rngs)

    def __call__(self, index: Int[Array, "*B"], dtype: Any) -> Float[Array, "*B D"]:
        """The vectors of some indices."""
        table = gather(self.table[...].astype(dtype), *self.axes)
        return jnp.take(table, index, axis=0)

    def attend(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        """Scores of every row of the table: tied logits."""
        table = gather(self.table[...].astype(x.dtype), *self.axes)
        return jnp.einsum("...D,VD->...V", x, table)


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


class RMSNorm(nnx.Module):
    """x / rms(x) * scale (Zhang 2019, arXiv 1910.07467), no bias."""

    def __init__(self, width: int, *, epsilon: float, offset: float = 0.0, rngs: nnx.Rngs):
        """`offset`: what is added to the stored scale; Gemma stores it from 0 on, with 1 added."""
        init = nnx.initializers.constant(1.0 - offset)
        self.scale = make_param(init, (width,), ("norm",), rngs=rngs)
        self.epsilon, self.offset = epsilon, offset

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        wide = x.astype(jnp.float32)
        square = jnp.mean(jnp.square(wide), -1, keepdims=True)
        scale = lift(self.scale, x.ndim, jnp.float32) + self.offset
        return (wide * jax.lax.rsqrt(square + self.epsilon) * scale).astype(x.dtype)


class Attention(nnx.Module):
    """Multi-head attention, with grouped key-value heads where there are fewer of them."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_size: int | None = None,
        use_bias: bool = True,
        make_norm: Callable[[int], nnx.Module] | None = None,
        scale: float | None = None,
        kernel: str = "xla",
        kernel_init: Initializer,
        q_init: Initializer | None = None,
        out_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ):
        """Builds the layer.

        Args:
          num_kv_heads: heads of keys and values; default num_heads.
          head_size: default width / num_heads.
          use_bias: in all four projections.
          make_norm: head size -> a norm of each query and key (QK-norm); None: without.
          scale: of the scores; default head_size^-0.5.
          kernel: "auto" or "xla", as in `attention`.
          q_init, out_init: of the queries' and the output projection; default kernel_init.
        """
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads or num_heads
        self.kernel, self.scale = kernel, scale
        head_size = head_size or width // num_heads
        heads = ("heads", head_size)  # split between heads only
        init = {"kernel_init": kernel_init, "use_bias": use_bias, "rngs": rngs}
        q_width, kv_width = self.num_heads * head_size, self.num_kv_heads * head_size
        # Three kernels rather than one: a joint one would be initialised for an output of 3 D,
        # which is sqrt(1/2) too small, and its output would have to be split again.
        q_init = q_init or kernel_init
        self.q = Dense(width, q_width, axes=("embed", heads), **{**init, "kernel_init": q_init})
        self.k = Dense(width, kv_width, axes=("embed", heads), **init)
        self.v = Dense(width, kv_width, axes=("embed", heads), **init)
        init["kernel_init"] = out_init or kernel_init
        self.out = Dense(q_width, width, axes=(heads, "embed"), **init)
        self.q_norm = make_norm(head_size) if make_norm else None
        self.k_norm = make_norm(head_size) if make_norm else None

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Float[Array, "B S D"] | None = None,
        *,
        kv: KeysValues | None = None,
        mask: Mask | None = None,
        bias: Float[Array, "_ N T S"] | None = None,
        rotation: Rotation | None = None,
        keys: Key[Array, " B"] | None = None,
        rate: float = 0.0,
        probabilities: bool = False,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B N T S"] | None]:
        """Queries of `x` look at `context`, by default at `x` itself.

        Args:
          kv: keys and values from `keys_values`, of a cache say, in place of a context.
          rotation: of queries, and of the keys of a context.
          keys, rate: dropout of the probabilities.

        Returns:
          The output, and the attention probabilities where they are asked for.
        """
        q = self._heads(self.q(x), self.num_heads)
        q = q if self.q_norm is None else self.q_norm(q)
        q = q if rotation is None else rotate(q, rotation)
        k, v = self.keys_values(x if context is None else context, rotation) if kv is None else kv
        y, weights = attention(
            q,
            k,
            v,
            mask=mask,
            bias=bias,
            scale=self.scale,
            keys=keys,
            rate=rate,
            kernel=self.kernel,
            probabilities=probabilities,
        )
        return self.out(y.reshape(*x.shape[:2], -1)), weights

    def keys_values(
        self, context: Float[Array, "B S D"], rotation: Rotation | None = None
    ) -> KeysValues:
        """Keys and values [B, S, K, H] of a context, of all its tokens on every device.

        Queries stay split by tokens. To gather keys and values once is less traffic than to pass
        them around in a ring wherever there are fewer heads of them, and XLA can overlap it.
        """
        k = self._heads(self.k(context), self.num_kv_heads)
        k = k if self.k_norm is None else self.k_norm(k)
        k = k if rotation is None else rotate(k, rotation)
        v = self._heads(self.v(context), self.num_kv_heads)
        whole = lambda x: constrain(x, "batch", None, "heads", None)
        return whole(k), whole(v)

    def _heads(self, x: Float[Array, "B T _"], num_heads: int) -> Float[Array, "B T _ H"]:
        x = x.reshape(*x.shape[:2], num_heads, -1)
        return constrain(x, "batch", "tokens", "heads", None)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "gelu_erf": partial(jax.nn.gelu, approximate=False),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


class Mlp(nnx.Module):
    """Dense, activation, Dense; or gated (Shazeer 2020, arXiv 2002.05202), with two Dense in."""

    def __init__(
        self,
        width: int,
        mlp_dim: int,
        *,
        activation: str,
        gated: bool = False,
        use_bias: bool = True,
        kernel_init: Initializer,
        out_init: Initializer | None = None,
        bias_init: Initializer = zeros,
        rngs: nnx.Rngs,
    ):
        """`activation`: a name of ACTIVATIONS; gated, it goes over `gate`, which weighs `up`."""
        init = {
            "kernel_init": kernel_init, "bias_init": bias_init, "use_bias": use_bias, "rngs": rngs,
        }  # fmt: skip
        self.gate = Dense(width, mlp_dim, axes=("embed", "mlp"), **init) if gated else None
        self.up = Dense(width, mlp_dim, axes=("embed", "mlp"), **init)
        init["kernel_init"] = out_init or kernel_init
        self.down = Dense(mlp_dim, width, axes=("mlp", "embed"), **init)
        self.activation = activation

    def __call__(
        self, x: Float[Array, "B T D"], *, keys: Key[Array, " B"] | None = None, rate: float = 0.0
    ) -> Float[Array, "B T D"]:
        """`keys` and `rate`: dropout of the hidden units."""
        activate = ACTIVATIONS[self.activation]
        hidden = constrain(self.up(x), "batch", "tokens", "mlp")
        if self.gate is None:
            hidden = activate(hidden)
        else:
            hidden = activate(constrain(self.gate(x), "batch", "tokens", "mlp")) * hidden
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
_attended = _policies.save_only_these_names(ATTENDED)
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
    call: Callable[[Any, Any, Any], tuple[Any, Any]],
    module: nnx.Module,
    x: Any,
    layer_inputs: Any,
    *,
    depth: int,
    scan: bool,
    remat: str,
) -> tuple[Any, Any]:
    """Sends `x`, an array [B, T, D] or a tree with more, through every layer of a `stack`.

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
