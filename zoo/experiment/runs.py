"""Runs as their directories tell of them, and which of them are one experiment but for the seed."""

import glob
import itertools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.config import ConfigError, UserError, parse_config
from zoo.config.duration import Clock, parse_duration
from zoo.config.load import flat_config, to_dict
from zoo.data.catalog import DATASETS
from zoo.experiment.history import History, finite_values, read_history, training_seconds

SECONDS = "seconds"  # the one metric that is not logged: time in training steps


@dataclass(frozen=True)
class Logged:
    """A run: what its directory holds."""

    name: str  # its path below the directory that all runs of a comparison share
    path: Path
    config: dict[str, Any]  # dotted keys
    history: History
    unreadable: int  # lines of metrics.jsonl
    step: int  # the last one that logged anything
    total_steps: int | None  # None where nothing tells

    @property
    def seed(self) -> Any:
        """Of its config."""
        return self.config.get("seed")

    @property
    def finished(self) -> bool:
        """Whether it reached its total; where that is unknown, it is believed to have."""
        return self.total_steps is None or self.step >= self.total_steps

    def final(self, metric: str) -> tuple[float, int] | None:
        """A metric's last value, and of which step it is; None where there is none.

        Rates are the median of all logged ones, as in the report.
        """
        if metric == SECONDS:
            size = self.config.get("data.batch_size")
            if not size or not finite_values(self.history, "examples_per_second").size:
                return None
            return training_seconds(self.history, size), self.step
        if metric not in self.history:
            return None
        values = self.history[metric]
        last = [*values][-1]
        if metric.endswith("_per_second") or metric == "mfu":
            finite = sorted(finite_values(self.history, metric).tolist())
            middle = len(finite) // 2
            if not finite:
                return None
            return (finite[middle] + finite[-1 - middle]) / 2, self.step
        return values[last], last


@dataclass(frozen=True)
class Group:
    """Runs whose configs differ in the seed alone."""

    name: str
    runs: tuple[Logged, ...]
    counted: tuple[Logged, ...]  # one a seed: to run it twice tells nothing of the spread

    @property
    def config(self) -> dict[str, Any]:
        """Dotted keys, without the seed."""
        return {key: value for key, value in self.runs[0].config.items() if key != "seed"}


def load_runs(paths: Sequence[str | Path]) -> tuple[list[Logged], list[str]]:
    """The runs in some places, and notes on what is wrong with them.

    Args:
      paths: workdirs; a directory of workdirs or a glob stands for all in it that have metrics.

    Raises:
      UserError: a path without a run, a run without metrics, fewer than two runs.
    """
    found, notes = {}, []
    for path in paths:
        workdirs, named = _workdirs(str(path))
        for workdir in workdirs:
            run, remarks = _load(workdir)
            if run.history:
                found[workdir] = run
                notes += remarks
            elif named:
                raise UserError(
                    f"{path} holds no metrics in metrics.jsonl, so there is nothing to compare: "
                    "train it first, or leave it out"
                )
            else:
                notes.append(f"{workdir} is left out: it holds no metrics yet")
    if len(found) < 2:
        only = f": there is only {next(iter(found))}" if found else ""
        raise UserError(f"comparing needs at least two runs with metrics{only}; give another")
    shared = os.path.commonpath([workdir.parent for workdir in found])
    runs = [
        Logged(**{**vars(run), "name": os.path.relpath(workdir, shared)})
        for workdir, run in found.items()
    ]
    return runs, notes + [remark for run in runs if (remark := _remark(run))]


