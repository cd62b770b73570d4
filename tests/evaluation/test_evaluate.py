"""Exact evaluation: every example counts once, whatever the batch, the mesh and the padding."""

import jax
import numpy as np
import pytest

from tests.tiny import tiny_config
from zoo.config import UserError
from zoo.config.schema import MeshConfig
from zoo.data.sources import open_source
from zoo.evaluation.evaluate import Evaluator, evaluate, make_evaluator
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import init_params, make_task

SPLIT = "test[:50]"
DATA = tiny_config().data


def numpy_evaluator(predict=None):
    """An evaluator without a model: it predicts each example's index modulo ten."""

    def by_index(params, batch):
        prediction = batch["index"] % 10
        # Padding and unreadable images must not count: here they would be far off.
        real = batch["weight"] > 0
        return {
            **{name: batch[name] for name in ("index", "label", "weight")},
            "prediction": prediction,
            "label_rank": np.where(real, (prediction - batch["label"]) % 10, 0),
            "loss": np.where(real, batch["index"] / 7, 1e9).astype(np.float32),
        }

    return Evaluator(
        make_mesh(MeshConfig(data=1), jax.devices()[:1]),
        make_task(tiny_config()),
        put=lambda batch: batch,
        predict=predict or by_index,
        lower=lambda params: None,
    )


@pytest.mark.parametrize("batch_size", [16, 50, 64])
def test_each_example_counts_once_whatever_the_batch(batch_size):
    data = DATA.replace(eval_batch_size=batch_size)
    found = evaluate(numpy_evaluator(), {}, data, SPLIT)
    source = open_source(data, SPLIT)
    label = np.array([source[i]["label"] for i in range(50)])
    rank = (np.arange(50) % 10 - label) % 10
    np.testing.assert_array_equal(found.index, np.arange(50))
    np.testing.assert_array_equal(found.results["label"], label)
    assert found.metrics == {
        "loss": pytest.approx(np.mean(np.arange(50) / 7), rel=1e-6),
        "accuracy": np.mean(rank == 0),
        "top5_accuracy": np.mean(rank < 5),
        "count": 50,
    }


def test_any_number_of_devices_gives_the_same_results():
    config = tiny_config(data={"eval_batch_size": 16})
    params = init_params(config, jax.random.key(0))
    one, all_devices = (
        evaluate(
            make_evaluator(config, make_mesh(config.mesh, devices)), params, config.data, SPLIT
        )
        for devices in (jax.devices()[:1], jax.devices())
    )
    np.testing.assert_array_equal(one.results["label"], all_devices.results["label"])
    for name, value in one.results.items():
        np.testing.assert_allclose(value, all_devices.results[name], rtol=1e-5, err_msg=name)


def test_a_batch_that_does_not_divide_over_the_devices_is_named():
    config = tiny_config(data={"eval_batch_size": 20})
    with pytest.raises(UserError, match=r"data.eval_batch_size 20 does not divide over 8 devices"):
        make_evaluator(config)


def test_an_example_that_is_counted_twice_is_our_fault_and_not_passed_over():
    right = numpy_evaluator().predict

    def twice(params, batch):
        return {**right(params, batch), "index": batch["index"] // 2}

    with pytest.raises(RuntimeError, match="saw 25 of 50 examples, some 2 times"):
        evaluate(numpy_evaluator(twice), {}, DATA, SPLIT)


class BrokenSource:
    """A source whose examples at some places cannot be read."""

    def __init__(self, broken):
        self.source = open_source(DATA, SPLIT)
        self.classes, self.broken = self.source.classes, broken

    def __len__(self):
        return 50

    def __getitem__(self, index):
        example = self.source[index]
        return {**example, "image": b"broken"} if index in self.broken else example

    def describe(self, index):
        return self.source.describe(index)


def evaluate_broken(monkeypatch, data, broken):
    monkeypatch.setattr("zoo.data.image_rows.open_source", lambda *_: BrokenSource(broken))
    return evaluate(numpy_evaluator(), {}, data, SPLIT)


def test_unreadable_images_are_counted_apart_or_fatal_by_choice(monkeypatch):
    skip = DATA.replace(on_bad_image="skip")
    found = evaluate_broken(monkeypatch, skip, {3, 49})
    assert (found.metrics["count"], found.metrics["unreadable"]) == (48, 2)
    assert not {3, 49} & set(found.index.tolist())
    with pytest.raises(UserError, match=r"test\[3\]"):
        evaluate_broken(monkeypatch, DATA, {3, 49})
    with pytest.raises(UserError, match=r"none of the 50 images"):
        evaluate_broken(monkeypatch, skip, set(range(50)))
