"""Span corruption: T5's lengths, and spans that put together give the text."""

import numpy as np
import pytest

from tests.texts import SENTINELS, Trios, numbered, real
from zoo.config import UserError
from zoo.config.data import SpanData
from zoo.data.text.spans import SpanRows, noise_of, random_partition, raw_length

DATA = SpanData(name="lines", tokenizer="none", length=64)
VOCABULARY = Trios("")
RNG = np.random.default_rng(0)


def rows_of(lengths, *, train=False, vocabulary=VOCABULARY, **changes):
    data = DATA.replace(**changes)
    return SpanRows(numbered(lengths), vocabulary, data, name="test", train=train)


def put_together(row):
    """The text that a row was made of."""
    source, target = real(row, "source", "source_segment"), real(row, "target", "target_segment")
    assert source[-1] == target[-1] == VOCABULARY.eos
    spans, text = {}, []
    for token in target[:-1].tolist():
        if token in VOCABULARY.sentinels:
            spans[token] = []
            continue
        spans[list(spans)[-1]].append(token)
    assert list(spans) == VOCABULARY.sentinels[: len(spans)]
    assert all(spans.values())
    for token in source[:-1].tolist():
        text += spans.pop(token, [token])
    assert not spans
    return text


def test_lengths_are_those_that_t5_states():
    raw = raw_length(512, 0.15, 3.0)
    assert (raw, noise_of(raw, 0.15, 3.0).source, noise_of(raw, 0.15, 3.0).target) == (
        568,
        512,
        114,
    )


def test_at_a_rate_of_a_half_targets_are_no_longer_than_inputs():
    shorter = 0
    for length in range(8, 200):
        noise = noise_of(raw_length(length, 0.5, 3.0), 0.5, 3.0)
        assert noise.target <= noise.source <= length
        shorter += noise.source < length
    assert shorter


@pytest.mark.parametrize("rate", [0.02, 0.15, 0.4])
@pytest.mark.parametrize("mean", [1.0, 3.0, 10.0])
def test_the_longest_text_is_taken_whose_input_fits(rate, mean):
    for length in (8, 33, 100, 512):
        raw = raw_length(length, rate, mean)
        fits = [n for n in range(2, 3 * length) if noise_of(n, rate, mean).source <= length]
        assert raw == fits[-1]
        assert noise_of(raw, rate, mean).source == length


@pytest.mark.parametrize("changes", [{}, {"mask_rate": 0.5}, {"mean_span": 1.0, "length": 32}])
def test_spans_put_together_give_the_whole_text_of_all_documents(changes):
    rows = rows_of([40, 3, 0, 300, 1, 61], **changes)
    text = [token for i in range(len(rows)) for token in put_together(rows.make(i, RNG))]
    assert text == list(range(100, 505))


def test_rows_are_full_and_masks_mark_the_target():
    rows = rows_of([1000])
    for i in range(len(rows) - 1):
        row = rows.make(i, RNG)
        assert row["source_segment"].all()
        assert row["mask"].all()
    last = rows.make(len(rows) - 1, RNG)
    assert not last["mask"].all()
    np.testing.assert_array_equal(last["mask"], last["target_segment"] == 1)


def test_training_takes_full_rows_of_documents_in_a_fixed_shuffled_order():
    lengths = [10] * 50
    rows = rows_of(lengths, train=True)
    raw = raw_length(64, 0.15, 3.0)
    assert len(rows) == 500 // raw
    found = [put_together(rows.make(i, RNG)) for i in range(len(rows))]
    again = rows_of(lengths, train=True)
    assert found == [put_together(again.make(i, RNG)) for i in range(len(rows))]
    assert found[0] != list(range(100, 100 + raw))
    assert len(rows_of([20], train=True)) == 1


def test_gaps_are_drawn_anew_by_each_generator():
    rows = rows_of([200])
    one, two, same = (rows.make(0, np.random.default_rng(s)) for s in (0, 1, 0))
    np.testing.assert_array_equal(one["source"], same["source"])
    assert (one["source"] != two["source"]).any()


def test_the_mask_rate_is_exact():
    row = rows_of([2000], length=256, mask_rate=0.25, vocabulary=VOCABULARY).make(0, RNG)
    raw = raw_length(256, 0.25, 3.0)
    taken = real(row, "target", "target_segment")
    assert np.sum(taken >= 100) == round(raw * 0.25)


def test_partitions_are_all_equally_likely():
    # Four of 5 items in 2 parts; 8,000 draws, 5 standard deviations.
    draws = [tuple(random_partition(5, 2, RNG).tolist()) for _ in range(8000)]
    counts = [draws.count(split) for split in ((1, 4), (2, 3), (3, 2), (4, 1))]
    assert sum(counts) == 8000
    assert np.abs(np.array(counts) - 2000).max() < 5 * np.sqrt(8000 * 0.25 * 0.75)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"length": 1024}, rf"57 spans, but the tokenizer has {SENTINELS} sentinels"),
        ({"mask_rate": 0.0}, "data.mask_rate is 0.0: spans need more than 0"),
        ({"mask_rate": 1.0}, "data.mask_rate is 1.0"),
        ({"length": 2}, "data.length is 2"),
        ({"vocabulary": Trios("", eos=None)}, r"needs \[EOS\]"),
    ],
)
def test_what_cannot_work_is_named(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        rows_of([100], **changes)


def test_a_text_of_one_token_is_refused():
    with pytest.raises(UserError, match="one token"):
        rows_of([1])
