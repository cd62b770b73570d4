"""The classification task: losses against optax's and PyTorch's formulas, and who draws what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import tiny_batch, tiny_config
from zoo.tasks.classify import Classify

LOGITS = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32) * 3
LABEL = np.array([3, 1, 4, 1])


def task(**sections):
    return Classify.from_config(tiny_config(**sections))


def on_device(size):
    return jax.tree.map(jnp.array, tiny_batch(size))


def bce(logits, target):
    """Binary cross entropy by its definition, in float64."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def test_losses_equal_their_definitions():
    target = np.eye(10)[LABEL] * 0.9 + 0.01
    log_softmax = LOGITS - np.log(np.exp(LOGITS.astype(np.float64)).sum(1, keepdims=True))
    expected = {
        "softmax": -(target * log_softmax).sum(1),
        "sigmoid": bce(LOGITS, target).sum(1),
        "sigmoid_mean": bce(LOGITS, target).mean(1),
    }
    for name, value in expected.items():
        found = task(task={"loss": name}).losses(jnp.array(LOGITS), jnp.array(target, jnp.float32))
        np.testing.assert_allclose(found, value, rtol=2e-6, err_msg=name)


def test_label_smoothing_spreads_over_all_classes():
    prepared = task(task={"label_smoothing": 0.1}).prepare(on_device(4), jax.random.key(0))
    label = tiny_batch(4)["label"]
    np.testing.assert_allclose(prepared["target"][np.arange(4), label], 0.9 + 0.01, rtol=1e-6)
    np.testing.assert_allclose(prepared["target"].sum(1), 1, rtol=1e-6)


def test_binary_targets_count_every_mixed_class_fully():
    sections = {"task": {"binary_targets": True, "loss": "sigmoid"}, "data": MIXED}
    prepared = task(**sections).prepare(on_device(4), jax.random.key(0))
    label = tiny_batch(4)["label"]
    expected = np.zeros((4, 10))
    expected[np.arange(4), label] = expected[np.arange(4), np.roll(label, 1)] = 1
    np.testing.assert_array_equal(prepared["target"], expected)


MIXED = {"mix": {"mixup": 5.0}}


def test_mixing_pairs_other_images_where_neighbours_share_one():
    data = {"mix": {"mixup": 5.0}, "repeats": 2}
    batch = {**on_device(8), "label": jnp.repeat(jnp.arange(4), 2)}
    target = task(data=data).prepare(batch, jax.random.key(0))["target"]
    assert np.all(np.count_nonzero(target, axis=1) == 2)


def test_normalising_uses_one_mean_or_one_a_channel():
    data = {"channels": 3, "pixel_mean": (100.0, 110.0, 120.0), "pixel_std": (10.0, 20.0, 30.0)}
    image = np.full((1, 8, 8, 3), 130, np.uint8)
    found = task(data=data, model={"channels": 3}).normalize(jnp.array(image))
    np.testing.assert_allclose(found[0, 0, 0], [3.0, 1.0, 1 / 3], rtol=1e-6)
    grey = task().normalize(jnp.array(image[..., :1]))
    np.testing.assert_allclose(grey, (130 - 127.5) / 127.5, rtol=1e-6)


def test_each_example_draws_from_a_key_of_its_own_and_each_step_from_another():
    prepare = task().prepare
    keys = jax.random.key_data(prepare(on_device(16), jax.random.key(0))["keys"])
    assert len(np.unique(keys, axis=0)) == 16
    fewer = jax.random.key_data(prepare(on_device(8), jax.random.key(0))["keys"])
    np.testing.assert_array_equal(keys[:8], fewer)
    other = jax.random.key_data(prepare(on_device(16), jax.random.key(1))["keys"])
    assert not np.any(np.all(keys == other, axis=1))


def test_predictions_say_what_the_logits_say():
    batch = {**on_device(4), "label": jnp.array(LABEL)}
    found = task().predict(lambda image: jnp.array(LOGITS), batch)
    np.testing.assert_array_equal(found["prediction"], LOGITS.argmax(1))
    order = (-LOGITS).argsort(1)
    rank = [int(np.flatnonzero(row == label)[0]) for row, label in zip(order, LABEL, strict=True)]
    np.testing.assert_array_equal(found["label_rank"], rank)
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    np.testing.assert_allclose(found["probability"], softmax.max(1), rtol=1e-5)
    np.testing.assert_allclose(found["label_probability"], softmax[range(4), LABEL], rtol=1e-5)


@pytest.mark.parametrize("label", range(3))
def test_logits_that_say_nothing_are_not_correct(label):
    """A zero head gives equal logits, a diverged model NaN: neither knows the label."""
    logits = jnp.array([[0.0, 0.0, 0.0], [np.nan, np.nan, np.nan], [1.0, np.nan, 1.0]])
    batch = {**on_device(3), "label": jnp.full(3, label)}
    model = {"num_classes": 3}
    found = task(model=model).predict(lambda image: logits, batch)
    assert int(found["label_rank"][0]) == label  # as argmax: the first of equals wins
    assert np.all(found["label_rank"][1:] > 0)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_probabilities_are_those_of_the_loss(loss):
    found = task(task={"loss": loss}).probabilities(jnp.array(LOGITS))
    independent = 1 / (1 + np.exp(-LOGITS))
    assert np.allclose(found.sum(1), 1) == (loss == "softmax")
    assert np.allclose(found, independent, rtol=1e-5) == (loss == "sigmoid")
