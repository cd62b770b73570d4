"""Windows on a long text: overlapping stretches of its tokens, none of which splits a word."""

import numpy as np
from jaxtyping import Bool


def windows(starts_word: Bool[np.ndarray, " T"], room: int, stride: int) -> list[tuple[int, int]]:
    """Stretches [start, stop) of T tokens that cover them all, `room` long or less.

    Each begins `stride` after the one before, or at a word's beginning shortly before that, and
    ends with a word; only words longer than that are split.
    """
    total, start, found = len(starts_word), 0, []
    borders = np.flatnonzero(starts_word)
    while start + room < total:
        stop = _last(borders, start, start + room)
        found.append((start, stop))
        start = _last(borders, start, min(start + stride, stop))
    return [*found, (start, total)]


def _last(borders: np.ndarray, after: int, limit: int) -> int:
    """The last word's beginning past `after` and up to `limit`; else `limit`."""
    at = int(np.searchsorted(borders, limit, "right")) - 1
    return int(borders[at]) if at >= 0 and borders[at] > after else limit
