"""Answers in windows of a context: every token is read, and spans give the very words."""

import itertools

import numpy as np
import pytest

from tests.texts import WORDS, Examples, Stored, Trios, real, sentences
from zoo.config import UserError
from zoo.config.data import QuestionData
from zoo.data.text.questions import QuestionRows, best_span
from zoo.data.text.windows import windows

DATA = QuestionData(name="squad", tokenizer="none", length=40, stride=12, max_question=8)
CONTEXTS = [" ".join(sentences(n, seed=n)) for n in (1, 4, 9, 20, 20)]
RNG = np.random.default_rng(0)


def answered(context, first, last):
    """An answer made of the words `first` to `last`."""
    words = context.split(" ")
    start = len(" ".join(words[:first])) + (first > 0)
    return {"text": [" ".join(words[first : last + 1])], "answer_start": [start]}


QUESTIONS = [
    {"question": "where", "context": CONTEXTS[0], "answers": answered(CONTEXTS[0], 0, 0)},
    {"question": "who stood under", "context": CONTEXTS[1], "answers": answered(CONTEXTS[1], 3, 5)},
    {
        "question": "yesterday greenhouses cat",
        "context": CONTEXTS[2],
        "answers": answered(CONTEXTS[2], 29, 33),
    },
    {"question": "a", "context": CONTEXTS[3], "answers": {"text": [], "answer_start": []}},
    {"question": "the cat", "context": CONTEXTS[4], "answers": answered(CONTEXTS[4], 60, 61)},
]
VOCABULARY = Trios(" ".join([q["question"] for q in QUESTIONS] + CONTEXTS + WORDS))


def rows_of(questions=QUESTIONS, **changes):
    records = Examples({"id": f"q{i}", **q} for i, q in enumerate(questions))
    texts = [
        Stored([VOCABULARY.encode(q[name]) for q in questions]) for name in ("question", "context")
    ]
    return QuestionRows(*texts, records, VOCABULARY, DATA.replace(**changes))


def made(rows):
    return [rows.make(i, RNG) for i in range(len(rows))]


@pytest.mark.parametrize(("room", "stride"), [(10, 4), (10, 30), (3, 1), (7, 7)])
def test_windows_cover_every_token_and_split_no_word(room, stride):
    rng = np.random.default_rng(0)
    for total in (1, 9, 10, 11, 60):
        starts_word = rng.random(total) < 0.6
        starts_word[0] = True
        found = windows(starts_word, room, stride)
        words = np.cumsum(starts_word)
        sizes = np.bincount(words)[words]
        assert found[0][0] == 0
        assert found[-1][1] == total
        for (start, stop), (after, _) in itertools.pairwise(found):
            assert start < after <= min(stop, start + stride)
        for start, stop in found:
            assert 0 < stop - start <= room
            if sizes[start] <= min(stride, room - stride + 1):
                assert starts_word[start]
            if stop < total and sizes[stop] < room:
                assert starts_word[stop]


def test_rows_are_a_question_and_each_window_of_its_context():
    rows = rows_of()
    seen = {i: [] for i in range(len(QUESTIONS))}
    for row in made(rows):
        question = VOCABULARY.encode(QUESTIONS[row["example"]]["question"])[:8]
        tokens, kind = real(row), row["type"][row["segment"] > 0]
        assert tokens[kind == 0].tolist() == [VOCABULARY.cls, *question, VOCABULARY.sep]
        assert tokens[kind == 1][-1] == VOCABULARY.sep
        np.testing.assert_array_equal(row["tokens"][row["mask"]], tokens[kind == 1][:-1])
        seen[row["example"]].append(row["tokens"][row["mask"]])
    for example, parts in seen.items():
        context = VOCABULARY.encode(CONTEXTS[example])
        assert len(parts) > 1 or len(context) <= 40
        # Windows overlap: put end to end where each begins, they give the context.
        whole, at = list(parts[0]), 0
        for part in parts[1:]:
            at = next(i for i in range(at + 1, len(context)) if is_at(part, context, i))
            whole = whole[:at] + part.tolist()
        assert whole == context.tolist()
        assert all(VOCABULARY.word_starts[part[0]] for part in parts)


