"""Classes of words: means over words, and entities by CoNLL's rules."""

import jax
import numpy as np
import optax
import pytest

from tests.models.berts import make_model, make_params, run_head
from tests.tasks.bert_configs import FakeRows, bert_batch, bert_config, padded, split
from zoo.config import UserError
from zoo.tasks.token_classify import TokenClassify, entities, entity_scores

CONFIG = bert_config("token_classification", "token_classification", model={"num_classes": 5})
PARAMS = make_params(CONFIG.model)
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def rows():
    batch = bert_batch()
    # The first piece of each word, in rows with another number of words each.
    mask = np.zeros((4, 8), bool)
    for row, places in enumerate([(1, 2, 4, 6), (1,), (1, 3), (2,)]):
        mask[row, list(places)] = True
    return batch | {"label": batch["tags"], "mask": mask}


def test_the_loss_is_the_mean_over_words():
    task, batch = TokenClassify.from_config(CONFIG), rows()
    model = make_model(CONFIG.model, PARAMS)
    prepared = task.prepare(padded(batch, 2), jax.random.key(0))
    prepared.pop("keys")
    run = jax.jit(lambda b: task.loss(model, b))
    loss, metrics = run(prepared)
    logits = run_head(CONFIG.model, PARAMS, batch)["tags"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["tags"])
    np.testing.assert_allclose(loss, losses[batch["mask"]].mean(), rtol=1e-5)
    right = (logits.argmax(-1) == batch["tags"])[batch["mask"]].mean()
    np.testing.assert_allclose(metrics["accuracy"], right, rtol=1e-5)
    np.testing.assert_allclose(sum(run(part)[0] for part in split(prepared, 1)), loss, rtol=1e-5)
    results = jax.tree.map(np.asarray, task.predict(model, batch))
    found = task.summarize(results, FakeRows(tuple("abcde")))
    assert found == pytest.approx({"loss": float(loss), "accuracy": float(right)})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER O", {("PER", 1, 3)}),
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),  # B- begins another one
        ("I-LOC I-LOC O", {("LOC", 0, 2)}),  # I- after nothing begins one
        ("B-PER I-LOC", {("PER", 0, 1), ("LOC", 1, 2)}),  # so does another type
        ("B-LOC O I-LOC", {("LOC", 0, 1), ("LOC", 2, 3)}),
        ("O O", set()),
    ],
)
def test_entities_are_those_of_conlleval(tags, expected):
    assert entities(tags.split()) == expected


def test_an_entity_counts_if_all_of_it_is_right():
    label = [{("PER", 0, 2), ("LOC", 3, 4)}, {("LOC", 0, 1)}]
    # The first one is cut short, the second is right, a third is wrong, the last is missed.
    prediction = [{("PER", 0, 1), ("PER", 2, 3), ("LOC", 3, 4)}, set()]
    assert entity_scores(label, prediction) == pytest.approx(
        {"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3}
    )
    assert entity_scores([set()], [set()]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0}


def test_entities_are_scored_where_the_classes_are_tags():
    task = TokenClassify.from_config(CONFIG)
    mask = np.zeros((2, 8), bool)
    mask[0, [1, 3, 4]] = mask[1, [1, 2]] = True
    label, prediction = np.zeros((2, 2, 8), np.int32)
    label[0, [1, 3]] = prediction[0, [1, 3]] = (1, 2)  # B-PER, a piece of it, I-PER
    prediction[0, 2] = 3  # on a piece that does not count
    label[1, 1], prediction[1, 2] = 3, 3
    results = {
        "label": label,
        "prediction": prediction,
        "mask": mask,
        "loss": np.array([2.0, 3.0], np.float32),
    }
    found = task.summarize(results, FakeRows(TAGS))
    expected = {"loss": 1.0, "accuracy": 3 / 5, "f1": 1 / 2, "precision": 1 / 2, "recall": 1 / 2}
    assert found == pytest.approx(expected)
    assert set(found) == set(task.metric_names)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="'token_classification' needs 'token_classification'"):
        TokenClassify.from_config(
            bert_config("token_classification", "classification", model={"num_classes": 2})
        )
    with pytest.raises(UserError, match="z_loss"):
        TokenClassify.from_config(CONFIG.replace(task=CONFIG.task.replace(z_loss=0.1)))
