"""Durations: the paper's unit in, steps out."""

import pytest

from zoo.config.duration import Clock, parse_duration

CLOCK = Clock(batch_size=1024, examples_per_epoch=1_281_167, tokens_per_batch=524_288)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("500 steps", 500),
        ("1 step", 1),
        ("90 epochs", 112_603),  # 90 x 1,281,167 / 1,024 = 112,602.6
        ("0.5 epochs", 626),
        ("1e6 examples", 977),
        ("1_024_000 examples", 1000),
        ("2.5e9 tokens", 4768),
        ("1 examples", 1),  # more than nothing is at least a step
        ("0 epochs", 0),
        (" 3steps ", 3),
    ],
)
def test_durations_become_steps(text, steps):
    assert CLOCK.steps(text) == steps


@pytest.mark.parametrize("text", ["ten epochs", "10", "10 epoch s", "-1 steps", "5 minutes", ""])
def test_what_is_no_duration_is_named(text):
    with pytest.raises(
        ValueError, match=r"is no duration: write a number and one of steps, epochs"
    ):
        parse_duration(text)


def test_no_run_is_endless():
    with pytest.raises(ValueError, match=r"'1e400 steps' is longer than any run"):
        parse_duration("1e400 steps")


def test_images_have_no_tokens():
    with pytest.raises(ValueError, match="have no tokens; use examples"):
        Clock(batch_size=2, examples_per_epoch=4).steps("10 tokens")
