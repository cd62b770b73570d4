"""Writing on: from prompts to new tokens, one after the other, with a cache.

Two programs do it. `prefill` reads the prompts, padded to a common length; `finish` then writes to
the end in one loop on the device, or `advance` writes a token at a time, for whoever wants to see
them come. They are compiled once for each number of rows, padded length and `Sampling`.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from zoo.config import UserError

BUCKET = 64  # prompts are padded to a multiple of it


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen by its logits; the two cuts hold one after the other.

    Attributes:
      temperature: divides the logits; 0 takes the likeliest token.
      top_k: only of the likeliest so many; 0: of all.
      top_p: only of the likeliest that have this much probability together, at least one (nucleus
        sampling, Holtzman 2019, arXiv 1904.09751).

    Raises:
      UserError: one of them is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature {self.temperature} is not 0 or more")
        if self.top_k < 0:
            raise UserError(f"top_k {self.top_k} is not 0 or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p} is not in (0, 1]")


PLAIN, GREEDY = Sampling(), Sampling(temperature=0.0)


def sample(
    logits: Float[Array, "B V"], keys: Key[Array, " B"], sampling: Sampling
) -> Int[Array, " B"]:
    """A token for each row, drawn with the row's own key."""
    if sampling.temperature == 0:
        return jnp.argmax(logits, -1).astype(jnp.int32)
    logits = logits / sampling.temperature
    draw = jax.vmap(jax.random.categorical)
    if not sampling.top_k and sampling.top_p == 1:
        return draw(keys, logits).astype(jnp.int32)
    # Sorted, so that of equal logits no more are kept than were asked for.
    size = logits.shape[1]
    logits, order = jax.lax.top_k(logits, min(sampling.top_k or size, size))
    probability = jax.nn.softmax(logits)
    likelier = jnp.cumsum(probability, -1) - probability
    chosen = draw(keys, jnp.where(likelier < sampling.top_p, logits, -jnp.inf))
    return jnp.take_along_axis(order, chosen[:, None], 1)[:, 0].astype(jnp.int32)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("token", "index", "done", "keys"),
    meta_fields=(),
)
@dataclass(frozen=True)
class Rows:
    """Where each row stands: its last token is chosen, but not yet read.

    Attributes:
      token: the last token.
      index: its place in its row.
      done: the row has ended; it is kept as it is.
      keys: one a row; a token is drawn with its row's key and its place, so that neither the other
        rows nor padding matter.
    """

    token: Int[Array, " B"]
    index: Int[Array, " B"]
    done: Bool[Array, " B"]
    keys: Key[Array, " B"]


def cast(params: Any, dtype: str) -> Any:
    """Parameters in the dtype that layers compute in: the same numbers come out, read faster.

    Those of norms stay float32, as norms compute.
    """

    def one(path, x):
        in_norm = any(entry.key.endswith("norm") for entry in path)
        return x if in_norm else x.astype(dtype)

    return jax.tree.map_with_path(one, params)


