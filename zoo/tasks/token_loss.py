"""Cross entropy of tokens, a chunk of the sequence at a time.

Logits of a whole batch may be larger than the model and all its activations: 64 rows of 2,048
tokens over a vocabulary of 128,256 are 67 GB in float32. Here a chunk's logits are made, used and
forgotten, and made again in the backward pass.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from zoo.sharding.rules import num_shards
from zoo.tasks.base import Batch, Metrics, row_keys, shares

# Numbers of a device's logits at a time, float32: half a gigabyte, of which a few copies may live.
MAX_LOGITS = 2**27

Logits = Callable[[Float[Array, "B c D"]], Float[Array, "B c V"]]


class TokenLosses(NamedTuple):
    """Of each target, float32."""

    loss: Float[Array, "B T"]  # what is minimised: smoothed, with the z-loss
    nll: Float[Array, "B T"]  # -log p(target)
    correct: Bool[Array, "B T"]  # the target has the largest logit


def token_losses(
    logits: Logits,
    hidden: Float[Array, "B T D"],
    target: Int[Array, "B T"],
    *,
    vocab_size: int,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    max_logits: int = MAX_LOGITS,
) -> TokenLosses:
    """Losses of every target, given the last hidden states.

    Args:
      logits: hidden states -> float32 logits.
      label_smoothing: the target gets 1 - s, and all V tokens, itself too, s / V each (Szegedy
        2016, as in PyTorch and optax; Tensor2Tensor leaves the target out of the share).
      z_loss: factor on log(Z)^2 (PaLM, arXiv 2204.02311), which keeps logits from drifting.
      max_logits: numbers to hold on a device at a time.
    """

    def losses(hidden, target):
        x = logits(hidden).astype(jnp.float32)
        log_z = jax.nn.logsumexp(x, -1)
        nll = log_z - jnp.take_along_axis(x, target[..., None], -1)[..., 0]
        loss = nll
        if label_smoothing:
            loss = (1 - label_smoothing) * nll + label_smoothing * (log_z - jnp.mean(x, -1))
        if z_loss:
            loss = loss + z_loss * jnp.square(log_z)
        return TokenLosses(loss, nll, jnp.argmax(x, -1) == target)

    B, T = target.shape
    rows, tokens = B // num_shards("batch", B), T // num_shards("tokens", T)
    count = num_chunks(rows * tokens * vocab_size, tokens, max_logits)
    if count == 1:
        return losses(hidden, target)

    def split(x):
        # Tokens i, i + count, ... make chunk i: where devices split the sequence, each splits its
        # own tokens.
        return jnp.moveaxis(x.reshape(B, T // count, count, *x.shape[2:]), 2, 0)

    nothing = jax.checkpoint_policies.nothing_saveable
    body = jax.checkpoint(losses, prevent_cse=False, policy=nothing)
    _, parts = jax.lax.scan(lambda _, x: (None, body(*x)), None, (split(hidden), split(target)))
    return TokenLosses(*(jnp.moveaxis(part, 0, 2).reshape(B, T) for part in parts))


def num_chunks(numbers: int, length: int, most: int) -> int:
    """Into how many equal parts of a sequence to split so that each has at most `most` numbers."""
    enough = (n for n in range(1, length + 1) if length % n == 0 and numbers <= n * most)
    return next(enough, length)


def share_targets(batch: Batch, key: Key[Array, ""]) -> Batch:
    """A batch with the share of each target that counts, and a key for each row."""
    share = shares(batch["mask"] * batch["weight"][:, None])
    return {**batch, "share": share, "keys": row_keys(key, len(share))}


def target_means(
    found: TokenLosses, share: Float[Array, "B T"]
) -> tuple[Float[Array, ""], Metrics]:
    """Some rows' part of the mean loss and accuracy over the batch's targets."""
    loss = jnp.sum(found.loss * share)
    return loss, {"loss": loss, "accuracy": jnp.sum(found.correct * share)}


def target_sums(found: TokenLosses, mask: Bool[Array, "B T"]) -> dict[str, Array]:
    """Sums over each row's targets: `nll` in nats, `correct`, `tokens`."""
    return {
        "nll": jnp.sum(found.nll * mask, -1),
        "correct": jnp.sum(found.correct & mask, -1),
        "tokens": jnp.sum(mask, -1),
    }


def split_means(results: dict[str, np.ndarray]) -> dict[str, float | int]:
    """Of those sums: `loss` in nats a token, `perplexity`, `accuracy`, and how many `tokens`."""
    nll = float(np.sum(results["nll"], dtype=np.float64))
    tokens = int(np.sum(results["tokens"]))
    return {
        "loss": nll / tokens,
        "perplexity": float(np.exp(nll / tokens)),
        "accuracy": float(np.sum(results["correct"]) / tokens),
        "tokens": tokens,
    }
