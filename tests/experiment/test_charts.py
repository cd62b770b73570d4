"""What the curves of the report keep, and where their ticks lie."""

import numpy as np
import pytest

from zoo.experiment.charts import (
    Series,
    chart,
    format_number,
    log_ticks,
    nice_ticks,
    running_mean,
    thin,
)

NAN = float("nan")


def series(*y: float, name: str = "train", noisy: bool = True) -> Series:
    return Series(name, name, np.arange(1.0, len(y) + 1), np.array(y, float), noisy)


@pytest.mark.parametrize("seed", range(3))
def test_thinning_keeps_ends_and_extremes(seed):
    y = np.random.default_rng(seed).normal(size=12_345)
    kept = thin(y, 1000)
    assert len(kept) <= 1002
    assert np.all(np.diff(kept) > 0)
    assert {0, len(y) - 1, int(y.argmin()), int(y.argmax())} <= set(kept.tolist())
    assert np.array_equal(thin(y[:1000], 1000), np.arange(1000))


def test_thinning_keeps_what_is_not_finite():
    y = np.linspace(0, 1, 5000)
    y[1717] = NAN
    y[4000:] = NAN
    assert {1717, 3999, 4999} <= set(thin(y, 100).tolist())


def test_mean_follows_a_line_and_ignores_a_spike():
    y = np.linspace(5, 9, 101)
    at = np.arange(20, 80, 7)
    assert running_mean(y, at, 11) == pytest.approx(y[at])
    y[50] = 1e6
    assert running_mean(y, np.array([48, 50]), 11) == pytest.approx(y[[48, 49]], abs=0.1)
    y[50] = NAN
    assert np.isnan(running_mean(y, np.array([48, 50]), 11)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 100.0, [0, 20, 40, 60, 80, 100]),
        (0.0, 2.8, [0, 0.5, 1, 1.5, 2, 2.5]),
        (0.0, 3e-4, [0, 5e-5, 1e-4, 1.5e-4, 2e-4, 2.5e-4, 3e-4]),
        (-0.31, 0.3, [-0.2, 0, 0.2]),
    ],
)
def test_ticks_are_round_and_inside(low, high, ticks):
    assert nice_ticks(low, high, 6 if low == 0 else 4) == ticks


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.02, 2.4, [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]),
        (1e-5, 10.0, [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10]),
    ],
)
def test_logarithmic_ticks(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_numbers_on_an_axis_are_short():
    values = [0.0, 0.05, 3e-5, 1500.0, 50_000.0, 1.2e6, 0.6000000000000001]
    assert [format_number(v) for v in values] == ["0", "0.05", "3e-5", "1.5k", "50k", "1.2M", "0.6"]


def test_log_scale_is_offered_where_it_shows_more():
    def scales(*y, unit=""):
        figure = chart("Loss", [series(*y)], unit=unit)
        assert figure is not None
        return [plot["log"] for plot in figure["plots"]]

    assert scales(1, 20) == [False, True]
    assert scales(1, 2) == [False]
    assert scales(0, 20) == [False]
    assert scales(1, 20, unit="%") == [False]


def test_every_point_lies_in_the_drawing():
    for y in ([2.0], [0.0], [-3.0], [1, 1, 1], [5, NAN, 0.001], [-2, 7], [1e-9, 1e9]):
        figure = chart("Loss", [series(*y), series(*y[::-1], name="eval")])
        assert figure is not None
        for plot in figure["plots"]:
            drawn = [p for path, _ in plot["lines"] for p in path.replace("h0", "").split("M") if p]
            points = [tuple(map(float, p.split())) for d in drawn for p in d.split("L")]
            assert len(points) >= 2 * np.isfinite(y).sum()
            assert all(0 <= v <= 100 for point in points for v in point)
            assert all(0 <= at <= 100 for at, _ in plot["ticks"])


@pytest.mark.parametrize("lasts", [(0, 0, 0, 0), (1, 1, 0.99, 1), (0.5, 0.5, 0.5, 0)])
def test_labels_do_not_cover_each_other(lasts):
    curves = [series(0, 1, last, name=f"split {i}") for i, last in enumerate(lasts)]
    figure = chart("Loss", curves, label_gap=9.0)
    assert figure is not None
    places = [place for place, _, _ in figure["plots"][0]["labels"]]
    assert np.diff(places).min() >= 9 - 1e-9
    assert min(places) >= 0
    assert max(places) <= 100


def test_a_curve_without_a_name_is_drawn_and_not_labelled():
    drawn = chart("Loss", [series(1, 2), series(3, 4, name="")])
    assert not drawn["labelled"]
    (plot,) = drawn["plots"]
    assert sum("dots" not in kind for _, kind in plot["lines"]) == 2
    assert [name for _, name, _ in plot["labels"]] == ["train"]
    assert [one["name"] for one in drawn["data"]["series"]] == ["train"]
    assert drawn["last"] == [("train", 2.0)]


def test_nothing_finite_is_no_chart():
    assert chart("Loss", []) is None
    assert chart("Loss", [series(NAN, NAN)]) is None
