"""Batch number -> batch, as a pure function of the config, the seed and the number.

Row i of the global batch of step s sits at position p = s * batch_size + i of an endless row of
examples: one permutation of the split after the other. What is done to an example depends on the
seed and p alone. So nothing needs saving: to resume is to go on at a step, and the number of hosts
may change between two runs.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from zoo.config import UserError
from zoo.data.base import Rows, Unreadable
from zoo.data.shapes import Shapes

Batch = dict[str, np.ndarray]

# The two uses of a seed: they differ in the upper half of Philox's counter, and never meet.
_PERMUTATION, _EXAMPLE = 0, 1


class Made(NamedTuple):
    """What comes out of a worker, as values: exceptions would lose their order and their type."""

    batch: Batch | None  # None: no batch could be made
    unreadable: tuple[tuple[str, str], ...] = ()  # (which example, why)
    error: str = ""  # a complaint for the user


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, count: int) -> Int[np.ndarray, " count"]:
    """The order of `count` examples in one epoch, the same in any NumPy version."""
    # NumPy guarantees a bit generator's raw stream, but not what `permutation` makes of it.
    order = np.argsort(_philox(seed, epoch, _PERMUTATION).random_raw(count), kind="stable")
    order.flags.writeable = False
    return order


def _philox(seed: int, number: int, use: int) -> np.random.Philox:
    """An own stream for each (seed, number, use): cheap, as there is no entropy to mix."""
    key = np.array([seed % 2**64, number], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, use], np.uint64))


class ExampleRng:
    """A generator that can be set to any example's own stream in a microsecond."""

    def __init__(self, seed: int):
        bits = _philox(seed, 0, _EXAMPLE)
        self._generator = np.random.Generator(bits)
        self._state: Any = bits.state

    def at(self, position: int) -> np.random.Generator:
        """The generator, at the start of the stream of a position; valid until the next call."""
        self._state["state"]["key"][1] = position
        self._generator.bit_generator.state = self._state
        return self._generator


class BatchMaker:
    """Makes batches; it pickles, so that worker processes make them."""

    def __init__(
        self,
        rows: Rows,
        shapes: Shapes,
        *,
        seed: int | None,
        own: Sequence[int],
        batch_size: int,
        threads: int = 1,
    ):
        """Reads nothing.

        Args:
          rows: of the opened split.
          shapes: of a row's arrays.
          seed: of the order and of what is drawn; None: evaluation, in order, each row once.
          own: of the global batch's rows, those to make, in order.
          batch_size: rows of the global batch.
          threads: that make them.
        """
        self._anew = functools.partial(
            BatchMaker, rows, shapes, seed=seed, own=own, batch_size=batch_size, threads=threads
        )
        self._rows, self._shapes = rows, shapes
        self._own, self._batch_size, self._threads = own, batch_size, threads
        self._train, self._seed = seed is not None, seed or 0
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __reduce__(self):
        return self._anew, ()

    def __call__(self, step: int) -> Made:
        """Makes batch number `step`."""
        share = len(self._own)
        batch: Batch = {"weight": np.zeros(share, np.float32)}
        for name, (shape, dtype) in self._shapes.items():
            batch[name] = np.zeros((share, *shape), dtype)
        batch["index"] = np.full(share, -1, np.int32)
        size = math.ceil(share / (2 * self._threads)) if self._pool else share
        chunks = [range(i, min(i + size, share)) for i in range(0, share, size)]
        fill = functools.partial(self._fill, batch, step)
        try:
            found = (self._pool.map if self._pool else map)(fill, chunks)
            return Made(batch, tuple(bad for some in found for bad in some))
        except UserError as error:
            return Made(None, error=str(error))

    def close(self) -> None:
        """Ends the threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _fill(self, batch: Batch, step: int, chunk: range) -> list[tuple[str, str]]:
        """Fills some rows; returns the unreadable examples that were passed over."""
        unreadable = []
        rng = ExampleRng(self._seed)
        for row in chunk:
            position = step * self._batch_size + int(self._own[row])
            for index in self._candidates(position):
                batch["index"][row] = index
                try:
                    made = self._rows.make(index, rng.at(position))
                except Unreadable as error:
                    unreadable.append((self._rows.describe(index), str(error)))
                    continue
                for name, value in made.items():
                    batch[name][row] = value
                batch["weight"][row] = 1
                break
            else:
                if self._train:
                    raise UserError(f"none of the {len(self._rows)} images could be read")
        return unreadable

    def _candidates(self, position: int) -> Iterator[int]:
        """The example at a position; in training, then those that follow it, to replace it."""
        count = len(self._rows)
        if not self._train:
            if position < count:
                yield position
            return
        slot = position // self._rows.repeats
        for place in range(slot, slot + count):
            yield int(permutation(self._seed, place // count, count)[place % count])
