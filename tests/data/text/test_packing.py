"""Which pairs share a row: no pair is lost, and no row too full."""

import numpy as np
import pytest

from zoo.data.text.packing import pack_pairs

RNG = np.random.default_rng(0)


def first_fit(source, target, rooms, window):
    """The same plan, written with lists."""
    rows, open_rows = [], []  # of pairs; [row, room for sources, room for targets] in slots
    for s, t in zip(source, target, strict=True):
        slot = next((r for r in open_rows if r[1] >= s and r[2] >= t), None)
        if slot is None and len(open_rows) < window:
            slot = [-1, *rooms]
            open_rows.append(slot)
        elif slot is None:
            slot = min(open_rows, key=lambda r: r[1] + r[2])
            slot[:] = [-1, *rooms]
        if slot[0] < 0:
            slot[0] = len(set(rows))
        slot[1] -= s
        slot[2] -= t
        rows.append(slot[0])
    return rows


def lengths(count, most):
    return RNG.integers(1, most + 1, count)


@pytest.mark.parametrize("window", [1, 3, 64])
def test_pairs_go_into_the_first_open_row_that_has_room(window):
    source, target = lengths(400, 20), lengths(400, 12)
    rows = pack_pairs(source, target, 32, 24, window=window)
    assert rows.tolist() == first_fit(source.tolist(), target.tolist(), (32, 24), window)


@pytest.mark.parametrize("window", [1, 64])
def test_no_row_is_too_full_on_either_side(window):
    source, target = lengths(2000, 32), lengths(2000, 24)
    rows = pack_pairs(source, target, 32, 24, window=window)
    assert sorted(set(rows.tolist())) == list(range(rows.max() + 1))
    assert np.bincount(rows, source).max() <= 32
    assert np.bincount(rows, target).max() <= 24


def test_short_pairs_fill_their_rows():
    source = lengths(20_000, 50)
    rows = pack_pairs(source, source, 256, 256)
    assert source.sum() / (256 * (rows.max() + 1)) > 0.97


def test_nothing_needs_no_row():
    assert pack_pairs(lengths(0, 1), lengths(0, 1), 4, 4).tolist() == []
