"""Attention for long sequences on TPUs: the splash kernel that ships with JAX.

It walks over blocks of keys (Dao 2022, arXiv 2205.14135), so that scores are never written to
memory, and leaves out the blocks that a causal mask or a window hides.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array, Float, Int

BLOCK = 512
# Below it XLA's operations keep the scores on the chip by themselves.
MIN_TOKENS = 1024
_LANES = 128  # what a block of keys comes in whole multiples of


def fits(head_size: int, num_queries: int, num_keys: int, shards: int = 1) -> bool:
    """Whether the kernel can do it, and is worth it; `shards`: devices that share the queries."""
    whole = num_queries == num_keys and num_queries % (_LANES * shards) == 0
    return whole and num_queries >= MIN_TOKENS and head_size in (64, 128, 256)


def splash_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    part: Int[Array, " 1"],
    q_segment: Int[Array, "B T"] | None = None,
    kv_segment: Int[Array, "B S"] | None = None,
    *,
    causal: bool,
    window: int | None,
    block: int = BLOCK,
    name: str | None = None,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """Attention with scores q k, as they are: the caller scales the queries.

    Args:
      part: which of S / T equal parts of all queries these are.
      q_segment, kv_segment: a query sees the keys of its own segment.
      causal, window: as in `Mask`.
      block: tokens of a block; less where it does not divide them.
      name: what a policy of `jax.checkpoint` knows the output by, and the logarithms of the sums
        that the backward pass needs besides.
      interpret: run the kernel as plain JAX, on any device.
    """
    (T, N), S = q.shape[1:3], k.shape[1]
    block = next(size for size in (block, 256, _LANES) if T % size == 0)
    parts = S // T if causal or window is not None else 1
    # Where every query sees every key, it matters to none which queries these are.
    seen: splash.Mask = splash.FullMask((T, S))
    if window is not None:
        seen = splash.LocalMask((S, S), (window - 1, 0), 0)
    elif causal:
        seen = splash.CausalMask((S, S))
    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([seen] * N),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=parts,
        residual_checkpoint_name=name,
        interpret=interpret,
    )
    if parts > 1:
        kernel = _of_part(kernel, part[0], parts)
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    segments = None
    if q_segment is not None and kv_segment is not None:
        segments = splash.SegmentIds(q_segment.astype(jnp.int32), kv_segment.astype(jnp.int32))
    y: Any = jax.vmap(kernel)(q, k, v, segments)
    return jnp.swapaxes(y, 1, 2)


def _of_part(kernel: Any, part: Int[Array, ""], parts: int) -> Any:
    """The kernel for some of the queries: what it knows of blocks is listed by part."""

    def own(x, axis):
        size = x.shape[axis] // parts
        return jax.lax.dynamic_slice_in_dim(x, part * size, size, axis)

    def of_part(info):
        lists = {name: getattr(info, name) for name in ("data_next", "mask_next", "block_mask")}
        kept = {name: own(x, 1) for name, x in lists.items() if x is not None}
        if info.q_sequence is not None:
            kept["q_sequence"] = own(info.q_sequence, 0)
        return info._replace(**kept)

    infos = (kernel.fwd_mask_info, kernel.dq_mask_info, kernel.dkv_mask_info)
    return type(kernel)(*map(of_part, infos), **kernel.kwargs)
