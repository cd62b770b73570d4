"""A comparison on a terminal: tables and small curves that fit in 100 columns."""

import json
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from zoo.experiment.compare import ABSENT, LEVEL, Cell, Comparison, Row, direction, short_name
from zoo.experiment.numbers import duration, exact_number
from zoo.experiment.runs import SECONDS, Logged

WIDTH = 100
BARS = "▁▂▃▄▅▆▇█"
CURVE = 40  # bars of a curve
NAME = 30  # at most, of a group or a run
TITLES = {
    "loss": "training loss, last step logged",
    "examples_per_second": "examples/s, median of a run",
    SECONDS: "time in training steps",
}


def compare_lines(found: Comparison) -> list[str]:
    """All of it, as lines of text."""
    parts = [_groups(found), _metrics(found), _configs(found)]
    parts += [_curves(found, metric) for metric in found.curves]
    parts += [[line for note in found.notes for line in wrapped(f"note: {note}")]]
    return [line for part in parts if part for line in (*part, "")][:-1]


def shorten(text: str, width: int) -> str:
    """The text, with its middle left out where it is too long: both ends tell most."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def wrapped(text: str) -> list[str]:
    """The text in lines."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ")


def title(metric: str) -> str:
    """What a metric is called."""
    return TITLES.get(metric, short_name(metric))


def number(value: float, metric: str) -> str:
    """A value of a metric as a person reads it."""
    if not math.isfinite(value):
        return "not finite"
    return duration(value) if metric == SECONDS else exact_number(value)


def spread_text(std: float, metric: str) -> str:
    """A standard deviation; of so few seeds more than two digits mean nothing."""
    return number(float(f"{std:.2g}"), metric)


def value_text(value: Any) -> str:
    """A config's value."""
    return "-" if value is ABSENT else value if isinstance(value, str) else json.dumps(value)


def state(cell: Cell, total_steps: int | None) -> str:
    """At which step unfinished runs stand; empty for finished ones."""
    if cell.final:
        return ""
    low, high = min(cell.steps), max(cell.steps)
    steps = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"step {steps} of {total_steps:,}" if total_steps else f"step {steps}"


def rule(found: Comparison) -> str:
    """How better is told from worse, in a sentence."""
    if len(found.groups) < 2:
        return "one group: the same config, other seeds; nothing to tell apart"
    return (
        f"better: than every other group, Welch's t-test over seeds, two-sided p < {LEVEL}; each "
        "metric alone"
    )


def sparkline(
    steps: Sequence[int], values: Sequence[float], last: int, low: float, high: float
) -> str:
    """A curve in bars over steps 0 to `last`: the last value up to each; blank where it is none."""
    width = high - low or 1.0
    text, at, bar = "", 0, " "
    for place in range(CURVE):
        while at < len(steps) and steps[at] * CURVE <= (place + 1) * last:
            share = (values[at] - low) / width
            finite = math.isfinite(share)
            bar = BARS[min(max(int(share * len(BARS)), 0), len(BARS) - 1)] if finite else "×"
            at += 1
        # What a run has not come to stays blank.
        text += bar if place * last < steps[-1] * CURVE else " "
    return text


def _groups(found: Comparison) -> list[str]:
    width = min(max(len(group.name) for group in found.groups), NAME)
    lines = [f"{len(found.runs)} runs, {len(found.groups)} groups of configs that differ"]
    if len(found.groups) == 1:
        lines = [f"{len(found.runs)} runs of one config"]
    for group in found.groups:
        runs = ", ".join(run.name + ("" if run.finished else " (unfinished)") for run in group.runs)
        lines.append(f"  {shorten(group.name, width):<{width}}  {shorten(runs, WIDTH - width - 4)}")
    return lines


def _metrics(found: Comparison) -> list[str]:
    width = min(max(len(group.name) for group in found.groups), NAME)
    head = f"  {'':<{width}} {'seeds':>5} {'mean':>12} {'spread':>12}   range"
    lines = ["final metrics", head]
    for row in found.rows:
        verdict = f": {row.verdict}" if row.verdict else ""
        lines += wrapped(title(row.metric) + verdict)
        for group, cell, mark in zip(found.groups, row.cells, _marks(row), strict=True):
            name = f"  {shorten(group.name, width):<{width}}"
            line = f"{name} {_cell(cell, row.metric)}{mark}".rstrip()
            tail = state(cell, group.runs[0].total_steps) if cell else ""
            fits = len(line) + 2 + len(tail) <= WIDTH
            lines += [f"{line}  {tail}".rstrip()] if fits else [line, f"    {tail}"]
    lines.append("spread: standard deviation between seeds (n - 1)")
    return [*lines, rule(found)]


def _marks(row: Row) -> list[str]:
    return ["  better" if i == row.better else "" for i in range(len(row.cells))]


def _cell(cell: Cell | None, metric: str) -> str:
    if cell is None:
        return f"{'-':>5} {'-':>12} {'-':>12}   -"
    spread, span = "-", "-"
    if cell.std is not None:
        spread = spread_text(cell.std, metric)
        span = f"{number(cell.low, metric)} to {number(cell.high, metric)}"
    return f"{len(cell.values):>5} {number(cell.mean, metric):>12} {spread:>12}   {span:<20}"


def _configs(found: Comparison) -> list[str]:
    if not found.differences:
        return ["configs: the same but for the seed"]
    rows = {key: [value_text(v) for v in row] for key, row in found.differences.items()}
    first = min(max(map(len, rows)), NAME + 8)
    columns = [
        min(max(len(group.name), *(len(row[i]) for row in rows.values())), NAME)
        for i, group in enumerate(found.groups)
    ]
    lines, start = ["configs: keys that differ"], 0
    while start < len(columns):  # as many groups beside each other as there is room for
        stop, room = start + 1, WIDTH - first - 4 - columns[start]
        while stop < len(columns) and room >= columns[stop] + 2:
            room -= columns[stop] + 2
            stop += 1
        names = [group.name for group in found.groups]
        for key, row in {"": names, **rows}.items():
            values = (f"{shorten(row[i], columns[i]):<{columns[i]}}" for i in range(start, stop))
            lines.append(f"  {shorten(key, first):<{first}}  {'  '.join(values)}".rstrip())
        start = stop
    return lines


def _curves(found: Comparison, metric: str) -> list[str]:
    runs = [run for run in found.runs if metric in run.history]
    name = min(max(len(run.name) for run in runs), NAME)
    finite = [v for run in runs for v in run.history[metric].values() if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    # Losses fall by orders of magnitude: on a plain scale the end of every curve is flat.
    log = direction(metric) < 0 < low and high >= 10 * low
    scale = (lambda v: math.log(v) if math.isfinite(v) else v) if log else float
    last = max(run.step for run in runs)
    span = f"{number(low, metric)} to {number(high, metric)}{', logarithmic' if log else ''}"
    lines = [shorten(f"{short_name(metric)} by step, 0 to {last:,}; bars from {span}", WIDTH)]
    for run in runs:
        lines.append(
            f"  {shorten(run.name, name):<{name}}  " + _curve(run, metric, scale, last, low, high)
        )
    return lines


def _curve(run: Logged, metric: str, scale: Any, last: int, low: float, high: float) -> str:
    history = run.history[metric]
    values = [scale(value) for value in history.values()]
    bars = sparkline([*history], values, last, scale(low), scale(high))
    return f"{bars}  {number([*history.values()][-1], metric)}"
