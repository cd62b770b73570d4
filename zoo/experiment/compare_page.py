"""A comparison as a page of its own: one HTML file with nothing outside of it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.experiment.charts import Series, chart
from zoo.experiment.compare import Cell, Comparison, Row
from zoo.experiment.compare_lines import number, rule, spread_text, state, title, value_text
from zoo.experiment.numbers import exact_number
from zoo.experiment.pages import HERE, render
from zoo.experiment.runs import Group, Logged

COLOURS, DASHES = 5, 3  # beyond as many groups, a look comes again
PERCENT = ("accuracy", "f1", "exact_match")


def write_page(path: Path, found: Comparison) -> None:
    """Writes the tables and the curves, a colour a group."""
    looks = [look(i) for i in range(len(found.groups))]
    text = render(
        "compare.html",
        {"number": exact_number},
        script=(HERE / "report.js").read_text(encoding="utf-8"),
        groups=[*zip(found.groups, looks, strict=True)],
        num_runs=len(found.runs),
        rows=[_row(row, found.groups) for row in found.rows],
        differences={k: [*map(value_text, row)] for k, row in found.differences.items()},
        charts=[c for metric in found.curves if (c := curves(found, metric))],
        rule=rule(found),
        notes=found.notes,
    )
    path.write_text(text, encoding="utf-8")


def look(index: int) -> str:
    """The CSS classes of a group's lines: its colour, and from the sixth group on its dashes."""
    return f"g{index % COLOURS} d{index // COLOURS % DASHES}"


def curves(found: Comparison, metric: str) -> dict[str, Any] | None:
    """A chart of a metric: each run a thin line, the mean of each group's seeds a thick one."""
    percent = any(metric.endswith(word) for word in PERCENT)
    scale = 100.0 if percent else 1.0
    series = []
    for i, group in enumerate(found.groups):
        runs = [run for run in group.runs if metric in run.history]
        if not runs:
            continue
        if len(runs) > 1:
            series += [Series("", f"{look(i)} seed", *_points(run, metric, scale), noisy=False)
                       for run in runs]  # fmt: skip
        x, y = _mean([run for run in group.counted if metric in run.history], metric, scale)
        # The learning rate follows a schedule: a running mean would round its corners.
        noisy = not metric.startswith("eval/") and metric != "learning_rate"
        series.append(Series(group.name, f"{look(i)} mean", x, y, noisy=noisy))
    name = "training loss" if metric == "loss" else title(metric)
    return chart(name, series, unit="%" if percent else "", label_gap=6.5)


def _points(run: Logged, metric: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
    history = run.history[metric]
    return np.array([*history], float), scale * np.array([*history.values()], float)


def _mean(runs: Sequence[Logged], metric: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The mean at the steps that all runs logged: with fewer of them it would jump."""
    shared = sorted(set.intersection(*({*run.history[metric]} for run in runs)))
    if not shared:  # they never logged at the same step
        return _points(runs[0], metric, scale)
    values = np.array([[run.history[metric][step] for step in shared] for run in runs], float)
    return np.array(shared, float), scale * values.mean(0)


def _row(row: Row, groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "title": title(row.metric),
        "aim": {1: "higher is better", -1: "lower is better", 0: ""}[row.sign],
        "verdict": row.verdict,
        "better": row.better,
        "cells": [
            cell and _cell(cell, row.metric, group.runs[0].total_steps)
            for cell, group in zip(row.cells, groups, strict=True)
        ],
    }


def _cell(cell: Cell, metric: str, total_steps: int | None) -> dict[str, str]:
    span = ""
    if cell.std is not None and math.isfinite(cell.low):
        span = f"{number(cell.low, metric)} to {number(cell.high, metric)}"
    seeds = f"{len(cell.values)} seed" + "s" * (len(cell.values) > 1)
    return {
        "mean": number(cell.mean, metric),
        "spread": "" if cell.std is None else f"± {spread_text(cell.std, metric)}",
        "detail": ", ".join(filter(None, (span, seeds))),
        "state": state(cell, total_steps),
    }
