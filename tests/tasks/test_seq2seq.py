"""Sequence to sequence: what the decoder reads, and the loss of real targets alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.families import FAMILIES
from tests.models.encdecs import apply, make_model, make_params, small_config
from zoo.config import UserError
from zoo.config.schema import TaskConfig
from zoo.tasks.build import check_model, make_task
from zoo.tasks.seq2seq import Seq2Seq, shift_right


def test_targets_are_shifted_within_their_documents():
    target = jnp.asarray([[5, 6, 1, 7, 1, 0, 0], [5, 1, 8, 9, 1, 7, 1]])
    segment = jnp.asarray([[1, 1, 1, 2, 2, 0, 0], [1, 1, 2, 2, 2, 3, 3]])
    expected = [[0, 5, 6, 0, 7, 0, 0], [0, 5, 0, 8, 9, 0, 7]]
    np.testing.assert_array_equal(shift_right(target, segment), expected)
    other = [[9, 5, 6, 9, 7, 9, 0], [9, 5, 9, 8, 9, 9, 7]]
    np.testing.assert_array_equal(shift_right(target, segment, 9), other)


class NoRows:
    """What the summary does not look at."""

    shapes, classes, repeats = {}, (), 1

    def __len__(self):
        return 2

    def make(self, index, rng):
        raise NotImplementedError

    def describe(self, index):
        raise NotImplementedError


def make_rows():
    """Two pairs in the first row, one in the second."""
    rng = np.random.default_rng(0)
    rows = {
        "source": rng.integers(2, 13, (2, 6)),
        "source_segment": [[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0]],
        "source_position": [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 0, 0]],
        "target": rng.integers(2, 13, (2, 5)),
        "target_segment": [[1, 1, 2, 2, 2], [1, 1, 1, 0, 0]],
        "target_position": [[0, 1, 0, 1, 2], [0, 1, 2, 0, 0]],
    }
    rows = {name: jnp.asarray(value, jnp.int32) for name, value in rows.items()}
    return {**rows, "mask": rows["target_segment"] > 0, "weight": jnp.ones(2)}


def by_hand(cfg, params, rows, smoothing=0.0, z_loss=0.0):
    """The loss, its log likelihood and its hits of every pair, each in a batch by itself."""
    losses, nlls, hits = [], [], []
    for row, number in ((0, 1), (0, 2), (1, 1)):
        one = {}
        for side in ("source", "target"):
            inside = np.asarray(rows[f"{side}_segment"][row]) == number
            one[side] = rows[side][row][inside][None]
        target = one["target"]
        target_in = jnp.concatenate([jnp.zeros((1, 1), jnp.int32), target[:, :-1]], 1)
        logits = np.asarray(apply(cfg, params, one["source"], target_in))[0].astype(np.float64)
        log_z = np.log(np.exp(logits).sum(-1))
        log_p = logits - log_z[:, None]
        nll = -log_p[np.arange(len(log_p)), np.asarray(target[0])]
        losses.append((1 - smoothing) * nll - smoothing * log_p.mean(-1) + z_loss * log_z**2)
        nlls.append(nll)
        hits.append(logits.argmax(-1) == np.asarray(target[0]))
    return tuple(np.concatenate(parts) for parts in (losses, nlls, hits))


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1, "z_loss": 0.01}], ids=str)
def test_the_loss_is_the_mean_over_all_real_targets(settings):
    cfg = small_config()
    params, rows = make_params(cfg), make_rows()
    task = Seq2Seq(13, TaskConfig(**settings))
    batch = task.prepare(rows, jax.random.key(0))
    loss, metrics = task.loss(make_model(cfg, params), batch)
    expected, _, hits = by_hand(cfg, params, rows, settings.get("label_smoothing", 0.0),
                                settings.get("z_loss", 0.0))  # fmt: skip
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], hits.mean(), rtol=1e-5)


def test_an_evaluation_is_over_tokens_and_without_smoothing():
    cfg = small_config()
    params, rows = make_params(cfg), make_rows()
    task = Seq2Seq(13, TaskConfig(label_smoothing=0.1))
    results = jax.device_get(task.predict(make_model(cfg, params), rows))
    _, nll, hits = by_hand(cfg, params, rows)
    found = task.summarize(results, NoRows())
    assert found["tokens"] == 8
    np.testing.assert_allclose(found["loss"], nll.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["perplexity"], np.exp(nll.mean()), rtol=1e-4)
    np.testing.assert_allclose(found["accuracy"], hits.mean())


def test_the_task_is_that_of_pairs_and_of_spans():
    assert isinstance(make_task(FAMILIES["pairs"].config()), Seq2Seq)
    assert isinstance(make_task(FAMILIES["spans"].config()), Seq2Seq)
    wrong = FAMILIES["pairs"].config(model={**FAMILIES["decoder"].sections["model"]})
    with pytest.raises(UserError, match="'seq2seq' is for a model of family 'transformer'"):
        check_model(wrong)
