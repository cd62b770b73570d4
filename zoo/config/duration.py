"""Durations: how long something lasts, in the unit that the paper uses."""

import re
from dataclasses import dataclass

UNITS = ("steps", "epochs", "examples", "tokens")
_MOST = 1e16
_PATTERN = re.compile(r"([0-9][0-9_]*(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)\s*([a-z]+)")


@dataclass(frozen=True)
class Clock:
    """What turns other units into steps: the sizes of a batch and of an epoch."""

    batch_size: int  # examples a step, over all hosts
    examples_per_epoch: int
    tokens_per_batch: int | None = None

    def steps(self, duration: str) -> int:
        """Steps in a duration, rounded to the nearest; at least one if it is longer than nothing.

        Raises:
          ValueError: the text is no duration, or is in tokens where a batch has none.
        """
        amount, unit = parse_duration(duration)
        if unit == "steps":
            steps = amount
        elif unit == "tokens":
            if self.tokens_per_batch is None:
                raise ValueError(f"{duration!r}: batches of this task have no tokens; use examples")
            steps = amount / self.tokens_per_batch
        else:
            per_unit = self.examples_per_epoch if unit == "epochs" else 1
            steps = amount * per_unit / self.batch_size
        return max(round(steps), 1) if amount > 0 else 0


def parse_duration(text: str) -> tuple[float, str]:
    """`"90 epochs"` -> `(90.0, "epochs")`; the singular is fine."""
    match = _PATTERN.fullmatch(text.strip())
    unit = match[2] if match else ""
    unit = unit if unit.endswith("s") else unit + "s"
    if not match or unit not in UNITS:
        raise ValueError(f"{text!r} is no duration: write a number and one of {', '.join(UNITS)}")
    amount = float(match[1].replace("_", ""))
    if amount > _MOST:
        raise ValueError(f"{text!r} is longer than any run: give at most {_MOST:.0e} {unit}")
    return amount, unit
