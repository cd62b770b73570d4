"""`zoo compare`: runs side by side, and which differences are larger than those between seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import stdtr

from zoo.config import UserError
from zoo.config.load import nearest
from zoo.experiment.runs import SECONDS, Group, Logged, group_runs, load_runs

LEVEL = 0.05  # of Welch's test, two-sided
# The last part of a metric's name -> whether more of it is better.
LOWER = ("loss", "perplexity", "bits_per_byte", SECONDS)
HIGHER = (
    "accuracy", "f1", "exact_match", "precision", "recall", "pearson", "spearman",
    "matthews_correlation", "examples_per_second", "tokens_per_second", "mfu",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A metric over a group's seeds."""

    values: tuple[float, ...]  # one a seed; of finished runs alone where there are any
    steps: tuple[int, ...]  # that they are of
    final: bool  # whether the runs were finished
    mean: float
    std: float | None  # sample standard deviation; None of one seed
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A metric over all groups."""

    metric: str
    sign: int  # 1: more is better; -1: less is; 0: unknown
    cells: tuple[Cell | None, ...]  # by group; None where none of its runs has it
    better: int | None  # the group whose mean is told apart from every other's as the better one
    p: float | None  # the largest of its tests, against the group nearest to it
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """All that `zoo compare` shows."""

    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    differences: dict[str, tuple[Any, ...]]  # key of the config -> by group, ABSENT where it lacks
    curves: tuple[str, ...]  # metrics that are drawn
    notes: tuple[str, ...]

    @property
    def runs(self) -> list[Logged]:
        """Of all groups."""
        return [run for group in self.groups for run in group.runs]


class Absent:
    """In place of a config's value: there is no such key."""

    def __repr__(self) -> str:
        return "-"


ABSENT = Absent()


def compare(paths: Sequence[str | Path], metrics: Sequence[str] = ()) -> Comparison:
    """Reads runs and compares them; those that differ in the seed alone are one group.

    Args:
      paths: workdirs, directories of workdirs, globs.
      metrics: names as in `metrics.jsonl` (the `eval/` may be left out), or `seconds`; default:
        all evaluations, the training loss, examples/s and the time.

    Raises:
      UserError: no run, a run without metrics, one run alone, a metric that no run has.
    """
    runs, notes = load_runs(paths)
    groups, repeated = group_runs(runs)
    names = choose_metrics(runs, metrics)
    rows = tuple(make_row(name, groups) for name in names)
    if metrics:
        curves = tuple(name for name in names if name != SECONDS)
    else:
        curves = tuple(dict.fromkeys([*map(headline_metric, runs), "loss"]))
    return Comparison(
        tuple(groups),
        rows,
        config_differences(groups),
        tuple(name for name in curves if any(name in run.history for run in runs)),
        tuple(dict.fromkeys([*notes, *repeated, *other_examples(groups)])),
    )


def choose_metrics(runs: Sequence[Logged], wanted: Sequence[str]) -> list[str]:
    """The metrics' full names, in the order to show them.

    Raises:
      UserError: no run has a wanted metric.
    """
    logged = list(dict.fromkeys(name for run in runs for name in run.history))
    if not wanted:
        found = [n for n in logged if n.startswith("eval/") and not n.endswith("/count")]
        found += [name for name in ("loss", "examples_per_second") if name in logged]
        return found + [SECONDS] * any(run.final(SECONDS) is not None for run in runs)
    known = [*logged, SECONDS]
    found = []
    for name in wanted:
        full = next((n for n in (name, f"eval/{name}") if n in known), None)
        if full is None or not any(run.final(full) for run in runs):
            choices = [short_name(n) for n in known]
            raise UserError(f"--metric {name}: no run logged it{nearest(name, choices)}")
        found.append(full)
    return list(dict.fromkeys(found))


def short_name(metric: str) -> str:
    """`eval/test/accuracy` -> `test/accuracy`."""
    return metric.removeprefix("eval/")


def headline_metric(run: Logged) -> str:
    """The evaluation that the run's best checkpoint was chosen by."""
    best = f"eval/{run.config.get('best_metric')}"
    return best if best in run.history else next(
        (name for name in run.history if name.startswith("eval/")), "loss"
    )  # fmt: skip


def direction(metric: str) -> int:
    """1: more of a metric is better; -1: less is; 0: nothing says so."""
    last = metric.rpartition("/")[2]
    ends = lambda words: any(last == word or last.endswith(f"_{word}") for word in words)
    return 1 if ends(HIGHER) else -1 if ends(LOWER) else 0


def make_row(metric: str, groups: Sequence[Group]) -> Row:
    """A metric's cells, and what may be said of their differences."""
    cells = tuple(make_cell(metric, group) for group in groups)
    sign = direction(metric)
    return Row(metric, sign, cells, *judge(cells, sign, [group.name for group in groups]))


def make_cell(metric: str, group: Group) -> Cell | None:
    """A metric's last values in a group; those of unfinished runs only where all are."""
    found = [(run, value) for run in group.counted if (value := run.final(metric)) is not None]
    done = [(run, v) for run, v in found if run.total_steps is None or v[1] >= run.total_steps]
    if not found:
        return None
    values, steps = zip(*(value for _, value in done or found), strict=True)
    finite = all(map(math.isfinite, values))
    mean = statistics.fmean(values) if finite else math.nan
    std = statistics.stdev(values) if finite and len(values) > 1 else None
    low, high = (min(values), max(values)) if finite else (math.nan, math.nan)
    return Cell(values, steps, bool(done), mean, std, low, high)


