"""Attention for short sequences as one TPU kernel: scores and probabilities never leave the chip.

XLA writes the scores of a ViT (196 tokens: 59 MB a layer for 64 images of ViT-B) to memory and
reads them back up to eight times a step. Here a step of the grid holds all tokens of some images
and of as many heads as fill 128 lanes, so that softmax needs one pass, and the backward pass
recomputes it from q, k and v: nothing else is stored.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

LANES = 128
# A head's scores, float32, have to fit 16 MB of scoped memory several times over.
MAX_TOKENS = 640

Tokens = Float[Array, "B T D"]


def fits(head_size: int, num_heads: int, num_tokens: int) -> bool:
    """Whether the kernel can do it: heads fill whole groups of 128 lanes, and tokens are few."""
    whole = LANES % head_size == 0 and num_heads * head_size % LANES == 0
    return whole and num_tokens <= MAX_TOKENS


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def fused_attention(
    q: Tokens, k: Tokens, v: Tokens, head_size: int, interpret: bool = False
) -> Tokens:
    """Softmax attention of each token to all tokens of its image, each head by itself.

    Args:
      q, k, v: the heads side by side in the last dimension.
      interpret: run the kernel as plain JAX, on any device.
    """
    (y,) = _call(_forward, (q, k, v), 1, head_size, interpret)
    return y


def _fwd(q, k, v, head_size, interpret):
    return fused_attention(q, k, v, head_size, interpret), (q, k, v)


def _bwd(head_size, interpret, residuals, dy):
    return _call(_backward, (*residuals, dy), 3, head_size, interpret)


fused_attention.defvjp(_fwd, _bwd)


def _call(kernel, inputs, num_outputs, head_size, interpret):
    B, T, D = inputs[0].shape
    # Several images a step, where they are small: a step has a fixed cost, and so has unrolling.
    images = next(n for n in (4, 2, 1) if B % n == 0 and (n * T <= 1024 or n == 1))
    block = pl.BlockSpec((images, T, LANES), lambda b, group: (b, 0, group))
    shape = jax.ShapeDtypeStruct((B, T, D), inputs[0].dtype)
    products = 2 if num_outputs == 1 else 5
    return pl.pallas_call(
        functools.partial(kernel, head_size=head_size),
        grid=(B // images, D // LANES),
        in_specs=[block] * len(inputs),
        out_specs=[block] * num_outputs,
        out_shape=[shape] * num_outputs,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=pl.CostEstimate(
            flops=products * 2 * B * T * T * D,
            transcendentals=B * T * T * D // head_size,
            bytes_accessed=(len(inputs) + num_outputs) * shape.size * shape.dtype.itemsize,
        ),
        interpret=interpret,
    )(*inputs)


def _dot(x, y, contract):
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)


def _heads(head_size):
    """A mask [1, lanes] for each head of a group.

    Masking the other heads' lanes costs no more than cutting out a head's own: the matrix unit is
    as wide as all of them, and nothing has to be moved between lanes.
    """
    lane = jax.lax.broadcasted_iota(jnp.int32, (1, LANES), 1)
    starts = range(0, LANES, head_size)
    return [(lane >= start) & (lane < start + head_size) for start in starts]


def _softmax(q, k, head_size):
    """Probabilities [S, T] of one head, float32: keys first, so that sums run down the sublanes."""
    scores = _dot(k, q, (1, 1)) * head_size**-0.5
    weights = jnp.exp(scores - jnp.max(scores, 0, keepdims=True))
    return weights * (1 / jnp.sum(weights, 0, keepdims=True))


def _forward(q_ref, k_ref, v_ref, y_ref, *, head_size):
    for image in range(q_ref.shape[0]):
        q, k, v = q_ref[image], k_ref[image], v_ref[image]
        transposed = v.T  # [lanes, S]
        y = jnp.zeros(q.shape, jnp.float32)
        for head in _heads(head_size):
            p = _softmax(jnp.where(head, q, jnp.zeros_like(q)), k, head_size).astype(q.dtype)
            y = jnp.where(head, _dot(transposed, p, (1, 0)).T, y)
        y_ref[image] = y.astype(q.dtype)


def _backward(q_ref, k_ref, v_ref, dy_ref, dq_ref, dk_ref, dv_ref, *, head_size):
    for image in range(q_ref.shape[0]):
        q, k, v, dy = q_ref[image], k_ref[image], v_ref[image], dy_ref[image]
        transposed = k.T
        dq, dk, dv = (jnp.zeros(q.shape, jnp.float32) for _ in range(3))
        for head in _heads(head_size):
            q_head = jnp.where(head, q, jnp.zeros_like(q))
            dy_head = jnp.where(head, dy, jnp.zeros_like(dy))
            p = _softmax(q_head, k, head_size)
            dp = _dot(v, dy_head, (1, 1))  # [S, T]
            ds = p * (dp - jnp.sum(p * dp, 0, keepdims=True)) * head_size**-0.5
            ds = ds.astype(q.dtype)
            dv += _dot(p.astype(q.dtype), dy_head, (1, 0))
            dk += _dot(ds, q_head, (1, 0))
            dq = jnp.where(head, _dot(transposed, ds, (1, 0)).T, dq)
        dq_ref[image] = dq.astype(q.dtype)
        dk_ref[image] = dk.astype(q.dtype)
        dv_ref[image] = dv.astype(q.dtype)


def largest_error(head_size: int = 64, num_tokens: int = 197, *, interpret: bool = False) -> float:
    """How far the kernel is from plain JAX on this machine, relative to the largest number.

    On random bfloat16 inputs, over output and gradients, it should be around 0.01. The kernel was
    written without a TPU: a run may look here before it trusts it.
    """
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, dy = (jax.random.normal(key, (8, num_tokens, LANES), jnp.bfloat16) for key in keys)

    def plain(q, k, v):
        q, k, v = (
            x.astype(jnp.float32).reshape(*x.shape[:2], LANES // head_size, head_size)
            for x in (q, k, v)
        )
        scores = jnp.einsum("BTNH,BSNH->BNTS", q, k) * head_size**-0.5
        return jnp.einsum("BNTS,BSNH->BTNH", jax.nn.softmax(scores), v).reshape(dy.shape)

    def run(function, dy):
        y, vjp = jax.vjp(function, q, k, v)
        return y, *vjp(dy)

    kernel = functools.partial(fused_attention, head_size=head_size, interpret=interpret)
    ours = jax.jit(lambda: run(kernel, dy))()
    exact = jax.jit(lambda: run(plain, dy.astype(jnp.float32)))()
    errors = [
        jnp.max(jnp.abs(a.astype(jnp.float32) - b)) / jnp.max(jnp.abs(b.astype(jnp.float32)))
        for a, b in zip(ours, exact, strict=True)
    ]
    return float(max(errors))
