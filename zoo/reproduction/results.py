"""The file of results: one JSON object a run, appended when it has ended; nothing is edited."""

import json
import math
import shlex
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from zoo.config import UserError
from zoo.config.load import CONFIG_DIR

RESULTS = CONFIG_DIR.parent / "docs" / "results.jsonl"

Scale = Literal["full", "partial", "small"]


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of a rung, at its last step.

    Attributes:
      scale: full is the config as it is; partial with `changes`; small as `--scale small` cuts it.
      changes: what `--config.KEY=VALUE` changed, and differs from the published recipe.
      metric: the rung's, or the small run's; `metrics` has all.
      hours: of training steps, on `device`.
      note: what a reader has to know, where the run was not made by `zoo reproduce`.
    """

    rung: str
    scale: Scale
    seed: int
    changes: dict[str, str]
    metric: str
    value: float
    metrics: dict[str, float | int | str]
    steps: int
    hours: float
    device: str
    versions: dict[str, str]
    date: str  # of the end, as 2026-11-26
    command: str
    note: str = ""


def append(path: Path, result: Result) -> None:
    """Adds a line; a path whose folder is not there is made.

    Raises:
      OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(msgspec.json.encode(result).decode() + "\n")


def read(path: Path) -> list[Result]:
    """All results, the oldest first; of runs of the same thing, the newest alone.

    Raises:
      UserError: it cannot be read, or has a line that is no result.
    """
    found: dict[Any, Result] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"cannot read the results in {path}: {reason}") from error
    for number, line in enumerate(lines, 1):
        try:
            one = msgspec.json.decode(line, type=Result)
        except msgspec.DecodeError as error:
            raise UserError(f"{path}, line {number} is no result: {error}") from error
        key = (one.rung, one.scale, one.seed, json.dumps(one.changes, sort_keys=True))
        found.pop(key, None)
        found[key] = one
    return [*found.values()]


def mean_and_spread(results: Iterable[Result]) -> tuple[float, float]:
    """The mean over seeds and the sample's standard deviation; NaN of one run."""
    values = [one.value for one in results]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def as_flags(changes: Mapping[str, str]) -> str:
    """Changes of a config as one types them."""
    return " ".join(f"--config.{key}={shlex.quote(text)}" for key, text in changes.items())


def shown(metric: str, value: float, digits: int = 1) -> str:
    """A value as people write it: accuracies in per cent, with so many digits, others bare."""
    name = metric.partition("/")[2]
    if name.endswith(("accuracy", "matthews_correlation", "pearson", "spearman")) or (
        name == "f1" and value <= 1
    ):
        return f"{100 * value:.{digits}f} %"
    places = 2 if name.startswith(("bleu", "chrf", "f1", "exact_match")) else 3
    return f"{value:.{places}f}"