def judge(
    cells: Sequence[Cell | None], sign: int, names: Sequence[str]
) -> tuple[int | None, float | None, str]:
    """The better group, the p of its nearest rival, and both in words.

    A group of one seed, of unfinished runs or with a value that is not finite takes no part.
    """
    there = [i for i, cell in enumerate(cells) if cell is not None]
    if len(there) < 2:
        return None, None, ""
    if not sign:
        return None, None, "no verdict: nothing says whether more of it is better"
    fit, why = [], {}
    for i in there:
        cell = cells[i]
        assert cell is not None
        if not cell.final:
            why.setdefault("unfinished", []).append(names[i])
        elif not math.isfinite(cell.mean):
            why.setdefault("not finite", []).append(names[i])
        elif cell.std is None:
            why.setdefault("one seed", []).append(names[i])
        else:
            fit.append((i, cell))
    aside = "; ".join(f"{reason}: {', '.join(who)}" for reason, who in why.items())
    if len(fit) < 2:
        if len(why) == 1 and not fit:
            aside = next(iter(why)) + (" each" if "one seed" in why else "")
        return None, None, f"no verdict ({aside})"
    best = max(fit, key=lambda one: sign * one[1].mean)
    p = max(welch(best[1].values, cell.values) for i, cell in fit if i != best[0])
    without = f" (without {aside})" if aside else ""
    if math.isnan(p):
        return None, None, f"no verdict: no spread between seeds{without}"
    if p >= LEVEL:
        return None, p, f"not told apart, p {p:.2g}{without}"
    return best[0], p, f"{names[best[0]]} is better, p {p:.2g}{without}"


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of equal means, the variances unlike (Welch 1947, Biometrika 34:28-35).

    NaN where neither sample has any spread: nothing then says what a difference is worth.
    """
    parts = [statistics.variance(one) / len(one) for one in (a, b)]
    if not sum(parts):
        return math.nan
    t = (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(one) - 1) for part, one in zip(parts, (a, b), strict=True)
    )
    return float(2 * stdtr(freedom, -abs(t)))


def config_differences(groups: Sequence[Group]) -> dict[str, tuple[Any, ...]]:
    """Keys whose values are not the same in all groups."""
    keys = dict.fromkeys(key for group in groups for key in group.config)
    rows = {key: tuple(group.config.get(key, ABSENT) for group in groups) for key in keys}
    return {key: row for key, row in rows.items() if any(one != row[0] for one in row[1:])}


def other_examples(groups: Sequence[Group]) -> list[str]:
    """Notes on splits of one name that hold other numbers of examples in other groups."""
    counts: dict[str, dict[int, list[str]]] = {}
    for group in groups:
        for name in group.runs[0].history:
            found = group.runs[0].final(name) if name.endswith("/count") else None
            if found is not None and math.isfinite(found[0]):
                counts.setdefault(name, {}).setdefault(int(found[0]), []).append(group.name)
    return [
        f"{short_name(name).rpartition('/')[0]} is not the same split everywhere: "
        + ", ".join(f"{n:,} examples in {' and '.join(who)}" for n, who in sizes.items())
        for name, sizes in counts.items()
        if len(sizes) > 1
    ]


def to_dict(found: Comparison) -> dict[str, Any]:
    """All of it as JSON values; what is not finite, unknown or not there is null."""
    names = [group.name for group in found.groups]
    return {
        "test": {"name": "Welch's t-test, two-sided", "level": LEVEL},
        "groups": [
            {"name": g.name, "runs": [_run(run, g, found) for run in g.runs]} for g in found.groups
        ],
        "metrics": [
            {
                "metric": short_name(row.metric),
                "better_is": {1: "higher", -1: "lower", 0: None}[row.sign],
                "better": None if row.better is None else names[row.better],
                "p": row.p,
                "verdict": row.verdict,
                "groups": {
                    name: cell and _numbers(cell)
                    for name, cell in zip(names, row.cells, strict=True)
                },
            }
            for row in found.rows
        ],
        "differences": {
            key: {n: v for n, v in zip(names, row, strict=True) if v is not ABSENT}
            for key, row in found.differences.items()
        },
        "notes": [*found.notes],
    }


def _run(run: Logged, group: Group, found: Comparison) -> dict[str, Any]:
    final = {row.metric: run.final(row.metric) for row in found.rows}
    return {
        "name": run.name,
        "path": str(run.path),
        "seed": run.seed,
        "step": run.step,
        "total_steps": run.total_steps,
        "finished": run.finished,
        "counted": run in group.counted,
        "unreadable_lines": run.unreadable,
        "final": {
            short_name(name): {"value": _finite(one[0]), "step": one[1]}
            for name, one in final.items()
            if one is not None
        },
        "curves": {
            short_name(name): {
                "step": [*run.history[name]],
                "value": [_finite(v) for v in run.history[name].values()],
            }
            for name in found.curves
            if name in run.history
        },
    }


def _numbers(cell: Cell) -> dict[str, Any]:
    return {
        "n": len(cell.values),
        "mean": _finite(cell.mean),
        "std": cell.std,
        "min": _finite(cell.low),
        "max": _finite(cell.high),
        "values": [_finite(value) for value in cell.values],
        "steps": [*cell.steps],
        "final": cell.final,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
