"""Attention for short sequences as one TPU kernel: scores and probabilities never leave the chip.

XLA writes the scores of a ViT (196 tokens: 59 MB a layer for 64 images of ViT-B) to memory and
reads them back up to eight times a step. Here a step of the grid holds all tokens of some images
and of as many heads as fill 128 lanes, so that softmax needs one pass, and the backward pass
recomputes it from q, k and v: nothing else is stored.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

LANES = 128
# A head's scores, float32, have to fit 16 MB of scoped memory several times over.
MAX_TOKENS = 640

# Added to no score but put in its place: finite, so that a query that sees nothing gives no NaN.
UNSEEN = -1e30

Tokens = Float[Array, "B T D"]
Segments = Int[Array, "B T"]


def fits(head_size: int, num_heads: int, num_tokens: int) -> bool:
    """Whether the kernel can do it: heads fill whole groups of 128 lanes, and tokens are few."""
    whole = LANES % head_size == 0 and num_heads * head_size % LANES == 0
    return whole and num_tokens <= MAX_TOKENS


class Options(NamedTuple):
    """What is known when the kernel is compiled."""

    head_size: int
    causal: bool = False
    window: int | None = None  # keys that a query sees back, its own included
    interpret: bool = False  # run the kernel as plain JAX, on any device


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def fused_attention(
    q: Tokens, k: Tokens, v: Tokens, segments: tuple[Segments, ...], options: Options
) -> Tokens:
    """Softmax attention of the tokens of an image or a text, each head by itself.

    Args:
      q, k, v: the heads side by side in the last dimension.
      segments: of the queries and of the keys, which see each other where they are equal; or ().
    """
    (y,) = _call(_forward, (q, k, v), segments, 1, options)
    return y


def _fwd(q, k, v, segments, options):
    return fused_attention(q, k, v, segments, options), (q, k, v, segments)


def _bwd(options, residuals, dy):
    *inputs, segments = residuals
    return *_call(_backward, (*inputs, dy), segments, 3, options), (None,) * len(segments)


fused_attention.defvjp(_fwd, _bwd)


def _call(kernel, inputs, segments, num_outputs, options):
    B, T, D = inputs[0].shape
    # Several images a step, where they are small: a step has a fixed cost, and so has unrolling.
    images = next(n for n in (4, 2, 1) if B % n == 0 and (n * T <= 1024 or n == 1))
    block = pl.BlockSpec((images, T, LANES), lambda b, group: (b, 0, group))
    # Scores have keys in rows and queries in columns, and so have their segments.
    columns = [segments[0][:, None], segments[1][..., None]] if segments else []
    sides = [pl.BlockSpec((images, *x.shape[1:]), lambda b, group: (b, 0, 0)) for x in columns]
    shape = jax.ShapeDtypeStruct((B, T, D), inputs[0].dtype)
    products = 2 if num_outputs == 1 else 5
    moved = (len(inputs) + num_outputs) * shape.size * shape.dtype.itemsize
    return pl.pallas_call(
        functools.partial(kernel, options=options),
        grid=(B // images, D // LANES),
        in_specs=[block] * len(inputs) + sides,
        out_specs=[block] * num_outputs,
        out_shape=[shape] * num_outputs,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=pl.CostEstimate(
            flops=products * 2 * B * T * T * D,
            transcendentals=B * T * T * D // options.head_size,
            bytes_accessed=moved + sum(x.size * x.dtype.itemsize for x in segments),
        ),
        interpret=options.interpret,
    )(*inputs, *columns)


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


def _seen(segments, image, T, options):
    """True where a key is seen [S, T]; None: everywhere."""
    seen = None
    if options.causal or options.window is not None:
        key, query = (jax.lax.broadcasted_iota(jnp.int32, (T, T), axis) for axis in (0, 1))
        seen = key <= query
        if options.window is not None:
            seen &= query - key < options.window
    if segments:
        of_query, of_key = (ref[image] for ref in segments)
        same = of_key == of_query
        seen = same if seen is None else seen & same
    return seen


def _softmax(q, k, seen, head_size):
    """Probabilities [S, T] of one head, float32: keys first, so that sums run down the sublanes."""
    scores = _dot(k, q, (1, 1)) * head_size**-0.5
    if seen is not None:
        scores = jnp.where(seen, scores, UNSEEN)
    weights = jnp.exp(scores - jnp.max(scores, 0, keepdims=True))
    return weights * (1 / jnp.sum(weights, 0, keepdims=True))


def _forward(q_ref, k_ref, v_ref, *refs, options):
    *segments, y_ref = refs
    for image in range(q_ref.shape[0]):
        q, k, v = q_ref[image], k_ref[image], v_ref[image]
        seen = _seen(segments, image, q.shape[0], options)
        transposed = v.T  # [lanes, S]
        y = jnp.zeros(q.shape, jnp.float32)
        for head in _heads(options.head_size):
            q_head = jnp.where(head, q, jnp.zeros_like(q))
            p = _softmax(q_head, k, seen, options.head_size).astype(q.dtype)
            y = jnp.where(head, _dot(transposed, p, (1, 0)).T, y)
        y_ref[image] = y.astype(q.dtype)


def _backward(q_ref, k_ref, v_ref, dy_ref, *refs, options):
    *segments, dq_ref, dk_ref, dv_ref = refs
    for image in range(q_ref.shape[0]):
        q, k, v, dy = q_ref[image], k_ref[image], v_ref[image], dy_ref[image]
        seen = _seen(segments, image, q.shape[0], options)
        transposed = k.T
        dq, dk, dv = (jnp.zeros(q.shape, jnp.float32) for _ in range(3))
        for head in _heads(options.head_size):
            q_head = jnp.where(head, q, jnp.zeros_like(q))
            dy_head = jnp.where(head, dy, jnp.zeros_like(dy))
            p = _softmax(q_head, k, seen, options.head_size)
            dp = _dot(v, dy_head, (1, 1))  # [S, T]
            ds = p * (dp - jnp.sum(p * dp, 0, keepdims=True)) * options.head_size**-0.5
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

    options = Options(head_size, interpret=interpret)
    kernel = lambda q, k, v: fused_attention(q, k, v, (), options)
    ours = jax.jit(lambda: run(kernel, dy))()
    exact = jax.jit(lambda: run(plain, dy.astype(jnp.float32)))()
    errors = [
        jnp.max(jnp.abs(a.astype(jnp.float32) - b)) / jnp.max(jnp.abs(b.astype(jnp.float32)))
        for a, b in zip(ours, exact, strict=True)
    ]
    return float(max(errors))
