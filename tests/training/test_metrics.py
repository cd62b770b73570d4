"""Rates, progress and the signals that stop a run."""

import os
import signal

import jax
import pytest

from tests.tiny import tiny_config
from zoo.config.vit import macs
from zoo.training.loop import Diverged, check_finite
from zoo.training.metrics import Meter, Progress
from zoo.training.signals import stop_requests


@pytest.fixture
def clock(monkeypatch):
    """The time, as a list whose one number the test sets."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_rates_count_steps_since_the_last_time_without_pauses(clock, monkeypatch):
    monkeypatch.setattr("zoo.training.metrics.peak_flops", lambda device: 1e9)
    config = tiny_config(data={"batch_size": 24}, model={"num_classes": 10})
    meter = Meter(config)
    assert meter.rates(10) == {}  # the first step compiles
    meter.start(10)
    clock[0] = 2.0
    with meter.paused():
        clock[0] = 102.0
    clock[0] = 104.0
    found = meter.rates(15)
    assert found["examples_per_second"] == pytest.approx(5 * 24 / 4)
    # Forward is a multiply and an add; backward costs two forwards.
    flops = 3 * 2 * macs(config.model) * found["examples_per_second"]
    assert found["mfu"] == pytest.approx(flops / (1e9 * jax.device_count()))
    clock[0] = 105.0
    assert meter.rates(17)["examples_per_second"] == pytest.approx(2 * 24 / 1)


def test_a_line_says_where_the_run_is_and_how_long_it_will_take(clock, capsys):
    progress = Progress(start=10, total=110)
    clock[0] = 90.0  # compiling
    progress.update(11)
    progress.log(11, {"loss": 2.5})
    clock[0] = 150.0
    progress.update(31)
    progress.log(31, {"loss": 0.12345678, "grad_norm": 7.0})
    progress.close()
    first, second = capsys.readouterr().err.splitlines()
    assert first == "step 11/110  loss 2.5"
    assert second == "step 31/110  loss 0.1235  left 03:57"


def test_a_signal_is_noted_and_a_second_interrupt_stops_at_once():
    before = signal.getsignal(signal.SIGINT)
    with stop_requests(0) as asked:
        assert not asked(1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("bad", [{"loss": float("nan")}, {"grad_norm": float("inf")}])
@pytest.mark.parametrize(("saved", "kept"), [(4, "checkpoint of step 4 is kept"), (0, "no step")])
def test_whatever_is_not_finite_stops_with_the_step_and_what_is_kept(bad, saved, kept):
    check_finite(7, {"loss": 1.0, "grad_norm": 2.0}, saved)
    with pytest.raises(Diverged, match=rf"{next(iter(bad))} is (nan|inf) at step 7: .*{kept}"):
        check_finite(7, {"loss": 1.0, "grad_norm": 2.0, **bad}, saved)
