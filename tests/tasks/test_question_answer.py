"""Answers: spans against brute force, thresholds by hand, SQuAD's rules of comparing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models.berts import make_model, make_params, run_head
from tests.tasks.bert_configs import FakeRows, bert_batch, bert_config, padded, split
from zoo.config import UserError
from zoo.tasks.question_answer import (
    Answer,
    QuestionAnswer,
    best_answers,
    best_of,
    best_spans,
    best_threshold,
    exact,
    f1,
    normalize_answer,
)

CONFIG = bert_config("question_answering", "question_answering", data={"max_answer": 3})
PARAMS = make_params(CONFIG.model)


def rows():
    mask = np.zeros((4, 8), bool)
    mask[:, 3:5] = True
    return bert_batch(mask=mask, example=np.array([0, 0, 1, 2], np.int32))


def test_the_loss_is_the_mean_of_start_and_end_over_windows_and_padding_is_no_answer():
    task, batch = QuestionAnswer.from_config(CONFIG), rows()
    prepared = task.prepare(padded(batch, 2), jax.random.key(0))
    prepared.pop("keys")
    model = make_model(CONFIG.model, PARAMS)
    run = jax.jit(lambda b: task.loss(model, b))
    loss, metrics = run(prepared)
    outputs, real = run_head(CONFIG.model, PARAMS, batch), batch["segment"] > 0
    expected, right = 0.0, True
    for name in ("start", "end"):
        logits = jnp.where(real, outputs[name], -jnp.inf)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[name])
        expected += losses.mean() / 2
        right &= logits.argmax(-1) == batch[name]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], right.mean(), rtol=1e-6)
    np.testing.assert_allclose(sum(run(part)[0] for part in split(prepared, 3)), loss, rtol=1e-5)
    results = jax.tree.map(np.asarray, jax.jit(lambda b: task.predict(model, b))(batch))
    np.testing.assert_allclose(results["loss"].mean(), loss, rtol=1e-5)
    null = outputs["start"][:, 0] + outputs["end"][:, 0]
    np.testing.assert_allclose(results["null_score"], null, rtol=1e-5)


@pytest.mark.parametrize("max_answer", [1, 3, 99])
def test_best_spans_are_those_of_all_spans(max_answer):
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, 3, 9)).astype(np.float32)
    mask = rng.random((3, 9)) < 0.7
    mask[2] = False
    found = jax.tree.map(
        np.asarray, jax.jit(best_spans, static_argnums=3)(start, end, mask, max_answer)
    )
    for b in range(3):
        spans = {
            (i, j): start[b, i] + end[b, j]
            for i in range(9)
            for j in range(i, min(9, i + max_answer))
            if mask[b, i] and mask[b, j]
        }
        expected = sorted(spans, key=spans.__getitem__, reverse=True)[:20]
        real = found["score"][b] > -1e29
        actual = list(zip(found["start"][b][real], found["end"][b][real], strict=True))
        assert actual == expected
        np.testing.assert_allclose(found["score"][b][real], [spans[s] for s in expected], rtol=1e-5)


class FakeQuestions(FakeRows):
    """Contexts of words w0, w1, ...; token 7 is a space that has no text."""

    def __init__(self, *gold):
        super().__init__()
        self.gold = gold

    def context_span(self, index, start, end):
        words = [f"w{i}" for i in range(start, end + 1) if i != 7]
        return " ".join([*words, f"row{index}"]) if words else ""

    def answers(self, example):
        return self.gold[example]


RESULTS = {
    # Question 0 has two windows, of which the second is surer; question 1 has one.
    "index": np.array([5, 6, 8]),
    "example": np.array([0, 0, 1]),
    "start": np.array([[1, 2], [3, 4], [7, 5]]),
    "end": np.array([[1, 3], [4, 4], [7, 6]]),
    "score": np.array([[4.0, 3.0], [5.0, 1.0], [9.0, 2.0]], np.float32),
    "null_score": np.array([7.0, 1.0, 4.0], np.float32),
    "loss": np.array([1.0, 2.0, 3.0], np.float32),
}


def test_the_best_window_answers_and_the_least_sure_null_counts():
    found = best_answers(RESULTS, FakeQuestions())
    assert found == {
        0: Answer("w3 w4 row6", 5.0, 1.0),
        1: Answer("w5 w6 row8", 2.0, 4.0),  # the likelier span has no text
    }
    impossible = {**RESULTS, "score": np.full((3, 2), -1e30, np.float32)}
    assert best_answers(impossible, FakeQuestions())[1] == Answer("", 4.0, 4.0)


def test_no_answer_where_it_is_likelier_by_more_than_the_threshold():
    answer = Answer("text", score=2.0, null_score=4.0)
    assert [answer.decide(t) for t in (None, 0.0, 1.9, 2.0, 3.0)] == ["text", "", "", *["text"] * 2]


def test_scores_of_a_split():
    gold = (("w3 w4", "the w3, w4 row6!"), ())
    without = QuestionAnswer.from_config(CONFIG)
    found = without.summarize(RESULTS, FakeQuestions(*gold))
    assert found == pytest.approx({"f1": 50, "exact_match": 50, "loss": 2, "questions": 2})
    assert set(without.metric_names) <= set(found)
    data = {"null_threshold": 0.0}
    with_null = QuestionAnswer.from_config(
        bert_config("question_answering", "question_answering", data=data)
    )
    found = with_null.summarize(RESULTS, FakeQuestions(*gold))
    expected = {"f1": 100, "exact_match": 100, "loss": 2, "questions": 2}
    assert found == pytest.approx({**expected, "best_f1": 100, "best_threshold": -4})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Quick, brown fox.", "quick brown fox"),
        ("a theatre an'", "theatre"),  # articles are whole words, after punctuation
        ("U.S.A.", "usa"),
        ("don't -- stop", "dont stop"),
        ("the", ""),
        ("§ 5 €", "§ 5 €"),  # only ASCII punctuation
    ],
)
def test_answers_are_normalized_as_squad_does(text, expected):
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("said", "gold", "expected_exact", "expected_f1"),
    [
        ("Denver Broncos", "the denver broncos!", 1, 1),
        ("Denver", "Denver Broncos", 0, 2 * 1 * 0.5 / 1.5),
        ("red red blue", "red blue blue", 0, 2 / 3),  # each word as often as in both
        ("Paris", "London", 0, 0),
        ("", "", 1, 1),
        ("Paris", "", 0, 0),
        ("the", "", 1, 1),
    ],
)
def test_exact_match_and_f1(said, gold, expected_exact, expected_f1):
    assert exact(said, gold) == expected_exact
    assert f1(said, gold) == pytest.approx(expected_f1)


def test_the_best_of_several_answers_counts():
    assert best_of(f1, "red car", ("blue", "red", "a red car indeed")) == pytest.approx(0.8)
    assert best_of(exact, "", ()) == 1
    assert best_of(exact, "", ("the", "Paris")) == 0  # "the" is no answer


def test_the_best_threshold_is_that_of_trying_all():
    rng = np.random.default_rng(3)
    for _ in range(20):
        margins = rng.integers(0, 5, 9).astype(float)
        spoken, silent = rng.random(9), rng.integers(0, 2, 9).astype(float)
        tried = {
            t: np.where(margins > t, silent, spoken).mean() for t in [margins.min() - 1, *margins]
        }
        best, at = best_threshold(*(x.tolist() for x in (margins, spoken, silent)))
        assert best == pytest.approx(max(tried.values()))
        assert tried[at] == pytest.approx(best)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="'question_answering' needs 'question_answering'"):
        QuestionAnswer.from_config(bert_config("question_answering", "none"))
    with pytest.raises(UserError, match="label_smoothing"):
        QuestionAnswer.from_config(CONFIG.replace(task=CONFIG.task.replace(label_smoothing=0.1)))
