"""Masked tokens and next sentences: two means, each over its own number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models.berts import make_model, make_params, run_head
from tests.tasks.bert_configs import FakeRows, bert_batch, bert_config, padded, split
from zoo.config import UserError
from zoo.tasks.masked_lm import MaskedLm

CONFIG = bert_config("masked_lm", "pretraining", data={"max_predictions": 3})
# Rows with 3, 1, 0 and 2 masked tokens: a mean of rows' means would be another number.
MASK = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]], bool)
PARAMS = make_params(CONFIG.model)
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def task_of(config):
    return MaskedLm.from_config(config)


def run(config, batch, prepare=True):
    task = task_of(config)

    def loss(params, batch):
        model = make_model(config.model, params)
        prepared = task.prepare(batch, jax.random.key(0)) if prepare else batch
        return task.loss(model, {n: x for n, x in prepared.items() if n != "keys"})

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(PARAMS, batch)


def test_losses_are_means_over_masked_tokens_and_over_rows():
    batch = bert_batch(mask=MASK)
    (loss, metrics), _ = run(CONFIG, batch)
    outputs = run_head(CONFIG.model, PARAMS, batch)
    nll = cross_entropy(outputs["masked"], batch["masked_targets"])[MASK].mean()
    next_nll = cross_entropy(outputs["next_sentence"], batch["next_sentence"]).mean()
    right = (outputs["masked"].argmax(-1) == batch["masked_targets"])[MASK].mean()
    guessed = (outputs["next_sentence"].argmax(-1) == batch["next_sentence"]).mean()
    expected = {
        "loss": nll + next_nll,
        "masked_lm_loss": nll,
        "masked_lm_accuracy": right,
        "next_sentence_loss": next_nll,
        "next_sentence_accuracy": guessed,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(loss, metrics["loss"], rtol=1e-6)


def test_microbatches_add_up_to_the_whole_batch_and_padding_adds_nothing():
    task, batch = task_of(CONFIG), bert_batch(mask=MASK)
    (loss, metrics), grads = run(CONFIG, batch)
    more = padded(batch, 2)
    more["mask"] = more["mask"].at[4:].set(True)  # it is their weight that leaves them out
    prepared = task.prepare(more, jax.random.key(0))
    parts = [run(CONFIG, part, prepare=False) for part in split(prepared, 3)]
    np.testing.assert_allclose(parts[0][0][0] + parts[1][0][0], loss, rtol=1e-5)
    for name, value in metrics.items():
        total = sum(part[0][1][name] for part in parts)
        np.testing.assert_allclose(total, value, rtol=1e-5, err_msg=name)
    total = jax.tree.map(jnp.add, parts[0][1], parts[1][1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), total, grads)


def test_evaluation_gives_the_same_means_from_any_batches():
    task, batch = task_of(CONFIG), bert_batch(mask=MASK)
    (_, expected), _ = run(CONFIG, batch)
    predict = jax.jit(lambda b: task.predict(make_model(CONFIG.model, PARAMS), b))
    parts = [predict(part) for part in split(batch, 2)]
    results = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = task.summarize(results, FakeRows())
    assert set(found) == set(task.metric_names)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_without_next_sentences_there_is_one_loss():
    changes = {"next_sentence": False, "max_predictions": 3}
    config = bert_config("masked_lm", "masked_lm", data=changes)
    batch = bert_batch(mask=MASK)
    batch.pop("next_sentence")
    params = make_params(config.model)
    task = task_of(config)
    prepared = task.prepare(batch, jax.random.key(0))
    prepared.pop("keys")
    loss, metrics = task.loss(make_model(config.model, params), prepared)
    assert (
        set(metrics) == {"loss", "masked_lm_loss", "masked_lm_accuracy"} == set(task.metric_names)
    )
    assert loss == metrics["masked_lm_loss"]


def test_label_smoothing_is_in_the_loss_and_not_in_what_is_reported_beside_it():
    config = CONFIG.replace(task=CONFIG.task.replace(label_smoothing=0.1))
    batch = bert_batch(mask=MASK)
    (_, plain), (_, smooth) = (run(c, batch)[0] for c in (CONFIG, config))
    np.testing.assert_allclose(smooth["masked_lm_loss"], plain["masked_lm_loss"], rtol=1e-6)
    assert abs(smooth["loss"] - plain["loss"]) > 1e-2


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"next_sentence": False}}, "'masked_lm' needs 'masked_lm'"),
        ({"model": {"head": "masked_lm"}}, "head is 'masked_lm', but .* needs 'pretraining'"),
        ({"task": {"loss": "sigmoid"}}, "softmax"),
    ],
)
def test_a_head_that_does_not_fit_the_data_is_refused(sections, message):
    with pytest.raises(UserError, match=message):
        task_of(bert_config("masked_lm", "pretraining", **sections))
