"""Batch number -> batch, as a pure function of the config, the seed and the number.

Row i of the global batch of step s sits at position p = s * batch_size + i of an endless row of
examples: one permutation of the split after the other. What is done to an example depends on the
seed and p alone. So nothing needs saving: to resume is to go on at a step, and the number of hosts
may change between two runs.
"""

import functools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Int, UInt8

from zoo.config import UserError
from zoo.config.schema import DataConfig
from zoo.data.base import Source
from zoo.data.images import build_ops, decode

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


def host_rows(batch_size: int, key: str, host: int, num_hosts: int) -> range:
    """The rows of the global batch that one host makes.

    Raises:
      UserError: the hosts cannot share the batch evenly.
    """
    if not 0 <= host < num_hosts:
        raise ValueError(f"host {host} of {num_hosts}")
    if batch_size < 1 or batch_size % num_hosts:
        lower = batch_size - batch_size % num_hosts
        near = f"{lower} or {lower + num_hosts}" if lower > 0 else str(num_hosts)
        raise UserError(
            f"{key} is {batch_size}, which {num_hosts} hosts cannot share evenly: set it to {near}"
        )
    share = batch_size // num_hosts
    return range(host * share, (host + 1) * share)


class Unreadable(Exception):
    """Bytes that are no image, or that cannot be read."""


class BatchMaker:
    """Makes batches; it pickles, so that worker processes make them."""

    def __init__(
        self, source: Source, data: DataConfig, *, seed: int | None, rows: range, batch_size: int
    ):
        """Checks the operations; reads nothing.

        Args:
          source: the opened split.
          data: the config.
          seed: of the order and the augmentation; None: evaluation, in order, each example once.
          rows: of the global batch, those to make.
          batch_size: rows of the global batch.

        Raises:
          UserError: `build_ops` refuses the operations.
        """
        self._anew = functools.partial(
            BatchMaker, source, data, seed=seed, rows=rows, batch_size=batch_size
        )
        self._source, self._data, self._rows, self._batch_size = source, data, rows, batch_size
        self._train, self._seed = seed is not None, seed or 0
        key = "train_ops" if self._train else "eval_ops"
        self._ops = build_ops(getattr(data, key), data.image_size, where=f"data.{key}")
        self._pool = ThreadPoolExecutor(data.threads) if data.threads > 1 else None
        # Threads take whole images; OpenCV's own, within one image, would compete with them.
        cv2.setNumThreads(1)

    def __reduce__(self):
        return self._anew, ()

    def __call__(self, step: int) -> Made:
        """Makes batch number `step`."""
        share = len(self._rows)
        batch = {
            "image": np.zeros((share, *self._ops.size, self._data.channels), np.uint8),
            "label": np.zeros(share, np.int32),
            "weight": np.zeros(share, np.float32),
            "index": np.full(share, -1, np.int32),
        }
        size = math.ceil(share / (2 * self._data.threads)) if self._pool else share
        chunks = [range(i, min(i + size, share)) for i in range(0, share, size)]
        fill = functools.partial(self._fill, batch, step)
        try:
            found = (self._pool.map if self._pool else map)(fill, chunks)
            unreadable = tuple(bad for some in found for bad in some)
        except UserError as error:
            return Made(None, error=str(error))
        if unreadable and self._data.on_bad_image == "error":
            return Made(None, unreadable)
        return Made(batch, unreadable)

    def close(self) -> None:
        """Ends the threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _fill(self, batch: Batch, step: int, chunk: range) -> list[tuple[str, str]]:
        """Fills some rows; returns the unreadable examples that were met."""
        unreadable = []
        rng = ExampleRng(self._seed)
        for row in chunk:
            position = step * self._batch_size + self._rows[row]
            for index in self._candidates(position):
                batch["index"][row] = index
                try:
                    image, label = self._read(index)
                except Unreadable as error:
                    unreadable.append((self._source.describe(index), str(error)))
                    if self._data.on_bad_image == "error":
                        return unreadable
                    continue
                batch["image"][row] = self._transform(image, index, rng.at(position))
                batch["label"][row] = label
                batch["weight"][row] = 1
                break
            else:
                if self._train:
                    raise UserError(f"none of the {len(self._source)} images could be read")
        return unreadable

    def _candidates(self, position: int) -> Iterator[int]:
        """The example at a position; in training, then those that follow it, to replace it."""
        count = len(self._source)
        if not self._train:
            if position < count:
                yield position
            return
        slot = position // self._data.repeats
        for place in range(slot, slot + count):
            yield int(permutation(self._seed, place // count, count)[place % count])

    def _read(self, index: int) -> tuple[UInt8[np.ndarray, "_ _ channels"], int]:
        try:
            example = self._source[index]
            image = example["image"]
            if isinstance(image, bytes):
                image = decode(image, self._data.channels, min_side=self._ops.min_side)
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a damaged ArrayRecord
            raise Unreadable(str(error)) from error
        if example["label"] < 0:
            raise UserError(
                f"{self._source.describe(index)} has the label {example['label']}: "
                "this split has no labels"
            )
        return to_channels(image, self._data.channels), example["label"]

    def _transform(self, image: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
        try:
            return self._ops(image, rng)
        except UserError as error:
            raise UserError(f"{self._source.describe(index)}: {error}") from error


def to_channels(
    image: UInt8[np.ndarray, "rows cols _"], channels: int
) -> UInt8[np.ndarray, "rows cols channels"]:
    """Repeats grey as RGB, or weighs RGB to grey as `decode` does."""
    if image.shape[-1] == channels:
        return image
    code = cv2.COLOR_GRAY2RGB if channels == 3 else cv2.COLOR_RGB2GRAY
    return cv2.cvtColor(image, code).reshape(*image.shape[:2], channels)
