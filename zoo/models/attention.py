"""Scaled dot-product attention for every family: who sees whom, and what computes it.

Plain XLA operations are the reference; `attention` takes a kernel instead where there is one for
the platform that fits, and gives the same numbers.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from zoo.models.fused_attention import LANES, fits, fused_attention
from zoo.sharding.rules import on_tpu, per_shard

# Added to no score but put in its place: finite, so that a query that sees nothing gives no NaN.
_UNSEEN = -1e30


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
    plain = mask is None and bias is None and scale is None and not dropped and not probabilities
    fitting = q.shape == k.shape and fits(q.shape[3], q.shape[2], q.shape[1])
    if kernel == "auto" and plain and fitting and on_tpu():
        return attend_fused(q, k, v), None
    y, weights = attend(q, k, v, mask=mask, bias=bias, scale=scale, keys=keys, rate=rate)
    return y, weights if probabilities else None


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
        scores = jnp.where(seen, scores, _UNSEEN)
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
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """As `attend`, by a TPU kernel on each device's own examples and heads."""
    head_size = q.shape[-1]
    flat = [x.reshape(*x.shape[:2], -1) for x in (q, k, v)]
    kernel = functools.partial(fused_attention, head_size=head_size, interpret=interpret)
    # The kernel takes whole groups of LANES, so a device must get whole groups.
    return per_shard(kernel, flat, ("batch", None, ("heads", LANES))).reshape(q.shape)
