"""Checkpoints: saved asynchronously, kept by policy, verified leaf by leaf when read.

A checkpoint of a step has four items: `params`, `ema` (where one is kept), `optimizer` (the step
count and the optimizer's state) and `meta` (JSON: the resolved config, class names, metrics, and
a checksum of every array). Orbax restores a file with a flipped bit without a word, and does not
go back to an older step when one is broken; both happen here.
"""

import contextlib
import errno
import functools
import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import Array, UInt32
from orbax.checkpoint import checkpoint_managers as policies

from zoo.config import UserError
from zoo.training.step import TrainState

ARRAY_ITEMS = ("params", "ema", "optimizer")
_PATIENCE_S = 10.0  # with other hosts, after an error
_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


class DamagedCheckpoint(Exception):
    """A checkpoint cannot be read, or what it holds is not what was saved."""


def lower_is_better(metric: str) -> bool:
    """Whether the best value of a metric is its smallest."""
    return metric.endswith(("loss", "perplexity", "bits_per_byte"))


def flatten(tree: Any) -> dict[str, Any]:
    """A pytree as {dotted path: leaf}: names that do not depend on container types."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def unflatten(like: Any, flat: dict[str, Any]) -> Any:
    """The inverse of `flatten`, for a tree of the same structure as `like`."""
    return jax.tree.unflatten(jax.tree.structure(like), [flat[name] for name in flatten(like)])


def split_items(state: TrainState) -> dict[str, dict[str, Any]]:
    """The array items of a checkpoint, each a flat dict."""
    optimizer = {"step": state.step, "opt_state": state.opt_state}
    trees = {"params": state.params, "ema": state.ema, "optimizer": optimizer}
    return {name: flatten(tree) for name, tree in trees.items() if tree is not None}


class Checkpoints:
    """The checkpoints of one directory.

    Args:
      directory: made if it does not exist, unless `read_only`.
      keep_last: how many of the newest are kept.
      best_metric: a key of the metrics given to `save`; the best by it is kept as well, as
        `lower_is_better` says.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_last: int = 2,
        best_metric: str | None = None,
        read_only: bool = False,
    ):
        self.directory = directory.absolute()
        kept: list[Any] = [policies.LatestN(keep_last)]
        if best_metric:
            kept.append(
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics.get(best_metric, float("-inf")),
                    reverse=lower_is_better(best_metric),
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(kept),
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=not read_only,
        )
        handlers: dict[str, Any] = {name: ocp.StandardCheckpointHandler() for name in ARRAY_ITEMS}
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=options,
            item_handlers={**handlers, "meta": ocp.JsonCheckpointHandler()},
        )
        self._sums = jax.jit(lambda items: jax.tree.map(checksum, items))
        self._finite = jax.jit(lambda items: jax.tree.map(lambda x: jnp.isfinite(x).all(), items))

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        state: TrainState,
        *,
        meta: dict[str, Any],
        metrics: dict[str, float | int] | None = None,
    ) -> None:
        """Starts to save a state under its own step; the state may be donated afterwards.

        Raises:
          UserError: the disk is full (at this save, or at the one before), or a number of the
            state is not finite: such a state is of no use, and must not push out a good one.
        """
        step = int(state.step)
        items = split_items(state)
        finite = jax.device_get(self._finite(items))
        for item in items:
            bad = [name for name, is_finite in finite[item].items() if not is_finite]
            if bad:
                raise UserError(
                    f"{item}.{bad[0]} is not finite any more at step {step}: the state was not "
                    f"saved, {self._kept()}. Lower config.optimizer.lr, or set "
                    "config.optimizer.clip_norm"
                )
        sums = jax.tree.map(int, jax.device_get(self._sums(items)))
        meta = {**meta, "step": step, "metrics": metrics or {}, "checksums": sums}
        arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        with self._explain_errors(step):
            self._manager.wait_until_finished()
            # Asked beforehand, since TensorStore's threads fill the screen when they fail.
            if shutil.disk_usage(self.directory).free < sum(
                x.nbytes for x in jax.tree.leaves(items)
            ):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._manager.save(
                step,
                args=ocp.args.Composite(**arguments, meta=ocp.args.JsonSave(meta)),
                metrics=metrics,
                force=True,
            )

    def wait(self) -> None:
        """Returns when what was saved is on disk."""
        with self._explain_errors(None):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and stops the threads."""
        self.wait()
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None or jax.process_count() == 1:
            self.close()
            return
        # The other hosts have a part in what is being saved; perhaps they will never have done it.
        closing = threading.Thread(target=self.close, daemon=True)
        closing.start()
        closing.join(_PATIENCE_S)

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON part of a checkpoint."""
        with _damage_at(step):
            restored = self._manager.restore(
                step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
            )
            return restored["meta"]

    def metas(self) -> dict[int, dict[str, Any]]:
        """The JSON part of every step, oldest first; one that cannot be read is named on stderr."""
        found = {}
        for step in self.steps():
            try:
                found[step] = self.meta(step)
            except DamagedCheckpoint as error:
                if jax.process_index() == 0:
                    print(
                        f"zoo: the checkpoint of step {step} is damaged ({error}); passing it over",
                        file=sys.stderr,
                    )
        return found

    def shapes(self, step: int) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
        """Shapes and types of all arrays, by item, read from metadata alone."""
        with _damage_at(step):
            metadata = self._manager.item_metadata(step)
            return {
                name: {
                    key: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
                    for key, leaf in metadata[name].tree.items()
                }
                for name in ARRAY_ITEMS
                if name in metadata and metadata[name] is not None
            }

    def restore_items(
        self, step: int, wanted: dict[str, dict[str, jax.ShapeDtypeStruct]]
    ) -> dict[str, dict[str, Array]]:
        """Arrays of one step, with the shardings that `wanted` carries, checksums verified.

        Raises:
          UserError: the checkpoint holds other arrays, shapes or types than wanted.
          DamagedCheckpoint: it cannot be read, or a checksum differs.
        """
        stored, saved = self.shapes(step), self.meta(step)["checksums"]
        for name, item in wanted.items():
            if name in saved and name not in stored:
                raise DamagedCheckpoint(f"the files of {name} are missing")
            check_same(f"{self.directory / str(step)}", stored.get(name, {}), item)
        arguments = {name: ocp.args.StandardRestore(item) for name, item in wanted.items()}
        with _damage_at(step):
            restored = self._manager.restore(step, args=ocp.args.Composite(**arguments))
            items = {name: restored[name] for name in wanted}
        for name, sums in jax.device_get(self._sums(items)).items():
            wrong = [key for key, value in sums.items() if int(value) != saved[name][key]]
            if wrong:
                raise DamagedCheckpoint(f"the checksum of {wrong[0]} differs")
        return items

    def restore_latest(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest sound state and its meta; None where there is no checkpoint.

        Damaged ones are named on stderr and moved aside, so that the run can save there again.

        Raises:
          UserError: every checkpoint is damaged, or they are of another model.
        """
        steps = self.steps()
        wanted = split_items(like)
        for step in reversed(steps):
            try:
                items = self.restore_items(step, wanted)
                meta = self.meta(step)
            except DamagedCheckpoint as error:
                self._set_aside(step, error)
                continue
            state = TrainState(
                params=unflatten(like.params, items["params"]),
                ema=unflatten(like.ema, items["ema"]) if like.ema is not None else None,
                **unflatten({"step": like.step, "opt_state": like.opt_state}, items["optimizer"]),
            )
            return state, meta
        if steps:
            raise UserError(
                f"none of the checkpoints in {self.directory} can be read; they were moved to "
                f"{self._aside()}: start again to train from the beginning"
            )
        return None

    def _aside(self) -> Path:
        return self.directory.parent / "damaged_checkpoints"

    def _set_aside(self, step: int, error: Exception) -> None:
        if jax.process_index() == 0:
            print(
                f"zoo: the checkpoint of step {step} is damaged ({error}); moved to "
                f"{self._aside()}, going back to the one before",
                file=sys.stderr,
            )
            target = self._aside() / str(step)
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            shutil.move(self.directory / str(step), target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("moved aside")
        self._manager.reload()

    @contextlib.contextmanager
    def _explain_errors(self, step: int | None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            if not full:
                raise
            what = "a checkpoint" if step is None else f"the checkpoint of step {step}"
            raise UserError(
                f"no space left on the disk of {self.directory}: {what} could not be written; "
                f"{self._kept()}. Free some space, or set config.keep_last lower, and start again"
            ) from error

    def _kept(self) -> str:
        steps = self.steps()
        return f"the last good one is of step {steps[-1]}" if steps else "there is none before it"


def best_step(metas: dict[int, dict[str, Any]], metric: str) -> int | None:
    """The step that is best by a metric, of those whose `meta` is given."""
    values = {step: meta["metrics"].get(metric) for step, meta in metas.items()}
    sign = -1 if lower_is_better(metric) else 1
    known = {step: sign * value for step, value in values.items() if value is not None}
    return max(known, key=lambda step: (known[step], step)) if known else None


def checksum(x: Array) -> UInt32[Array, ""]:
    """A sum of an array's bits that any changed element changes, the same on any sharding.

    Each element counts with an odd weight made from its indices, modulo 2^32: a single changed
    element always shows, and so do two that changed places.
    """
    bits = jax.lax.bitcast_convert_type(x, _UNSIGNED[x.dtype.itemsize]).astype(jnp.uint32)
    weight = jnp.zeros(x.shape, jnp.uint32)
    for axis in range(x.ndim):
        index = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        weight = weight * jnp.uint32(2654435761) + index
    return jnp.sum(bits * (2 * weight + 1), dtype=jnp.uint32)


def check_same(origin: str, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises a UserError at the first array that is not on both sides, of one shape and type."""
    for name in sorted(stored.keys() | wanted.keys()):
        have, want = stored.get(name), wanted.get(name)
        if have is None or want is None or (have.shape, have.dtype) != (want.shape, want.dtype):
            show = lambda s: "nothing" if s is None else f"{s.dtype}{list(s.shape)}"
            raise UserError(
                f"checkpoint {origin} is of another model: {name} is {show(have)} there, and "
                f"{show(want)} in the config. Use the config that it was trained with, or "
                "config.init_from to start a new run from its weights"
            )


@contextlib.contextmanager
def _damage_at(step: int) -> Iterator[None]:
    """Whatever orbax and TensorStore raise at a broken file, as one exception, on all hosts."""
    damage = cause = None
    _silence_late_reads()
    try:
        yield
    except Exception as error:
        logging.debug("checkpoint %d", step, exc_info=True)
        first = str(error).strip().split("\n")[0]
        damage, cause = DamagedCheckpoint(f"{type(error).__name__}: {first[:200]}"), error
    if jax.process_count() > 1 and multihost_utils.process_allgather(damage is not None).any():
        damage = damage or DamagedCheckpoint("another host cannot read it")
    if damage is not None:
        raise damage from cause


@functools.cache
def _silence_late_reads() -> None:
    """Keeps the screen clean of reads that end after the first one of a checkpoint has failed.

    Orbax closes its event loop at the first error, and TensorStore's threads then have nobody to
    tell of the others: Python would print a traceback for each. The error itself is raised.
    """
    show = sys.unraisablehook

    def show_others(what: Any) -> None:
        if str(what.exc_value) != "Event loop is closed":
            show(what)

    sys.unraisablehook = show_others
