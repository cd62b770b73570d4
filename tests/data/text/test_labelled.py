"""Texts and words with classes or numbers."""

import numpy as np
import pytest

from tests.texts import Examples, Stored, Trios, numbered, real
from zoo.config import UserError
from zoo.config.data import LabelledData, TagData
from zoo.data.text.labelled import LabelledRows
from zoo.data.text.tags import TagRows

DATA = LabelledData(name="lines", tokenizer="none", length=12)
CLASSES = ("bad", "good")
RNG = np.random.default_rng(0)
CLS, SEP = Trios.cls, Trios.sep


def rows_of(lengths, labels, *, pairs=None, classes=CLASSES, **changes):
    texts = (numbered(lengths),) + ((numbered(pairs, start=500),) if pairs else ())
    records = Examples({"label": label} for label in labels)
    data = DATA.replace(pair=pairs is not None, **changes)
    return LabelledRows(texts, records, Trios(""), data, classes=classes)


def test_a_text_stands_between_its_marks_and_is_cut_at_its_end():
    rows = rows_of([3, 10, 14], ["good", "bad", "good"])
    assert real(rows.make(0, RNG)).tolist() == [CLS, 100, 101, 102, SEP]
    assert real(rows.make(1, RNG)).tolist() == [CLS, *range(103, 113), SEP]
    assert real(rows.make(2, RNG)).tolist() == [CLS, *range(113, 123), SEP]
    assert [rows.make(i, RNG)["label"] for i in range(3)] == [1, 0, 1]
    assert rows.classes == CLASSES
    assert rows.describe(2) == "test[2]"


def test_of_a_pair_the_longer_text_is_cut_first():
    rows = rows_of([3, 9, 20], ["good"] * 3, pairs=[3, 2, 20])
    assert real(rows.make(0, RNG)).tolist() == [CLS, 100, 101, 102, SEP, 500, 501, 502, SEP]
    assert real(rows.make(1, RNG)).tolist() == [CLS, *range(103, 110), SEP, 503, 504, SEP]
    row = rows.make(2, RNG)
    assert real(row).tolist() == [CLS, *range(112, 117), SEP, *range(505, 509), SEP]
    assert row["type"].tolist() == [0] * 7 + [1] * 5


def test_regression_has_numbers():
    rows = rows_of([3, 3], ["2.5", 4], regression=True, classes=())
    assert [rows.make(i, RNG)["label"] for i in range(2)] == [2.5, 4.0]


@pytest.mark.parametrize(
    ("labels", "changes", "complaint"),
    [
        (["god"], {}, r"test\[0\] has the label 'god', which no .*train_split has.*'?good'?"),
        ([-1], {}, r"test\[0\] has the label -1"),
        (["much"], {"regression": True}, r"test\[0\] has the label 'much', which is no number"),
        (["nan"], {"regression": True}, "'nan', which is no number"),
        ([None], {"regression": True}, "None, which is no number"),
    ],
)
def test_labels_that_cannot_be_are_named(labels, changes, complaint):
    rows = rows_of([3], labels, **changes)
    with pytest.raises(UserError, match=complaint):
        rows.make(0, RNG)


def test_a_row_has_room_for_its_texts():
    with pytest.raises(UserError, match=r"data.length is 4: special tokens leave no room"):
        rows_of([3], ["good"], pairs=[3], length=4)
    with pytest.raises(UserError, match=r"'text_classification' needs \[CLS\]"):
        LabelledRows((Stored([]),), Examples(), Trios("", cls=None), DATA, classes=())


# ---- tags ----

SENTENCE = ["Angela", "Merkel", "visited", "x", "Greenland"]
TAGS = ["B-PER", "I-PER", "O", "O", "B-LOC"]
NAMES = ("B-LOC", "B-PER", "I-PER", "O")
TAG_DATA = TagData(name="lines", tokenizer="none", length=20)


def tag_rows(words, tags, length=20):
    records = Examples([{"words": words, "tags": tags}])
    return TagRows(records, Trios(" ".join(SENTENCE)), length, classes=NAMES)


def test_a_words_first_piece_has_its_tag():
    row = tag_rows(SENTENCE, TAGS).make(0, RNG)
    tokens = [Trios(" ".join(SENTENCE)).tokens[i] for i in real(row)]
    places = np.flatnonzero(row["mask"])
    pieces = "Ang ##ela Mer ##kel vis ##ite ##d x Gre ##enl ##and"
    assert " ".join(tokens[1:-1]) == pieces
    assert [tokens[i] for i in places] == ["Ang", "Mer", "vis", "x", "Gre"]
    assert [NAMES[i] for i in row["label"][places]] == TAGS
    assert not row["label"][~row["mask"]].any()


def test_words_that_do_not_fit_are_left_out():
    row = tag_rows(SENTENCE, TAGS, length=10).make(0, RNG)
    assert row["mask"].sum() == 4
    assert row["segment"].sum() == 10


@pytest.mark.parametrize(
    ("words", "tags", "complaint"),
    [
        (["x", "x"], ["O"], r"test\[0\] has 2 words and 1 tags"),
        (["x"], ["B-PERS"], r"test\[0\] has the label 'B-PERS'.*B-PER"),
    ],
)
def test_tags_that_cannot_be_are_named(words, tags, complaint):
    with pytest.raises(UserError, match=complaint):
        tag_rows(words, tags).make(0, RNG)