def is_at(part, whole, place):
    return np.array_equal(whole[place : place + len(part)], part)


def test_spans_map_back_to_the_very_answer():
    rows = rows_of()
    found = {i: set() for i in range(len(QUESTIONS))}
    for i, row in enumerate(made(rows)):
        if row["end"]:
            assert row["mask"][row["start"]]
            assert row["mask"][row["end"]]
            found[row["example"]].add(rows.context_span(i, row["start"], row["end"]))
        else:
            assert row["start"] == 0
            assert rows.context_span(i, 0, 0) == ""
    assert [found[i] for i in range(5)] == [set(rows.answers(i)) for i in range(5)]
    assert found[3] == set()
    assert rows.question_id(2) == "q2"


def test_an_answer_may_begin_and_end_within_a_word():
    context = "the greenhouses stood"
    for text, found in (("enhouses", "enhouses"), ("green", "greenh")):
        answers = {"text": [text], "answer_start": [context.index(text)]}
        rows = rows_of([{"question": "a", "context": context, "answers": answers}])
        row = rows.make(0, RNG)
        assert rows.context_span(0, row["start"], row["end"]) == found


def test_a_window_without_all_of_the_answer_points_to_cls():
    rows = rows_of()
    for i, row in enumerate(made(rows)):
        answer = " ".join(rows.answers(row["example"]))
        read = rows.context_span(i, *np.flatnonzero(row["mask"])[[0, -1]].tolist())
        record = QUESTIONS[row["example"]]
        low = record["context"].index(read)
        start = (record["answers"]["answer_start"] or [-1])[0]
        inside = bool(answer) and low <= start and start + len(answer) <= low + len(read)
        if len(read) > 60:  # long enough to stand in one place only
            assert (row["end"] > 0) == inside


def test_every_answer_is_in_some_window_when_they_overlap_by_as_much():
    rows = rows_of()
    whole = {int(row["example"]) for row in made(rows) if row["end"]}
    assert whole == {0, 1, 2, 4}


def test_a_span_outside_of_the_context_has_no_text():
    rows = rows_of()
    row = rows.make(0, RNG)
    end = int(row["segment"].sum())
    assert rows.context_span(0, 1, 1) == ""
    assert rows.context_span(0, end - 1, end - 1) == ""
    assert rows.context_span(0, end - 2, end - 3) == ""


def test_long_questions_are_cut():
    rows = rows_of(max_question=2)
    assert max(np.sum(row["type"][:4] == 0) for row in made(rows)) == 4
    assert min(row["type"].argmax() for row in made(rows)) == 3  # "a" is one piece


def test_a_smaller_stride_makes_more_windows():
    assert len(rows_of(stride=4)) > len(rows_of(stride=12)) > len(rows_of(length=80))


@pytest.mark.parametrize("size", [1, 3, 30])
def test_the_likeliest_span_is_that_of_a_search(size):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        start, end, mask = *rng.normal(size=(2, 12)), rng.random(12) < 0.7
        pairs = [(i, j) for i in range(12) for j in range(i, min(i + size, 12))]
        pairs = [(i, j) for i, j in pairs if mask[i] and mask[j]]
        expected = max(pairs, key=lambda pair: start[pair[0]] + end[pair[1]])
        *found, score = best_span(start, end, mask, size)
        assert tuple(found) == expected
        assert score == pytest.approx(start[expected[0]] + end[expected[1]])
    with pytest.raises(ValueError, match="no token"):
        best_span(start, end, np.zeros(12, bool), size)


def test_what_cannot_work_is_named():
    wrong = [{**QUESTIONS[1], "answers": {"text": ["cat"], "answer_start": [5000]}}]
    with pytest.raises(UserError, match=r"test\[0\]: the answer 'cat' does not stand at character"):
        rows_of(wrong).make(0, RNG)
    with pytest.raises(UserError, match=r"data.length is 10, of which a question takes up to 8"):
        rows_of(length=10)