class Writer:
    """A decoder's compiled programs."""

    def __init__(self, graphdef: nnx.GraphDef, *, eos: Sequence[int], max_length: int | None):
        """Compiles nothing yet.

        Args:
          graphdef: of a model with `init_cache`, `decode` and `logits`.
          eos: tokens that end a row.
          max_length: tokens of a row, prompt included, that end it too; None: any number.
        """
        self._max_length = max_length
        self._programs = (graphdef, tuple(eos), max_length)

    def write(
        self,
        params: Any,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        keys: Key[Array, " B"],
        sampling: Sampling,
    ) -> list[list[int]]:
        """What follows each prompt: at most `max_tokens` tokens, the one that ends it included.

        Raises:
          ValueError: an empty prompt, or one that leaves no room for `max_tokens`.
        """
        rows, cache = self._prefill(params, prompts, max_tokens, keys, sampling)
        found = _finish(*self._programs, sampling, max_tokens, params, cache, rows)
        tokens, count = jax.device_get(found[:2])
        return [row[:n].tolist() for row, n in zip(tokens, count, strict=True)]

    def stream(
        self,
        params: Any,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        keys: Key[Array, " B"],
        sampling: Sampling,
    ) -> Iterator[list[int | None]]:
        """The tokens of `write`, one of each row at a time; None for a row that has ended."""
        rows, cache = self._prefill(params, prompts, max_tokens, keys, sampling)
        ended = np.zeros(len(prompts), bool)
        for i in range(max_tokens):
            chosen = (rows.token, rows.done)
            if i + 1 < max_tokens:  # the device goes on while the host waits for these
                rows, cache = _advance(*self._programs, sampling, params, cache, rows)
            token, done = jax.device_get(chosen)
            yield [None if over else int(one) for one, over in zip(token, ended, strict=True)]
            ended = done
            if ended.all():
                return

    def _prefill(
        self,
        params: Any,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        keys: Key[Array, " B"],
        sampling: Sampling,
    ) -> tuple[Rows, Any]:
        if max_tokens < 1:
            raise UserError(f"max_tokens {max_tokens} is not 1 or more")
        lengths = [len(prompt) for prompt in prompts]
        if min(lengths) < 1:
            raise UserError("a prompt is empty: give at least one token")
        room = self._max_length or math.inf
        if max(lengths) >= room:
            raise UserError(
                f"a prompt has {max(lengths)} tokens, and the model takes {room} with what it "
                "writes: give a shorter one"
            )
        padded = -(-max(lengths) // BUCKET) * BUCKET
        # The last token is never read, so it takes no place.
        cache_length = int(min(padded + max_tokens - 1, room))
        tokens = np.zeros((len(prompts), min(padded, cache_length)), np.int32)
        for row, prompt in zip(tokens, prompts, strict=True):
            row[: len(prompt)] = prompt
        length = np.asarray(lengths, np.int32)
        return _prefill(*self._programs, sampling, cache_length, params, tokens, length, keys)


def _choose(
    model: Any,
    hidden: Float[Array, "B D"],
    index: Int[Array, " B"],
    done: Bool[Array, " B"],
    keys: Key[Array, " B"],
    sampling: Sampling,
    eos: tuple[int, ...],
    max_length: int | None,
) -> Rows:
    """Chooses the token at `index`; `hidden` is of the one before it."""
    own = jax.vmap(jax.random.fold_in)(keys, index)
    token = sample(model.logits(hidden), own, sampling)
    done = done | jnp.isin(token, jnp.asarray(eos, jnp.int32))
    if max_length is not None:
        done = done | (index + 1 >= max_length)
    return Rows(token, index, done, keys)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _prefill(graphdef, eos, max_length, sampling, cache_length, params, tokens, length, keys):
    model = nnx.merge(graphdef, params)
    B, T = tokens.shape
    cache = model.init_cache(B, cache_length)
    hidden, cache = model.decode(tokens, cache, jnp.broadcast_to(jnp.arange(T)[None], (B, T)))
    last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], 1)[:, 0]
    done = jnp.zeros(B, bool)
    return _choose(model, last, length, done, keys, sampling, eos, max_length), cache


def _step(graphdef, eos, max_length, sampling, params, cache, rows: Rows):
    model = nnx.merge(graphdef, params)
    hidden, cache = model.decode(rows.token[:, None], cache, rows.index[:, None])
    index = rows.index + ~rows.done  # the place of a row that has ended lies in the cache
    how = (sampling, eos, max_length)
    return _choose(model, hidden[:, 0], index, rows.done, rows.keys, *how), cache


_advance = jax.jit(_step, static_argnums=(0, 1, 2, 3), donate_argnums=5)


def lower_step(
    graphdef: nnx.GraphDef, params: Any, sharding: jax.sharding.Sharding, *, rows: int, length: int
) -> Any:
    """The program that writes a token more of each row, on shapes alone; it allocates nothing.

    Args:
      params: shapes and dtypes as `cast` leaves them, placed.
      sharding: where the rest lies.
      length: tokens of the cache.
    """

    forms = []

    def start(params) -> list[Array]:
        index = jnp.zeros(rows, jnp.int32)
        keys = jax.random.split(jax.random.key(0), rows)
        cache = nnx.merge(graphdef, params).init_cache(rows, length)
        leaves, form = jax.tree.flatten((cache, Rows(index, index, jnp.zeros(rows, bool), keys)))
        forms.append(form)  # what it holds are arrays, never their shapes
        return leaves

    def step(params, leaves):
        return _step(graphdef, (0,), None, PLAIN, params, *jax.tree.unflatten(forms[0], leaves))

    leaves = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        for x in jax.eval_shape(start, params)
    ]
    return jax.jit(step, donate_argnums=1).lower(params, leaves)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnums=6)
def _finish(graphdef, eos, max_length, sampling, max_tokens, params, cache, rows: Rows):
    """All new tokens [B, max_tokens], how many of each row count [B], and the cache.

    The cache is returned for its room to be used again: else there would be two of it.
    """
    B = rows.token.shape[0]
    tokens = jnp.zeros((B, max_tokens), jnp.int32).at[:, 0].set(rows.token)

    def unfinished(carry):
        i, rows, *_ = carry
        return (i < max_tokens) & ~jnp.all(rows.done)

    def write(carry):
        i, rows, cache, tokens, count = carry
        count = count + ~rows.done
        rows, cache = _step(graphdef, eos, max_length, sampling, params, cache, rows)
        return i + 1, rows, cache, tokens.at[:, i].set(rows.token), count

    carry = (jnp.int32(1), rows, cache, tokens, jnp.ones(B, jnp.int32))
    _, _, cache, tokens, count = jax.lax.while_loop(unfinished, write, carry)
    return tokens, count, cache
