"""Plans as a page of their own: one HTML file with nothing outside of it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.config import UserError
from zoo.experiment.charts import format_number, log_ticks
from zoo.experiment.pages import render
from zoo.planning.plan import Plan
from zoo.planning.topology import chip_of

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 740, 30, 290
LARGEST = 26.0  # radius of an operation that takes the whole step


def write_page(path: Path, plans: Sequence[Plan], *, title: str) -> None:
    """Writes the first plan in full, and a table of all where there are several.

    Raises:
      UserError: there is no plan: no layout fits.
    """
    if not plans:
        raise UserError("no layout fits, so there is no page to write")
    best = plans[0]
    text = render(
        "plan.html",
        {"ms": lambda seconds: f"{1e3 * seconds:,.3g}"},
        title=title,
        best=best,
        plans=plans,
        times=times(best),
        roof=roofline(best),
    )
    path.write_text(text, encoding="utf-8")


def times(plan: Plan) -> list[tuple[str, float]]:
    """What takes time, in seconds: operations by phase and kind, links, the network."""
    named = [(f"{part.phase}, {part.kind}", part.seconds) for part in plan.parts]
    return [*named, ("links", plan.links_s), *[("network", plan.network_s)] * (plan.slices > 1)]


def roofline(plan: Plan) -> dict[str, Any]:
    """Where everything of the picture stands, in the drawing's units."""
    chip = chip_of(plan.topology)
    products = [one for one in plan.operations if one.flops and one.bytes]
    corner = chip.flops / chip.hbm_rate  # FLOPs a byte from which on products are the limit
    intensities = [corner, *(one.flops / one.bytes for one in products)]
    x_low, x_high = min(intensities) / 2, max(intensities) * 2
    rates = [chip.flops * 1.5, x_low * chip.hbm_rate]
    y_low, y_high = min(rates), max(rates)

    def x(intensity: float) -> float:
        share = math.log(intensity / x_low) / math.log(x_high / x_low)
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def y(rate: float) -> float:
        share = math.log(rate / y_low) / math.log(y_high / y_low)
        return round(BOTTOM - share * (BOTTOM - TOP), 1)

    points = []
    for one in products:
        intensity = one.flops / one.bytes
        rate = min(chip.flops, intensity * chip.hbm_rate)
        text = f"{one.phase}, {one.kind}: {1e3 * one.seconds:.3g} ms, {intensity:.0f} FLOPs a byte"
        radius = round(max(LARGEST * math.sqrt(one.seconds / plan.step_s), 1.5), 1)
        points.append((x(intensity), y(rate), radius, intensity < corner, text))
    ends = [(x_low, x_low * chip.hbm_rate), (corner, chip.flops), (x_high, chip.flops)]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": RIGHT,
        "top": TOP,
        "bottom": BOTTOM,
        "x_ticks": [(x(tick), format_number(tick)) for tick in log_ticks(x_low, x_high)],
        "y_ticks": [(y(tick), format_number(tick / 1e12)) for tick in log_ticks(y_low, y_high)],
        "path": "M" + "L".join(f"{x(a)} {y(b)}" for a, b in ends),
        "points": points,
        "without": sum(part.seconds for part in plan.parts if not part.flops),
    }
