"""Curves for a page: nice ticks, thinning that keeps the extremes, direct labels. No library.

The lines are an SVG that stretches to its box, with strokes that do not scale; the text is HTML
placed in percent of the box. So one drawing is as readable on a phone as on a wide page.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int

MAX_POINTS = 1000  # a curve
MEAN_POINTS = 300
SMOOTH_FROM = 60  # shorter curves are shown as they are
MARKERS_UP_TO = 40  # points that each get a dot


@dataclass(frozen=True)
class Series:
    """One curve; `y` is NaN where the value was not a finite number.

    One without a name is drawn, and neither labelled nor read out.
    """

    name: str
    kind: str  # a CSS class of the line: "train", "eval eval-0", ...
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]
    noisy: bool  # drawn faint, with its mean over it


def chart(
    title: str, series: list[Series], *, unit: str = "", label_gap: float = 8.0
) -> dict[str, Any] | None:
    """What the template needs to draw a figure; None where there is not one finite number.

    A logarithmic scale is offered where every value is positive and they span a factor of 10, but
    not for percentages. A label at a line's end needs `label_gap` percent of the height.
    """
    finite = np.concatenate([s.y[np.isfinite(s.y)] for s in series] or [np.empty(0)])
    if not finite.size:
        return None
    low, high = float(finite.min()), float(finite.max())
    last = max(1.0, *(float(s.x[-1]) for s in series))
    x_ticks = nice_ticks(0.0, last, 5)
    scales = [False, True] if low > 0 and high >= 10 * low and unit != "%" else [False]
    kept = [thin(s.y, MAX_POINTS) for s in series]
    broken = sorted({int(x) for s in series for x in s.x[~np.isfinite(s.y)]})
    return {
        "title": title,
        "unit": unit,
        "x_ticks": [(100 * x / last, format_number(x)) for x in x_ticks],
        "plots": [
            _plot(series, kept, last, (low, high), log=log, unit=unit, label_gap=label_gap)
            for log in scales
        ],
        "labelled": sum(bool(s.name) for s in series) > 1,
        "smooth": max(map(_window, series)),
        "broken": broken,
        "thinned": any(len(k) < len(s.y) for s, k in zip(series, kept, strict=True)),
        "last": [(s.name, float(s.y[-1])) for s in series if s.name],
        "data": {
            "unit": unit,
            "x_max": last,
            "series": [
                {"name": s.name, "x": s.x[k].tolist(), "y": [_rounded(v) for v in s.y[k]]}
                for s, k in zip(series, kept, strict=True)
                if s.name
            ],
        },
    }


def thin(y: Float[np.ndarray, " points"], limit: int) -> Int[np.ndarray, " kept"]:
    """Indices of about `limit` points: both ends, and each bucket's least, greatest and a NaN."""
    if len(y) <= limit:
        return np.arange(len(y))
    kept = {0, len(y) - 1}
    for start, stop in pairwise(np.linspace(0, len(y), limit // 2 + 1).astype(int).tolist()):
        part = y[start:stop]
        finite = np.flatnonzero(np.isfinite(part))
        if finite.size:
            kept |= {start + int(finite[pick(part[finite])]) for pick in (np.argmin, np.argmax)}
        if finite.size < len(part):
            kept.add(start + int(np.flatnonzero(~np.isfinite(part))[0]))
    return np.array(sorted(kept))


def running_mean(
    y: Float[np.ndarray, " points"], at: Int[np.ndarray, " kept"], window: int
) -> Float[np.ndarray, " kept"]:
    """The interquartile mean of about `window` neighbours of each place; NaN where `y` is NaN.

    Without the outer quarters a lone spike leaves no box of the window's width in the line.
    """
    found = np.full(len(at), np.nan)
    for i, place in enumerate(at.tolist()):
        # The window shrinks towards the ends, or the line would lag behind a steep start.
        reach = max(min(place, len(y) - 1 - place, window // 2), window // 6)
        near = y[max(place - reach, 0) : place + reach + 1]
        near = np.sort(near[np.isfinite(near)])
        if np.isfinite(y[place]):
            found[i] = near[len(near) // 4 : len(near) - len(near) // 4].mean()
    return found


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that lie in [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    ticks = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    # Rounding takes off the last bits that the product adds: 0.6000000000000001.
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in ticks]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in [low, high]; also 2 and 5 times them where that leaves room."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    ticks = [10.0**d * m for d in decades[:: max(1, len(decades) // 6)] for m in steps]
    return [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]


def format_number(value: float, small: float = 1e-3) -> str:
    """Short text for an axis: 0.05, 2.5k, 1.2M, and 3e-5 below `small`."""
    size = abs(value)
    if 0 < size < small:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor:
            return f"{value / factor:.4g}{suffix}"
    return f"{value:.4g}"


def _plot(
    series: list[Series],
    kept: list[np.ndarray],
    last: float,
    span: tuple[float, float],
    *,
    log: bool,
    unit: str,
    label_gap: float,
) -> dict[str, Any]:
    """One drawing, with its vertical scale."""
    low, high = _room(*span, log=log, unit=unit)
    ticks = log_ticks(low, high) if log else nice_ticks(low, high, 6)
    small = 1e-3 if log or max(map(abs, ticks)) >= 0.01 else 0.01
    scale = np.log10 if log else np.asarray
    bottom, height = float(scale(low)), float(scale(high) - scale(low))

    def across(x):
        return 100 * x / last

    def down(y):
        return 100 - 100 * (scale(y) - bottom) / height

    lines, labels = [], []
    for s, keep in zip(series, kept, strict=True):
        x, y = across(s.x[keep]), down(s.y[keep])
        if _window(s) > 1:
            lines.append((_path(x, y), f"{s.kind} raw"))
            at = np.unique(np.linspace(0, len(s.y) - 1, MEAN_POINTS).astype(int))
            x, y = across(s.x[at]), down(running_mean(s.y, at, _window(s)))
        lines.append((_path(x, y), s.kind))
        if len(s.y) <= MARKERS_UP_TO:
            dots = [f"M{a:.2f} {b:.2f}h0" for a, b in zip(x, y, strict=True) if b == b]
            lines.append(("".join(dots), f"{s.kind} dots"))
        if s.name and np.isfinite(y).any():
            labels.append([float(y[np.isfinite(y)][-1]), s.name, s.kind])
    return {
        "log": log,
        "ticks": [(float(down(t)), format_number(t, small) + unit) for t in ticks],
        "lines": lines,
        "labels": _apart(labels, label_gap),
        "range": [low, high],
    }


def _room(low: float, high: float, *, log: bool, unit: str) -> tuple[float, float]:
    """The vertical range: from zero where that costs less than half of the height."""
    if log:
        return low, high * (high / low) ** 0.04
    if 0 < low < high / 2:
        low = 0.0
    if math.isclose(low, high):
        low, high = min(2 * low, 0.0), max(2 * high, 0.0) or 1.0
    high += (high - low) * 0.04
    return low, min(high, 100.0) if unit == "%" else high


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """SVG path data; a NaN breaks the line, and a point on its own (`h0`) is still a dot."""
    parts, pen = [], "M{:.2f} {:.2f}h0"
    for a, b in zip(x, y, strict=True):
        if b == b:
            parts.append(pen.format(a, b))
        pen = "L{:.2f} {:.2f}" if b == b else "M{:.2f} {:.2f}h0"
    return "".join(parts)


def _apart(labels: list[list[Any]], gap: float) -> list[list[Any]]:
    """Labels moved down, then up, until none covers another."""
    labels = sorted(labels, key=lambda label: label[0])
    for above, below in pairwise(labels):
        below[0] = max(below[0], above[0] + gap)
    limit = 100.0
    for label in reversed(labels):
        label[0] = min(label[0], limit)
        limit = label[0] - gap
    return labels


def _window(series: Series) -> int:
    points = len(series.y)
    return max(points // 25, 3) if series.noisy and points >= SMOOTH_FROM else 1


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
