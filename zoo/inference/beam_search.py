"""Beam search: the most probable sequences that a model can write, in compiled code.

It knows a model by one function, which reads one token a row and gives the scores of the next.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Decode = Callable[[Int[Array, "R 1"], Any, Int[Array, "R 1"]], tuple[Float[Array, "R 1 V"], Any]]
Penalty = Callable[[Float[Array, "*n"]], Float[Array, "*n"]]


class Beams(NamedTuple):
    """What was found for each example, the best first.

    Attributes:
      tokens: the first `length` of them count, EOS among them where the sequence ends by it; the
        rest are 0.
      score: log probability over the length penalty; -inf where there are no more sequences.
    """

    tokens: Int[Array, "B K N"]
    length: Int[Array, "B K"]
    score: Float[Array, "B K"]


class _State(NamedTuple):
    step: Int[Array, ""]  # tokens that each alive sequence has
    alive: Int[Array, "B K N"]
    log_prob: Float[Array, "B K"]  # of the alive ones; -inf where there is none
    done: Beams
    cache: Any


def wu_penalty(alpha: float) -> Penalty:
    """((5 + n) / 6)^alpha of a sequence of n tokens, EOS among them (Wu 2016, arXiv 1609.08144).

    Raises:
      ValueError: alpha is negative or no number.
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(
            f"alpha {alpha} is negative or no number: 0 is no penalty, 0.6 the usual one"
        )
    return lambda length: ((5 + length) / 6) ** alpha


def beam_search(
    decode: Decode,
    cache: Any,
    first: Int[Array, " B"],
    *,
    beams: int,
    max_length: int,
    eos: int,
    penalty: Penalty,
    reorder: Callable[[Any, Int[Array, " R"]], Any],
    early_stop: bool = True,
) -> Beams:
    """Searches for the best sequences of each example; greedy with one beam and no penalty.

    A sequence ends by EOS, or is cut at `max_length` tokens. In each step the best `beams`
    continuations of all alive sequences count: those that end are kept, if they are among the
    best so far, and the best of those that do not go on in their place.

    Args:
      decode: (a token a row, cache, its index) -> (logits, cache). The rows are the beams of the
        first example, those of the second, ...
      cache: of B x beams rows.
      first: what each example starts from, such as BOS; not part of the result.
      max_length: tokens of the longest sequence, EOS among them.
      penalty: of lengths; must not fall.
      reorder: (cache, for each row the row to go on from, of the same example) -> cache.
      early_stop: stop an example when no alive sequence can become better than the worst that is
        kept: its probability can only fall, its penalty be at most that of `max_length`. It
        changes no result; without it the search goes on to the end.
    """
    B, K, N = first.shape[0], beams, max_length
    longest = penalty(jnp.float32(N))

    def improvable(state):
        return jnp.min(state.done.score, 1) < jnp.max(state.log_prob, 1) / longest

    def goes_on(state):
        return (state.step < N) & (jnp.any(improvable(state)) if early_stop else True)

    def advance(state):
        row = jnp.arange(B * K)
        last = state.alive[:, :, jnp.maximum(state.step - 1, 0)]
        last = jnp.where(state.step == 0, first[:, None], last).reshape(-1, 1)
        logits, cache = decode(last, state.cache, jnp.full((B * K, 1), state.step))
        V = logits.shape[-1]
        log_prob = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(B, K, V)
        log_prob = (state.log_prob[:, :, None] + log_prob).reshape(B, K * V)
        # Of 2 K candidates at least K go on: each alive sequence has one EOS.
        log_prob, place = jax.lax.top_k(log_prob, 2 * K)
        parent, token = place // V, (place % V).astype(jnp.int32)
        tokens = jnp.take_along_axis(state.alive, parent[:, :, None], 1)
        tokens = tokens.at[:, :, state.step].set(token)
        length = state.step + 1
        ends = (token == eos) | (length == N)
        counts = ends & (jnp.arange(2 * K) < K)[None]
        score = jnp.where(counts, log_prob / penalty(length.astype(jnp.float32)), -jnp.inf)
        found = Beams(tokens, jnp.broadcast_to(length, score.shape), score)
        done = _best(_join(state.done, found), K)
        log_prob, chosen = jax.lax.top_k(jnp.where(ends, -jnp.inf, log_prob), K)
        origin = jnp.take_along_axis(parent, chosen, 1) + (jnp.arange(B) * K)[:, None]
        return _State(
            length,
            jnp.take_along_axis(tokens, chosen[:, :, None], 1),
            log_prob,
            done,
            reorder(cache, origin.reshape(row.shape)),
        )

    nothing = jnp.full((B, K), -jnp.inf)
    empty = jnp.zeros((B, K, N), jnp.int32)
    # All beams would start alike, so only one of them is alive.
    start = nothing.at[:, 0].set(0.0)
    done = Beams(empty, jnp.zeros((B, K), jnp.int32), nothing)
    state = _State(jnp.int32(0), empty, start, done, cache)
    return jax.lax.while_loop(goes_on, advance, state).done


def _join(a: Beams, b: Beams) -> Beams:
    return Beams(*(jnp.concatenate(pair, 1) for pair in zip(a, b, strict=True)))


def _best(beams: Beams, count: int) -> Beams:
    score, chosen = jax.lax.top_k(beams.score, count)
    exists = score > -jnp.inf
    length = jnp.where(exists, jnp.take_along_axis(beams.length, chosen, 1), 0)
    tokens = jnp.take_along_axis(beams.tokens, chosen[:, :, None], 1)
    return Beams(jnp.where(exists[:, :, None], tokens, 0), length, score)
