"""What docs/plans.json, of benchmarks/plan_table.py, says of a rung's stages."""

import json
from collections.abc import Iterator
from typing import Any

from zoo.config.load import CONFIG_DIR
from zoo.reproduction.ladder import Rung

PLANS = CONFIG_DIR.parent / "docs" / "plans.json"


def stage_plans(rung: Rung) -> list[dict[str, Any]]:
    """The first plan of each stage that there is one of."""
    rows = json.loads(PLANS.read_text()) if PLANS.exists() else []
    first = {row["config"]: row for row in reversed(rows)}
    return [first[stage] for stage in rung.stages if stage in first]


def planned(rung: Rung) -> Iterator[str]:
    """A line a plan."""
    for row in stage_plans(rung):
        memory = f"{row['gib']:.1f} of {row['hbm_gib']:.0f} GiB"
        time = f", {row['hours']:.2g} h at least" if row["hours"] else ""
        yield f"{row['config']} on {row['topology']}, {row['layout']}: {memory}{time}"


def chip_hours(rung: Rung) -> tuple[float, str] | None:
    """Those of all stages, and the pods; None where a stage was not planned, or nothing trains."""
    rows = stage_plans(rung)
    if rung.evaluate_only or len(rows) < len(rung.stages):
        return None
    if any(row["chip_hours"] is None for row in rows):
        return None
    pods = dict.fromkeys(row["topology"] for row in rows)
    return sum(row["chip_hours"] for row in rows), ", ".join(pods)
