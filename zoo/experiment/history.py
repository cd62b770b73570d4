"""What a run logged: `metrics.jsonl`, read back."""

import json
import math
from pathlib import Path

import numpy as np

# metric -> step -> value, NaN where it was not a finite number.
History = dict[str, dict[int, float]]


def read_history(path: Path) -> tuple[History, int]:
    """The values of each metric by step, and how many lines could not be read.

    A resumed run repeats steps: the last value wins. A run that was killed may leave a torn line.
    """
    history: History = {}
    unreadable = 0
    lines = (
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    )
    for line in filter(str.strip, lines):
        try:
            record = json.loads(line)
            step = int(record.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError):
            unreadable += 1
            continue
        for name, value in record.items():
            value = math.nan if value is None else value  # JSON knows no NaN: it was written null
            if isinstance(value, int | float):
                finite = float(value) if math.isfinite(value) else math.nan
                history.setdefault(name, {})[step] = finite
    return {name: dict(sorted(values.items())) for name, values in history.items()}, unreadable


def eval_splits(history: History) -> list[str]:
    """Names of the evaluations in the history, the first one first."""
    parts = [name.split("/") for name in history if name.startswith("eval/")]
    return list(dict.fromkeys("/".join(part[1:-1]) for part in parts))


def finite_values(history: History, name: str) -> np.ndarray:
    """The finite values of a metric, in the order of steps; none where it was not logged."""
    array = np.array([*history.get(name, {}).values()], float)
    return array[np.isfinite(array)]


def training_seconds(history: History, batch_size: int) -> float:
    """Time in training steps: those between two logged ones, at the rate that the later one says.

    The clock on the wall would count evaluations, checkpoints and the pause before a resumption.
    """
    seconds, before = 0.0, 0
    for step, rate in history["examples_per_second"].items():
        if math.isfinite(rate) and rate > 0:
            seconds += (step - before) * batch_size / rate
        before = step
    return seconds
