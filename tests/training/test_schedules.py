"""Schedules against their closed formulas, at the borders too."""

import math

import jax
import numpy as np
import pytest

from zoo.config import UserError
from zoo.config.schema import OptimizerConfig
from zoo.training.schedules import make_schedule

PEAK, FINAL, TOTAL, WARMUP, COOLDOWN = 0.5, 0.02, 100, 10, 20


def schedule_of(name, *, total=TOTAL, warmup=WARMUP, cooldown=0, final_lr=0.0, lr=PEAK):
    cfg = OptimizerConfig(schedule=name, lr=lr, final_lr=final_lr)
    return make_schedule(cfg, total_steps=total, warmup_steps=warmup, cooldown_steps=cooldown)


def line(start, end, fraction):
    return start + (end - start) * fraction


def cosine(t):
    return FINAL + (PEAK - FINAL) * (1 + math.cos(math.pi * (t - WARMUP) / (TOTAL - WARMUP))) / 2


def linear(t):
    return line(PEAK, FINAL, (t - WARMUP) / (TOTAL - WARMUP))


def constant(t):
    return PEAK


def rsqrt(t):
    return PEAK * math.sqrt(WARMUP / t)


@pytest.mark.parametrize(
    ("name", "body", "cooldown"),
    [
        ("cosine", cosine, 0),
        ("linear", linear, 0),
        ("constant", constant, 0),
        ("constant", constant, COOLDOWN),
        ("rsqrt", rsqrt, 0),
        ("rsqrt", rsqrt, COOLDOWN),
        ("wsd", constant, COOLDOWN),
    ],
)
def test_schedule_follows_its_formula_at_every_step(name, body, cooldown):
    reaches_final = cooldown or name in ("cosine", "linear")
    schedule = schedule_of(name, cooldown=cooldown, final_lr=FINAL if reaches_final else 0.0)

    def expected(t):
        if t < WARMUP:
            return PEAK * t / WARMUP
        if t > TOTAL - cooldown:
            start = TOTAL - cooldown
            return line(body(start), FINAL, (t - start) / cooldown)
        return body(t)

    steps = range(TOTAL + 1)
    np.testing.assert_allclose(
        [float(schedule(t)) for t in steps], [expected(t) for t in steps], rtol=1e-5, atol=1e-8
    )
    assert float(schedule(0)) == 0
    assert float(schedule(WARMUP)) == pytest.approx(PEAK)
    if reaches_final:
        assert float(schedule(TOTAL)) == pytest.approx(FINAL, rel=1e-5)
        assert float(schedule(TOTAL - 1)) > FINAL
    # A run that is asked to go on does not climb back or go below.
    assert float(schedule(2 * TOTAL)) == pytest.approx(float(schedule(TOTAL)), rel=1e-6)


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
def test_without_warmup_the_first_step_has_the_peak(name):
    assert float(schedule_of(name, warmup=0)(0)) == pytest.approx(PEAK)


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "rsqrt"])
def test_a_run_may_be_warmup_alone(name):
    schedule = schedule_of(name, total=WARMUP)
    np.testing.assert_allclose(float(schedule(WARMUP - 1)), PEAK * (WARMUP - 1) / WARMUP, rtol=1e-6)


def test_cooldown_may_start_where_warmup_ends():
    schedule = schedule_of("wsd", total=30, warmup=10, cooldown=20)
    np.testing.assert_allclose(
        [float(schedule(t)) for t in (9, 10, 20, 30)], [0.45, 0.5, 0.25, 0], atol=1e-7
    )


def test_schedule_takes_a_traced_count():
    schedule = schedule_of("rsqrt", cooldown=COOLDOWN)
    steps = np.arange(TOTAL, dtype=np.int32)
    traced = jax.jit(jax.vmap(schedule))(steps)
    np.testing.assert_allclose(traced, [float(schedule(int(t))) for t in steps], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "constant", "warmup": 60, "cooldown": 41}, "do not fit in the 100 steps"),
        ({"name": "cosine", "warmup": 101}, "do not fit"),
        ({"name": "cosine", "cooldown": 5}, "comes down by itself"),
        ({"name": "linear", "cooldown": 5}, "comes down by itself"),
        ({"name": "wsd"}, "set optimizer.cooldown"),
        ({"name": "rsqrt", "warmup": 0}, "set optimizer.warmup"),
        ({"name": "constant", "final_lr": 0.1}, "never comes to optimizer.final_lr 0.1"),
        ({"name": "rsqrt", "final_lr": 0.1}, "never comes to optimizer.final_lr 0.1"),
        ({"name": "cosine", "lr": 0.0}, "above 0"),
    ],
)
def test_contradictory_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        schedule_of(**settings)
