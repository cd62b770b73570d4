"""Classes of texts and numbers: losses by their definitions, GLUE's metrics by hand."""

import jax
import numpy as np
import optax
import pytest

from tests.models.berts import make_model, make_params, run_head
from tests.tasks.bert_configs import FakeRows, bert_batch, bert_config, padded, split
from zoo.config import UserError
from zoo.tasks.text_classify import TextClassify, class_scores, correlations

CLASSES = bert_config("text_classification", "classification", model={"num_classes": 3})
NUMBERS = bert_config(
    "text_classification", "classification", model={"num_classes": 1}, data={"regression": True}
)


def rows(config):
    batch = bert_batch()
    return batch | {"label": batch["number" if config is NUMBERS else "class"]}


def loss_of(config, batch, keys=False):
    task = TextClassify.from_config(config)
    prepared = task.prepare(batch, jax.random.key(0))
    if not keys:
        prepared.pop("keys")  # no dropout
    model = make_model(config.model, make_params(config.model))
    return task, jax.jit(lambda b: task.loss(model, b)), prepared


@pytest.mark.parametrize("config", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_the_loss_is_the_mean_over_real_rows(config):
    batch = rows(config)
    _, run, prepared = loss_of(config, padded(batch, 2))
    loss, metrics = run(prepared)
    logits = run_head(config.model, make_params(config.model), batch)["class"]
    if config is NUMBERS:
        expected = np.mean((logits[:, 0] - batch["number"]) ** 2)
        assert set(metrics) == {"loss"}
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["class"])
        expected = losses.mean()
        accuracy = np.mean(logits.argmax(-1) == batch["class"])
        np.testing.assert_allclose(metrics["accuracy"], accuracy, rtol=1e-6)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    parts = [run(part)[0] for part in split(prepared, 3)]
    np.testing.assert_allclose(sum(parts), loss, rtol=1e-5)


def test_training_drops_and_evaluation_does_not():
    batch = rows(CLASSES)
    task, run, prepared = loss_of(CLASSES, batch, keys=True)
    with_keys = run(prepared)[0]
    prepared.pop("keys")
    without = run(prepared)[0]
    assert abs(with_keys - without) > 1e-4
    model = make_model(CLASSES.model, make_params(CLASSES.model))
    results = jax.tree.map(np.asarray, task.predict(model, batch))
    np.testing.assert_allclose(results["loss"].mean(), without, rtol=1e-5)
    found = task.summarize(results, FakeRows(("a", "b", "c")))
    assert set(found) == set(task.metric_names)
    assert found["accuracy"] == np.mean(results["prediction"] == batch["class"])


def test_label_smoothing():
    smooth = CLASSES.replace(task=CLASSES.task.replace(label_smoothing=0.3))
    batch = rows(CLASSES)
    logits = run_head(CLASSES.model, make_params(CLASSES.model), batch)["class"]
    target = 0.7 * jax.nn.one_hot(batch["class"], 3) + 0.1
    expected = optax.softmax_cross_entropy(logits, target).mean()
    _, run, prepared = loss_of(smooth, batch)
    np.testing.assert_allclose(run(prepared)[0], expected, rtol=1e-5)


def test_scores_of_two_classes_by_hand():
    # 3 true positives, 1 false positive, 2 false negatives, 4 true negatives.
    label = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])
    prediction = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    matthews = (3 * 4 - 1 * 2) / np.sqrt((3 + 1) * (3 + 2) * (4 + 1) * (4 + 2))
    assert class_scores(label, prediction, 2) == pytest.approx(
        {"accuracy": 0.7, "f1": 2 * 3 / (2 * 3 + 1 + 2), "matthews_correlation": matthews}
    )


def test_f1_of_more_classes_is_the_mean_of_theirs():
    label, prediction = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    each = (2 * 1 / 4, 2 * 1 / 3, 2 * 2 / 5)
    assert class_scores(label, prediction, 3)["f1"] == pytest.approx(np.mean(each))
    # A fourth class, neither there nor predicted, has 0 and counts.
    assert class_scores(label, prediction, 4)["f1"] == pytest.approx(sum(each) / 4)


def test_guessing_one_class_correlates_with_nothing():
    found = class_scores(np.array([0, 1, 0]), np.zeros(3, int), 2)
    assert (found["matthews_correlation"], found["f1"]) == (0.0, 0.0)


def test_correlations_by_hand():
    label, prediction = np.array([0.0, 1, 2, 3]), np.array([0.0, 1, 2, 30], np.float32)
    ranks_swapped = np.array([1.0, 0, 2, 3])
    assert correlations(label, prediction)["spearman"] == pytest.approx(1)
    centred = label - 1.5, prediction - prediction.mean()
    pearson = np.dot(*centred) / np.sqrt(
        np.dot(centred[0], centred[0]) * np.dot(centred[1], centred[1])
    )
    assert correlations(label, prediction)["pearson"] == pytest.approx(pearson)
    # 1 - 6 sum d^2 / n (n^2 - 1), of ranks
    assert correlations(label, ranks_swapped)["spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert correlations(label, np.ones(4)) == {"pearson": 0.0, "spearman": 0.0}


def test_regression_is_summarized_by_correlations():
    task = TextClassify.from_config(NUMBERS)
    label = np.array([0.0, 1, 2, 3], np.float32)
    results = {"label": label, "prediction": -label, "loss": np.array([1.0, 2, 3, 6], np.float32)}
    found = task.summarize(results, FakeRows())
    assert found == pytest.approx({"pearson": -1, "spearman": -1, "loss": 3})
    assert set(found) == set(task.metric_names)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"head": "pretraining"}}, "'text_classification' needs 'classification'"),
        ({"task": {"z_loss": 0.1}, "model": {"num_classes": 2}}, "z_loss is 0.1"),
        ({"model": {"num_classes": 2}, "data": {"regression": True}}, "num_classes is 2"),
        (
            {
                "model": {"num_classes": 1},
                "data": {"regression": True},
                "task": {"label_smoothing": 0.1},
            },
            "label_smoothing is 0.1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(sections, message):
    with pytest.raises(UserError, match=message):
        TextClassify.from_config(bert_config("text_classification", "classification", **sections))
