"""Which pairs share a row: first fit over a window of open rows, planned once."""

import numpy as np
from jaxtyping import Int64

OPEN_ROWS = 256  # more fill rows better and plan slower

Lengths = Int64[np.ndarray, " N"]


def pack_pairs(
    source: Lengths, target: Lengths, source_room: int, target_room: int, *, window: int = OPEN_ROWS
) -> Int64[np.ndarray, " N"]:
    """The row of each pair, pairs being taken in order; rows are numbered as they are begun.

    A pair goes into the first open row that has room on both sides. Where none has, the fullest row
    is closed, and a new one is opened in its place.

    Args:
      source: tokens of each source; none has more than `source_room`.
      target: tokens of each target, likewise.
      source_room: tokens of a row's source.
      target_room: tokens of a row's target.
      window: open rows at a time.
    """
    rooms = np.tile(np.array([[source_room], [target_room]], np.int32), (1, window))
    left, fits = rooms.sum(0), np.empty((2, window), bool)
    both, number = np.empty(window, bool), list(range(window))
    rows, begun = np.empty(len(source), np.int64), window
    need = np.stack([source, target], 1)[:, :, None].astype(np.int32)
    # NumPy's own functions, written into the same arrays: this is all that the plan costs.
    for i in range(len(source)):
        pair = need[i]
        np.greater_equal(rooms, pair, out=fits)
        np.logical_and(fits[0], fits[1], out=both)
        slot = int(both.argmax())
        if not both[slot]:
            slot = int(left.argmin())
            rooms[0, slot], rooms[1, slot], left[slot] = (
                source_room,
                target_room,
                source_room + target_room,
            )
            number[slot], begun = begun, begun + 1
        rooms[:, slot] -= pair[:, 0]
        left[slot] -= pair[0, 0] + pair[1, 0]
        rows[i] = number[slot]
    # Rows of a window that few pairs never reached have no number.
    return np.unique(rows, return_inverse=True)[1].reshape(-1)
