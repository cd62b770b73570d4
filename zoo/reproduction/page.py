"""docs/ladder.md and the README's table: the ladder, with what the file of results holds."""

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from zoo.reproduction.ladder import LADDER, Rung
from zoo.reproduction.plans import chip_hours
from zoo.reproduction.results import Result, as_flags, mean_and_spread, shown

HEAD = ("rung", "published", "ours", "run on", "planned chip-hours", "command")
BEGIN, END = "<!-- results: zoo reproduce --docs -->", "<!-- end of results -->"


def write_docs(root: Path, results: list[Result]) -> list[Path]:
    """Writes docs/ladder.md, and the table between the README's two marks."""
    page, readme = root / "docs" / "ladder.md", root / "README.md"
    page.write_text(ladder_page(results))
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{short_table(results)}\n{END}{after}")
    return [page, readme]


def listing(results: list[Result]) -> tuple[list[dict[str, Any]], list[str]]:
    """What `zoo reproduce` prints without a name: as values, and as lines."""
    found, lines = [], []
    for rung in LADDER:
        ours = [_told(group).replace("**", "") for group in groups(of(rung, results))]
        found.append(
            {
                "name": rung.name,
                "title": rung.title,
                "stages": rung.stages,
                "metric": rung.metric,
                "published": rung.published,
                "source": rung.source,
                "takes": rung.takes,
                "needs": rung.needs,
                "ours": [msgspec.to_builtins(one) for one in of(rung, results)],
            }
        )
        line = f"{rung.name:<20} {_published(rung):>8}  {rung.title}"
        lines.append(line + (f"; here {ours[0]}" if ours else ""))
    return found, lines


def ladder_page(results: list[Result]) -> str:
    """A row a rung."""
    lines = [INTRODUCTION, *_table(HEAD, (_row(rung, of(rung, results)) for rung in LADDER)), ""]
    return "\n".join(lines)


def short_table(results: list[Result]) -> str:
    """The rungs that were run at any length but small."""
    rows = [
        (rung.title, _published(rung), _told(group), _device(group[0]))
        for rung in LADDER
        for group in groups(of(rung, results))
    ]
    return "\n".join(_table(("", "published, or a baseline", "here", "device"), rows))


def of(rung: Rung, results: Iterable[Result]) -> list[Result]:
    """A rung's own."""
    return [one for one in results if one.rung == rung.name]


def groups(results: Iterable[Result]) -> list[list[Result]]:
    """Runs of full or other lengths that differ by their seed alone; full ones first."""
    key = lambda one: (one.scale, sorted(one.changes.items()), one.note)
    long = sorted((one for one in results if one.scale != "small"), key=key)
    return [[*group] for _, group in itertools.groupby(long, key)]


def _row(rung: Rung, results: list[Result]) -> tuple[str, ...]:
    long = groups(results)
    small = [one for one in results if one.scale == "small"]
    ours = [_told(group) for group in long] or [_not_run(rung)]
    if small:
        metric = small[0].metric
        value, guess = shown(metric, mean_and_spread(small)[0]), shown(metric, rung.cut.guess)
        ours.append(f"cut small: {metric} {value} (guessing: {guess})")
    where = [_device(group[0]) for group in long]
    hours = chip_hours(rung)
    return (
        f"`{rung.name}`: {rung.title}",
        f"{_published(rung)} ({rung.source})",
        "<br>".join(ours),
        "<br>".join(where),
        "" if hours is None else f"{_hours(hours[0])} ({hours[1]})",
        "<br>".join(f"`{command(rung, group[0])}`" for group in long) or f"`{command(rung, None)}`",
    )


def _not_run(rung: Rung) -> str:
    there = "" if rung.takes == "not said" else f"; there: {rung.takes}"
    return f"not run: needs {rung.needs}{there}"


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _published(rung: Rung) -> str:
    if rung.published is None:
        return "none"
    return shown(rung.metric, rung.published, 2).replace("0 %", " %").replace(". %", ".0 %")


def _told(group: list[Result]) -> str:
    """A group's mean, and in what it is not the published recipe."""
    value, spread = mean_and_spread(group)
    metric = group[0].metric
    text = f"**{shown(metric, value)}**"
    if not math.isnan(spread):
        each = ", ".join(shown(metric, one.value).removesuffix(" %") for one in group)
        text += f" ({each})"
    changes = group[0].changes
    parts = [f"{changes['total']} only"] if "total" in changes else []
    if others := len(changes) - len(parts):
        parts.append(f"another recipe by {others} keys")
    parts.append(group[0].note)
    parts = [part for part in parts if part]
    return f"{text}, {'; '.join(parts)}" if parts else text


def _device(result: Result) -> str:
    hours = result.hours
    time = f"{60 * hours:.0f} min" if hours < 1 else f"{hours:.1f} h"
    return f"{result.device}, {time}"


def command(rung: Rung, result: Result | None) -> str:
    """What to type for a rung, or for a run of it that is there."""
    if result is None:
        flags = "--config.init_from=WEIGHTS" if rung.start else ""
    else:
        flags = as_flags(result.changes)
    return f"zoo reproduce {rung.name} {flags}".rstrip()


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    ]


INTRODUCTION = "\n".join(
    [
        "# The ladder",
        "",
        "Made by `zoo reproduce --docs` from [`results.jsonl`](results.jsonl), which "
        "`zoo reproduce` appends to; no number of ours is here without a line there. "
        "`zoo reproduce` lists the rungs, `zoo reproduce NAME --seeds 3` runs one, "
        "`zoo reproduce --scale small` runs all, "
        "cut to about a minute of one core each.",
        "",
        "*Published* is what the source reports; of what is made for this project, what a baseline "
        "of another library reaches on the same split. *Ours* is of the last step, never the best "
        "one; where several seeds ran, their mean and each of them. *Cut small* says that the "
        "recipe ran here from end to end on real data, with a small model, and was better than "
        "guessing: it says nothing of the published number. What is not run was checked so, and by "
        "`tests/configs/test_fidelity.py`, which pins every published recipe to its source, value "
        "by value. *Planned chip-hours* are the least, by [`plans.md`](plans.md).",
        "",
    ]
)
