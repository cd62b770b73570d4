"""Scaled dot-product attention for every family: who sees whom, and what computes it.

`attend` is the reference, in plain operations; `attention` takes a kernel instead where the
platform has one that fits the call (`choose_kernel`), and gives the same numbers. Only of a query
that sees no key at all does each say something else, though always something finite.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int, Key

from zoo.models import fused_attention as fused
from zoo.models import splash
from zoo.sharding.rules import num_shards, on_gpu, on_tpu, per_shard

# What `jax.checkpoint` knows the output by. Splash names it before it leaves the kernel, for the
# kernel's backward pass wants it in that form: else it would be stored twice, or computed twice.
ATTENDED = "attended"


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("window", "q_segment", "kv_segment", "q_index"),
    meta_fields=("causal",),
)
@dataclass(frozen=True)
class Mask:
    """Which keys a query sees; all conditions hold at once.

    Attributes:
      causal: those at its own index and before.
      window: of these the last so many, itself included; may differ from layer to layer.
      q_segment, kv_segment: those of its own segment: a document of a packed row, or the real
        tokens apart from padding.
      q_index: where the queries stand among the keys, from a cache say; default: at their place.
    """

    causal: bool = False
    window: Any = None  # int, or an int32 scalar
    q_segment: Int[Array, "B T"] | None = None
    kv_segment: Int[Array, "B S"] | None = None
    q_index: Int[Array, "B T"] | None = None

    def dense(self, num_queries: int, num_keys: int) -> Bool[Array, "B 1 T S"] | None:
        """True where a query sees a key; B is 1 where examples do not differ. None: everywhere."""
        seen = None
        if self.causal or self.window is not None:
            q = jnp.arange(num_queries)[None] if self.q_index is None else self.q_index
            back = q[:, :, None] - jnp.arange(num_keys)[None, None]
            seen = back >= 0
            if self.window is not None:
                seen &= back < self.window
        if self.q_segment is not None and self.kv_segment is not None:
            same = self.q_segment[:, :, None] == self.kv_segment[:, None]
            seen = same if seen is None else seen & same
        return None if seen is None else seen[:, None]


def attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    *,
    mask: Mask | None = None,
    bias: Float[Array, "_ N T S"] | None = None,
    scale: float | None = None,
    keys: Key[Array, " B"] | None = None,
    rate: float = 0.0,
    kernel: str = "auto",
    probabilities: bool = False,
) -> tuple[Float[Array, "B T N H"], Float[Array, "B N T S"] | None]:
    """Attends, by a kernel where one fits.

    Args:
      k, v: of fewer heads than queries have (grouped queries, Ainslie 2023, arXiv 2305.13245),
        or of as many.
      mask: None: every query sees every key.
      bias: added to the scores.
      scale: of the scores; default H^-0.5.
      keys, rate: dropout of the probabilities.
      kernel: "auto" or "xla".
      probabilities: return them too; no kernel does.
    """
    dropped = keys is not None and rate > 0
    chosen = "xla"
    if kernel == "auto" and bias is None and not dropped and not probabilities:
        chosen = choose_kernel(q, k, mask, scale)
    if chosen == "splash":
        return attend_splash(q, k, v, mask=mask, scale=scale), None
    weights = None
    if chosen == "fused":
        y = attend_fused(q, k, v, mask=mask)
    elif chosen == "cudnn":
        y = attend_cudnn(q, k, v, mask=mask, scale=scale)
    else:
        y, weights = attend(q, k, v, mask=mask, bias=bias, scale=scale, keys=keys, rate=rate)
    # Named as the output's projection reads it, heads side by side.
    y = checkpoint_name(y.reshape(*y.shape[:2], -1), ATTENDED).reshape(y.shape)
    return y, weights if probabilities else None


def choose_kernel(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    mask: Mask | None = None,
    scale: float | None = None,
) -> str:
    """What computes a call without bias and dropout: fused, splash, cudnn, or xla for no kernel.

    Where devices share the queries of an example, splash alone knows which ones it has.
    """
    (T, N, H), S = q.shape[1:], k.shape[1]
    mask = mask or Mask()
    if mask.q_index is not None:
        return "xla"  # rows of a cache stand at different places, which no kernel is told
    shards = num_shards("tokens", T)
    if on_tpu():
        if not isinstance(mask.window, int | None):
            return "xla"
        if splash.fits(H, T, S, shards):
            return "splash"
        if shards == 1 and scale is None and q.shape == k.shape and fused.fits(H, N, T):
            return "fused"
    elif on_gpu() and shards == 1 and _fits_cudnn(q, k, mask):
        return "cudnn"
    return "xla"


def _fits_cudnn(q: Float[Array, "B T N H"], k: Float[Array, "B S K H"], mask: Mask) -> bool:
    T, S, H = q.shape[1], k.shape[1], q.shape[3]
    if q.dtype not in (jnp.bfloat16, jnp.float16) or H > 128 or H % 8:
        return False
    # An array is added to the scores, and the gradient of that wants even lengths.
    return T % 2 == S % 2 == 0 or not _needs_array(mask)


def _needs_array(mask: Mask) -> bool:
    """Whether cuDNN gets who sees whom as an array: it knows diagonals, but no segments."""
    return mask.q_segment is not None or not isinstance(mask.window, int | None)


def attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    *,
    mask: Mask | None = None,
    bias: Float[Array, "_ N T S"] | None = None,
    scale: float | None = None,
    keys: Key[Array, " B"] | None = None,
    rate: float = 0.0,
) -> tuple[Float[Array, "B T N H"], Float[Array, "B N T S"]]:
    """The mean of values, and the probabilities it weighs them by; softmax is float32."""
    B, T, N, H = q.shape
    S, K = k.shape[1:3]
    q = q * (H**-0.5 if scale is None else scale)
    if K == N:
        scores = jnp.einsum("BTNH,BSNH->BNTS", q, k)
    else:
        grouped = q.reshape(B, T, K, N // K, H)
        scores = jnp.einsum("BTKGH,BSKH->BKGTS", grouped, k).reshape(B, N, T, S)
    scores = scores.astype(jnp.float32)
    if bias is not None:
        scores = scores + bias
    seen = None if mask is None else mask.dense(T, S)
    if seen is not None:
        scores = jnp.where(seen, scores, fused.UNSEEN)
    probabilities = jax.nn.softmax(scores).astype(v.dtype)
    weights = probabilities
    if keys is not None and rate > 0:
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, (N, T, S)))(keys)
        weights = jnp.where(keep, weights / (1 - rate), jnp.zeros_like(weights))
    if K == N:
        return jnp.einsum("BNTS,BSNH->BTNH", weights, v), probabilities
    weights = weights.reshape(B, K, N // K, T, S)
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights, v).reshape(B, T, N, H), probabilities


def attend_fused(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T N H"],
    v: Float[Array, "B T N H"],
    *,
    mask: Mask | None = None,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """As `attend`, by the kernel for few tokens on a TPU; the mask's window is an int."""
    mask = mask or Mask()
    options = fused.Options(q.shape[-1], mask.causal, mask.window, interpret)

    def kernel(q, k, v, *segments) -> Any:
        return fused.fused_attention(q, k, v, segments, options)

    flat = [x.reshape(*x.shape[:2], -1) for x in (q, k, v)]
    segments = [x for x in (mask.q_segment, mask.kv_segment) if x is not None]
    # The kernel takes whole groups of LANES, so a device must get whole groups.
    axes = ("batch", None, ("heads", fused.LANES))
    specs = [axes] * 3 + [("batch", None)] * len(segments)
    return per_shard(kernel, [*flat, *segments], specs).reshape(q.shape)


