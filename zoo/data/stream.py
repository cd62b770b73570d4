"""The stream of batches: from any step on, for any host of any number of hosts.

`zoo.data.batches` says what is in a batch; Grain makes batches ahead, in threads or in worker
processes. A script that sets `data.workers` needs the usual guard, `if __name__ == "__main__":`.
"""

import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence

import grain
import numpy as np
from absl import flags

from zoo.config import UserError
from zoo.config.data import DataConfig
from zoo.data.base import Rows
from zoo.data.batches import Batch, BatchMaker, Made
from zoo.data.rows import open_rows
from zoo.data.shapes import row_shapes

_log = logging.getLogger(__name__)


def train_batches(
    data: DataConfig,
    *,
    seed: int,
    start: int,
    stop: int | None = None,
    own: Sequence[int] | None = None,
) -> "Stream":
    """Batches number `start`, `start + 1`, ... of `data.train_split`, without an end by default.

    Args:
      data: the config's section; `batch_size` counts all hosts.
      seed: of the order and the augmentation.
      start: number of the first batch.
      stop: number of the batch to end before.
      own: the rows of each global batch to yield, in order: those that this host's devices hold
        (`zoo.sharding.batches.own_rows`); default all.

    Returns:
      An iterator of dicts of arrays, B being the number of own rows: what `open_rows`
      makes of an example, with B in front, "weight" float32 [B], and "index" int32 [B] (the
      example's place in its split).

    Raises:
      UserError: as `open_rows`. While iterating: what a row raises, such as an image that cannot be
        read.
    """
    check_counts(data)
    rows = open_rows(data, data.train_split, train=True)
    make = _batch_maker(rows, data, own, data.batch_size, seed=seed)
    return Stream(make, data, start, stop)


def eval_batches(data: DataConfig, split: str, *, own: Sequence[int] | None = None) -> "Stream":
    """Every example of a split once, in order; all hosts yield equally many batches.

    Rows that pad the last batch have weight 0 and index -1; with `on_bad_image="skip"`, images that
    cannot be read have weight 0 too.

    Args:
      data: the config's section; `eval_batch_size` counts all hosts.
      split: such as "test" or "train[-10%:]".
      own: as in `train_batches`.

    Returns:
      As `train_batches`.

    Raises:
      UserError: as `train_batches`.
    """
    batch_size = data.eval_batch_size or data.batch_size
    check_counts(data)
    rows = open_rows(data, split, train=False)
    make = _batch_maker(rows, data, own, batch_size, seed=None)
    return Stream(make, data, 0, math.ceil(len(rows) / batch_size))


def _batch_maker(
    rows: Rows, data: DataConfig, own: Sequence[int] | None, batch_size: int, *, seed: int | None
) -> BatchMaker:
    own = range(batch_size) if own is None else own
    shapes, threads = row_shapes(data), data.threads
    return BatchMaker(rows, shapes, seed=seed, own=own, batch_size=batch_size, threads=threads)


def check_counts(data: DataConfig) -> None:
    """Raises a UserError where a count that makes batches is too small."""
    for key, least in {"repeats": 1, "workers": 0, "threads": 1, "prefetch": 1}.items():
        if getattr(data, key, least) < least:
            raise UserError(f"data.{key} is {getattr(data, key)}: it is {least} or more")


class Stream(Iterator[Batch]):
    """Batches made ahead. It closes itself at its end; close it when leaving it earlier."""

    def __init__(self, make: BatchMaker, data: DataConfig, start: int, stop: int | None):
        self.skipped: dict[str, str] = {}  # unreadable image -> why, of the batches so far
        # Batches, not examples, pass through Grain: it needs 8 to 200 us an element.
        ahead = data.prefetch
        batches = grain.MapDataset.range(start, sys.maxsize if stop is None else stop).map(make)
        batches = batches.to_iter_dataset(grain.ReadOptions(min(2, ahead), ahead))
        if data.workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # Grain reads its settings from absl's flags
            share = math.ceil(ahead / data.workers)
            options = grain.MultiprocessingOptions(data.workers, share)
            batches = batches.mp_prefetch(options, worker_init_fn=_start_worker)
        self._iterators = [iter(batches)]
        # Runs once: when asked to, when nobody holds the stream any more, or when Python exits.
        self._finish = weakref.finalize(self, _finish, self._iterators, make)

    def __next__(self) -> Batch:
        if not self._finish.alive:
            raise StopIteration
        try:
            return self._checked(next(self._iterators[0]))
        except BaseException:  # the end, too
            self.close()
            raise

    def _checked(self, made: Made) -> Batch:
        if made.error:
            raise UserError(made.error)
        for name, reason in made.unreadable:
            if name not in self.skipped:
                self.skipped[name] = reason
                count = len(self.skipped)
                _log.warning("skipped %s, no readable image (%s); %d so far", name, reason, count)
        assert made.batch is not None
        # A worker's arrays are views of shared memory, of a class of Grain's.
        return {key: np.asarray(array) for key, array in made.batch.items()}

    def close(self) -> None:
        """Ends threads and worker processes; whoever reads on finds the stream at its end."""
        self._finish()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _finish(iterators: list[grain.DatasetIterator], make: BatchMaker) -> None:
    # Out of the list: Grain's iterators complain where they outlive Python's modules.
    iterators.pop().close()
    make.close()


def _start_worker(_index: int, _count: int) -> None:
    """Lets the parent process decide when a worker ends."""
    # A signal to the whole process group must not end a worker before the parent, which still
    # wants to save a checkpoint.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A parent that was killed can tell nobody: its workers would wait for it for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
