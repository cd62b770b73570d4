"""Every kind of text as batches: from files to arrays, on any number of hosts, from any step."""

import json
import pickle

import numpy as np
import pytest

from tests.texts import sentences
from zoo.config import UserError
from zoo.config.data import (
    LabelledData,
    LmData,
    MaskedData,
    PairData,
    QuestionData,
    SpanData,
    TagData,
)
from zoo.data.batches import BatchMaker, ExampleRng
from zoo.data.rows import open_rows
from zoo.data.shapes import row_shapes
from zoo.data.stream import eval_batches, train_batches
from zoo.data.text.tokenizers import load_tokenizer, train_tokenizer

LINES = sentences(400, seed=1)


def records(seed):
    """Examples that have the fields of every kind."""
    rng = np.random.default_rng(seed)
    for i in range(40):
        lines = sentences(int(rng.integers(2, 12)), seed=1000 * seed + i)
        text = "\n".join(lines)
        words = lines[0].split()
        yield {
            "text": text,
            "text_pair": lines[1],
            "label": ("bad", "fair", "good")[i % 3],
            "source": lines[0],
            "target": lines[1],
            "words": words,
            "tags": ["O" if len(word) < 5 else "LONG" for word in words],
            "question": lines[0],
            "context": text,
            "answers": {"text": [lines[1]], "answer_start": [len(lines[0]) + 1]},
            "id": f"q{i}",
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory of examples, and two tokenizers."""
    root = tmp_path_factory.mktemp("texts")
    for seed, split in enumerate(("train", "test")):
        lines = [json.dumps(record) + "\n" for record in records(seed)]
        (root / f"{split}.jsonl").write_text("".join(lines))
    train_tokenizer("wordpiece", LINES, 60, root / "wordpiece")
    train_tokenizer("bpe", LINES, 320, root / "bpe", sentinels=40)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


KINDS = {
    "lm": (LmData, "bpe", {"length": 32}),
    "masked_lm": (MaskedData, "wordpiece", {"length": 64}),
    "masked_lm, texts": (
        MaskedData,
        "wordpiece",
        {"length": 64, "next_sentence": False, "whole_words": True},
    ),
    "masked_lm, static": (MaskedData, "wordpiece", {"length": 64, "masking": "static"}),
    "span_corruption": (SpanData, "bpe", {"length": 48}),
    "seq2seq": (PairData, "bpe", {"length": 64, "target_length": 64, "prefix": "say: "}),
    "seq2seq, packed": (PairData, "bpe", {"length": 96, "target_length": 96, "pack": True}),
    "text_classification": (LabelledData, "wordpiece", {"length": 64, "pair": True}),
    "token_classification": (TagData, "wordpiece", {"length": 64}),
    "question_answering": (QuestionData, "wordpiece", {"length": 80, "stride": 16}),
}


@pytest.fixture(params=KINDS)
def data(request, files):
    kind, tokenizer, settings = KINDS[request.param]
    where = {"name": "text", "dir": str(files), "tokenizer": str(files / tokenizer)}
    return kind(**where, batch_size=8, **settings)


def assert_same(one, two):
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def batch(data, rows, step, *, own=range(8), seed=0):
    made = BatchMaker(rows, row_shapes(data), seed=seed, own=own, batch_size=8)(step)
    assert made.batch is not None, made.error
    return made.batch


@pytest.mark.parametrize("train", [True, False])
def test_rows_are_what_their_shapes_say(data, train):
    rows = open_rows(data, "train", train=train)
    shapes = row_shapes(data)
    assert len(rows) > 3
    for index in range(len(rows)):
        made = rows.make(index, ExampleRng(0).at(index))
        assert set(made) == set(shapes)
        for name, (shape, dtype) in shapes.items():
            value = np.asarray(made[name])
            assert value.shape == shape
            assert np.can_cast(value.dtype, dtype, "same_kind")
            assert value.dtype == dtype or not shape
        assert rows.describe(index)


@pytest.mark.parametrize("num_hosts", [2, 4])
def test_any_number_of_hosts_makes_the_same_batches(data, num_hosts):
    rows, share = open_rows(data, "train", train=True), 8 // num_hosts
    for step in (0, 7):
        parts = [
            batch(data, rows, step, own=range(host * share, (host + 1) * share))
            for host in range(num_hosts)
        ]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        assert_same(joined, batch(data, rows, step))


def test_a_stream_begun_at_a_step_goes_on_as_the_one_begun_at_zero(data):
    with (
        train_batches(data, seed=3, start=0, stop=12) as whole,
        train_batches(data.replace(threads=1), seed=3, start=9, stop=12) as later,
    ):
        for one, two in zip(list(whole)[9:], later, strict=True):
            assert_same(one, two)


def test_rows_pickle(data):
    rows = open_rows(data, "train", train=True)
    again = pickle.loads(pickle.dumps(rows))
    assert (len(again), again.classes) == (len(rows), rows.classes)
    assert_same(batch(data, again, 2), batch(data, rows, 2))


def test_evaluation_makes_each_row_once_and_always_alike(data):
    one, two = (list(eval_batches(data, "test")) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert_same(a, b)
    index = np.concatenate([b["index"][b["weight"] > 0] for b in one])
    np.testing.assert_array_equal(index, range(len(open_rows(data, "test", train=False))))


def test_bits_per_byte_are_of_all_bytes(files):
    where = {"name": "text", "dir": str(files), "tokenizer": str(files / "bpe")}
    rows = open_rows(LmData(**where, length=32), "test", train=False)
    found = sum(rows.make(i, ExampleRng(0).at(i))["num_bytes"] for i in range(len(rows)))
    whole = sum(len(record["text"].encode()) for record in records(1))
    assert load_tokenizer(where["tokenizer"]).bos is not None
    assert found == whole


def test_evaluations_labels_are_those_of_training(files, tmp_path):
    lines = [json.dumps({"text": "a cat", "label": label}) + "\n" for label in ("good", "poor")]
    (tmp_path / "test.jsonl").write_text("".join(lines))
    (tmp_path / "train.jsonl").write_text((files / "train.jsonl").read_text())
    data = LabelledData(name="text", dir=str(tmp_path), tokenizer=str(files / "wordpiece"))
    rows = open_rows(data, "test", train=False)
    assert rows.classes == ("bad", "fair", "good")
    assert rows.make(0, ExampleRng(0).at(0))["label"] == 2
    with pytest.raises(UserError, match=r"test.jsonl.* has the label 'poor'"):
        rows.make(1, ExampleRng(0).at(1))


def test_questions_answers_come_out_of_files_as_they_went_in(files):
    data = QuestionData(
        name="text", dir=str(files), tokenizer=str(files / "wordpiece"), length=80, stride=16
    )
    rows = open_rows(data, "test", train=False)
    found = {}
    for i in range(len(rows)):
        row = rows.make(i, ExampleRng(0).at(i))
        if row["end"]:
            found[row["example"]] = rows.context_span(i, row["start"], row["end"])
    assert found
    for example, answer in found.items():
        assert (answer,) == rows.answers(example)