def attend_splash(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    *,
    mask: Mask | None = None,
    scale: float | None = None,
    block: int = splash.BLOCK,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """As `attend`, by the kernel for many tokens on a TPU; the mask's window is an int."""
    mask = mask or Mask()
    kernel = functools.partial(
        splash.splash_attention,
        causal=mask.causal,
        window=mask.window,
        block=block,
        name=ATTENDED,
        interpret=interpret,
    )
    q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    part = jnp.arange(num_shards("tokens", q.shape[1]), dtype=jnp.int32)
    rest = [(part, ("tokens",)), (mask.q_segment, ("batch", "tokens"))]
    rest += [(mask.kv_segment, ("batch", None))]
    rest = [(x, axes) for x, axes in rest if x is not None]
    return _per_shard(kernel, q, k, v, *rest, tokens="tokens")


def attend_cudnn(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    *,
    mask: Mask | None = None,
    scale: float | None = None,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "B T N H"]:
    """As `attend`, by cuDNN's kernel on a GPU."""
    mask = mask or Mask()
    rest, window = [], None
    if _needs_array(mask):
        rest = [(mask.dense(q.shape[1], k.shape[1]), ("batch", None, None, None))]
    elif mask.window is not None:
        window = (mask.window - 1, 0)  # how many before and after the query's own

    def kernel(q, k, v, dense=None):
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            mask=dense,
            scale=scale,
            # cuDNN then leaves out what lies above the diagonal, of a dense mask too.
            is_causal=mask.causal or mask.window is not None,
            local_window_size=window,
            implementation=implementation,
        )

    return _per_shard(kernel, q, k, v, *rest)


def _per_shard(kernel, q, k, v, *rest, tokens=None):
    """Calls a kernel on each device's own examples and heads.

    Queries are split between whole groups, along with the head of keys and values that they share.
    Where the mesh does not divide those, a device does all heads.

    Args:
      rest: more arrays, each with its logical axes.
      tokens: the queries' axis, for a kernel that knows what to do with some of them.
    """
    heads = ("batch", None, "heads", None)
    groups = ("batch", tokens, ("heads", q.shape[2] // k.shape[2]), None)
    arrays, axes = zip((q, groups), (k, heads), (v, heads), *rest, strict=True)
    return per_shard(kernel, arrays, axes)
