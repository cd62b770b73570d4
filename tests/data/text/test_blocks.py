"""Running text in blocks: every token is a target once, and none across documents."""

import itertools
from collections import Counter

import numpy as np
import pytest

from tests.texts import Stored, Trios, numbered
from zoo.config import UserError
from zoo.data.text.blocks import BlockRows

LENGTHS = [5, 0, 1, 17, 2, 30, 1, 8]
RNG = np.random.default_rng(0)


def vocabulary(**changes):
    made = Trios("", **{"bos": None, **changes})
    made.byte_lengths = np.concatenate([np.zeros(100, np.int32), np.arange(200, dtype=np.int32)])
    return made


def rows_of(lengths, length, *, train=False, **changes):
    return BlockRows(numbered(lengths), vocabulary(**changes), length, name="test", train=train)


def made(rows):
    return [rows.make(i, RNG) for i in range(len(rows))]


def whole(documents, bos, eos):
    before = [] if bos is None else [bos]
    return [[*before, *d.tolist(), eos] for d in documents if len(d)]


@pytest.mark.parametrize("bos", [None, 5])
@pytest.mark.parametrize("length", [1, 3, 7, 8, 64, 200])
def test_every_token_is_a_target_once_after_the_one_before_it(length, bos):
    rows = rows_of(LENGTHS, length, bos=bos)
    seen = Counter()
    for row in made(rows):
        seen.update(zip(row["tokens"][row["mask"]], row["targets"][row["mask"]], strict=True))
    texts = whole(numbered(LENGTHS), bos, 6)
    assert seen == Counter(pair for text in texts for pair in itertools.pairwise(text))


def test_rows_end_where_the_text_does():
    # 64 tokens and 7 EOS: 70 targets fill 7 rows of 10; the last EOS would begin an eighth.
    assert len(rows_of(LENGTHS, 10)) == 7
    assert len(rows_of([*LENGTHS, 1], 10)) == 8
    assert len(rows_of([*LENGTHS, 1], 10, train=True)) == 7
    assert len(rows_of([3], 10, train=True)) == 1


@pytest.mark.parametrize("length", [4, 16, 100])
def test_segments_number_a_rows_documents_and_positions_begin_anew_in_each(length):
    rows = rows_of(LENGTHS, length, bos=5)
    texts = [token for text in whole(numbered(LENGTHS), 5, 6) for token in text]
    owner = [i for i, text in enumerate(whole(numbered(LENGTHS), 5, 6)) for _ in text]
    for start, row in zip(range(0, len(texts), length), made(rows), strict=True):
        own = owner[start : start + length]
        count = len(own)
        assert row["tokens"][:count].tolist() == texts[start : start + count]
        assert row["segment"][:count].tolist() == [o - own[0] + 1 for o in own]
        first = {o: own.index(o) for o in own}
        assert row["position"][:count].tolist() == [i - first[o] for i, o in enumerate(own)]
        for name in ("tokens", "segment", "position", "mask"):
            assert not row[name][count:].any()


def test_targets_that_do_not_count_are_padding():
    for row in made(rows_of(LENGTHS, 9)):
        assert not row["targets"][~row["mask"]].any()


def test_bytes_add_up_to_those_of_the_text():
    rows, plain = rows_of(LENGTHS, 7, bos=5), rows_of(LENGTHS, 7)
    tokens = np.concatenate(numbered(LENGTHS).documents) - 100
    assert sum(row["num_bytes"] for row in made(rows)) == tokens.sum()
    # Without BOS nothing precedes a document's first token.
    first = np.array([d[0] for d in numbered(LENGTHS).documents if len(d)]) - 100
    assert sum(row["num_bytes"] for row in made(plain)) == tokens.sum() - first.sum()


def test_training_reads_documents_in_a_fixed_shuffled_order():
    lengths = [3] * 50
    one, two = (made(rows_of(lengths, 200, train=True))[0]["tokens"] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    texts = sorted(one[:200].reshape(50, 4).tolist())
    plain = made(rows_of(lengths, 200))[0]["tokens"][:200].reshape(50, 4)
    assert texts == plain.tolist()
    assert not np.array_equal(one, plain.ravel())


@pytest.mark.parametrize(
    ("documents", "changes", "complaint"),
    [
        (numbered([3]), {"eos": None}, r"data.kind 'lm' needs \[EOS\]"),
        (numbered([0, 0]), {}, "holds no text"),
        (Stored([]), {}, "holds no text"),
    ],
)
def test_what_makes_no_row_is_named(documents, changes, complaint):
    with pytest.raises(UserError, match=complaint):
        BlockRows(documents, vocabulary(**changes), 8, name="test", train=True)