def group_runs(runs: Sequence[Logged]) -> tuple[list[Group], list[str]]:
    """The groups, in the order of their first runs, and notes on runs that do not count."""
    gathered: dict[str, list[Logged]] = {}
    for run in runs:
        key = json.dumps({**run.config, "seed": None}, sort_keys=True)
        gathered.setdefault(key, []).append(run)
    names, notes = _group_names([[run.name for run in one] for one in gathered.values()]), []
    groups = []
    for name, members in zip(names, gathered.values(), strict=True):
        counted: dict[Any, Logged] = {}
        for run in members:
            other = counted.get(run.seed)
            if other is None or run.step > other.step:
                counted[run.seed] = run
        for run in members:
            kept = counted[run.seed]
            if kept is not run:
                notes.append(
                    f"{run.name} has the config and the seed of {kept.name}, so only that counts"
                )
        groups.append(Group(name, tuple(members), tuple(counted.values())))
    return groups, notes


def _workdirs(path: str) -> tuple[list[Path], bool]:
    """The workdirs that a path stands for, and whether it is itself one."""
    if (Path(path) / "config.json").is_file():
        return [Path(path).resolve()], True
    places = [Path(path)] if Path(path).is_dir() else [Path(p) for p in sorted(glob.glob(path))]
    found = [
        config.parent.resolve()
        for place in places
        for config in (place / "config.json", *sorted(place.glob("*/config.json")))
        if config.is_file()
    ]
    if not found:
        what = "nor does a folder in it" if places else "and does not exist"
        raise UserError(
            f"{path} is no run: it holds no config.json, {what}; give the --workdir of a zoo train"
        )
    return found, False


def _load(workdir: Path) -> tuple[Logged, list[str]]:
    """A run and notes on what could not be read of it."""
    notes, path = [], workdir / "config.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}): mend it, or leave that run out") from error
    try:
        tree = to_dict(parse_config(tree, origin=str(path)))  # an older run lacks newer keys
    except ConfigError as error:
        notes.append(f"{error}: compared as it stands, with no defaults filled in")
    config = flat_config(tree)
    history, unreadable = read_history(workdir / "metrics.jsonl")
    if unreadable:
        lines = "line" if unreadable == 1 else "lines"
        notes.append(f"{workdir.name}: {unreadable} {lines} of metrics.jsonl could not be read")
    step = max((max(values) for values in history.values()), default=0)
    total = _total_steps(workdir, config)
    return Logged(workdir.name, workdir, config, history, unreadable, step, total), notes


def _total_steps(workdir: Path, config: dict[str, Any]) -> int | None:
    """What `run.json` says; for an older run, what follows from its config alone."""
    try:
        return int(json.loads((workdir / "run.json").read_text())["total_steps"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    known = DATASETS.get(str(config.get("data.name")))
    size = ((known and known.splits) or {}).get(str(config.get("data.train_split")))
    try:
        total = str(config["total"])
        if parse_duration(total)[1] == "epochs" and size is None:
            return None
        return Clock(int(config["data.batch_size"]), size or 0).steps(total)
    except (ValueError, KeyError, TypeError):
        return None


def _remark(run: Logged) -> str:
    if run.total_steps is None:
        total = run.config.get("total", "unknown")
        return f"{run.name} may be unfinished: nothing says how many steps its total, {total}, is"
    if run.finished:
        return ""
    return f"{run.name} is unfinished: step {run.step:,} of {run.total_steps:,}"


def _group_names(members: Sequence[Sequence[str]]) -> list[str]:
    """What the runs of each group have in common, without what announces a seed; else a letter."""
    seed = re.compile(r"([-_./ ]+((seed|s|run)[-_=]?\d*)?|seed[-_=]?\d*)$")
    names = [seed.sub("", _beginning(runs)) if len(runs) > 1 else runs[0] for runs in members]
    letters = (letter for i in itertools.count() if (letter := _letter(i)) not in names)
    return [name if name and names.count(name) == 1 else next(letters) for name in names]


def _beginning(texts: Sequence[str]) -> str:
    """The characters that all texts begin with."""
    alike = itertools.takewhile(lambda column: len({*column}) == 1, zip(*texts, strict=False))
    return "".join(column[0] for column in alike)


def _letter(index: int) -> str:
    """A to Z, then A2, B2, ..."""
    round_, place = divmod(index, 26)
    return chr(ord("A") + place) + (str(round_ + 1) if round_ else "")
