"""BERT's rows: what is masked, by what, and which text follows which."""

import numpy as np
import pytest

from tests.texts import Stored, Trios, numbered, real, sentences
from zoo.config import UserError
from zoo.config.data import MaskedData
from zoo.data.text.chunks import chunk_sentences, chunk_tokens
from zoo.data.text.masking import MaskedRows, whole_words

LINES = [sentences(n, seed) for seed, n in enumerate([12, 1, 30, 7, 0, 45, 2])]
VOCABULARY = Trios(" ".join(line for document in LINES for line in document))
DOCUMENTS = Stored([[VOCABULARY.encode(line) for line in document] for document in LINES])
TEXTS = Stored([VOCABULARY.encode(" ".join(document)) for document in LINES])
PAIRS = MaskedData(name="lines", tokenizer="none", length=48, max_predictions=20, short_rate=0.0)
SINGLE = PAIRS.replace(next_sentence=False)
SPECIAL = [VOCABULARY.cls, VOCABULARY.sep, VOCABULARY.pad]


def rows_of(data=PAIRS, documents=None, vocabulary=VOCABULARY, **changes):
    data = data.replace(**changes)
    documents = documents or (DOCUMENTS if data.next_sentence else TEXTS)
    return MaskedRows(documents, vocabulary, data, name="test")


def draws(rows, times=1, seed=0):
    rng = np.random.default_rng(seed)
    return [rows.make(i, rng) for _ in range(times) for i in range(len(rows))]


def restored(row):
    """A row's tokens with the masked ones put back."""
    tokens = row["tokens"].copy()
    tokens[row["masked_positions"][row["mask"]]] = row["masked_targets"][row["mask"]]
    return tokens


def halves(row):
    """A and B of a row, restored, without special tokens."""
    tokens = restored(row)[row["segment"] == 1]
    kind = row["type"][row["segment"] == 1]
    assert tokens[0] == VOCABULARY.cls
    assert tokens[kind == 0][-1] == tokens[kind == 1][-1] == VOCABULARY.sep
    return tokens[kind == 0][1:-1].tolist(), tokens[kind == 1][:-1].tolist()


def is_inside(part, whole):
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def is_in_document(part, document):
    return is_inside(part, np.concatenate([*document, np.zeros(0, np.int32)]).tolist())


# ---- which text ----


@pytest.mark.parametrize("target", [1, 4, 20, 1000])
def test_runs_of_sentences_end_with_the_one_that_reaches_the_target(target):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, 40)
    lengths = rng.integers(1, 9, counts.sum())
    expected = []
    for document, (end, count) in enumerate(zip(np.cumsum(counts), counts, strict=True)):
        start, total = 0, 0
        for i, length in enumerate(lengths[end - count : end]):
            total += length
            if total >= target or i == count - 1:
                expected.append((document, start, i + 1))
                start, total = i + 1, 0
    found = chunk_sentences(lengths, counts, target)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected


def test_stretches_of_tokens_cover_each_document_once():
    found = chunk_tokens(np.array([7, 0, 3, 6]), 3)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == [
        *((0, 0, 3), (0, 3, 6), (0, 6, 7), (2, 0, 3), (3, 0, 3), (3, 3, 6))
    ]


def test_masked_tokens_put_back_give_the_text():
    rows = rows_of(SINGLE)
    text = [restored(row)[row["segment"] == 1][1:-1] for row in draws(rows)]
    np.testing.assert_array_equal(np.concatenate(text), np.concatenate(TEXTS.documents))
    for row in draws(rows):
        assert real(row)[0] == VOCABULARY.cls
        assert real(row)[-1] == VOCABULARY.sep
        assert not row["type"].any()
        assert "next_sentence" not in row


@pytest.mark.parametrize("short_rate", [0.0, 1.0])
def test_b_follows_a_in_its_document_or_comes_from_another(short_rate):
    rows = rows_of(short_rate=short_rate)
    for i, row in enumerate(draws(rows, times=6)):
        document = int(rows.describe(i % len(rows)).split("[")[1].split("]")[0])
        first, second = halves(row)
        own = DOCUMENTS[document]
        others = [d for j, d in enumerate(DOCUMENTS.documents) if j != document]
        assert first
        assert second
        assert is_in_document(first, own)
        if row["next_sentence"]:
            assert any(is_in_document(second, other) for other in others)
        elif len(first) + len(second) < 45:  # nothing was cut between them
            assert is_in_document(first + second, own)
        else:
            assert is_in_document(second, own)


def test_half_of_the_rows_have_a_random_next_text():
    # No row of these is of one sentence, which none could follow.
    documents = Stored([[np.full(5, 40, np.int32)] * 40] * 8)
    drawn = draws(rows_of(documents=documents), times=100)
    count = sum(row["next_sentence"] for row in drawn)
    assert abs(count - len(drawn) / 2) < 4 * np.sqrt(len(drawn) / 4)


def test_a_sentence_without_a_next_one_gets_a_random_one():
    documents = Stored([DOCUMENTS[0][:1], DOCUMENTS[2]])
    rows = rows_of(documents=documents)
    assert all(row["next_sentence"] == 1 for row in [draws(rows, seed=s)[0] for s in range(20)])


@pytest.mark.parametrize("data", [PAIRS, SINGLE])
def test_some_rows_are_cut_to_a_random_length(data):
    text = [np.full(5, 40, np.int32)] * 400
    documents = Stored([text, text] if data is PAIRS else [np.concatenate(text)])

    def share_of_short(rate):
        rows = rows_of(data.replace(short_rate=rate), documents)
        # Half of the full length and less: of uniform lengths about 0.4.
        return np.mean([row["segment"].sum() < 24 for row in draws(rows, times=20)])

    assert share_of_short(0.0) < 0.04
    assert share_of_short(0.5) == pytest.approx(0.2, abs=0.06)
    assert share_of_short(1.0) == pytest.approx(0.4, abs=0.08)


def test_what_is_too_long_loses_tokens_at_either_end():
    sentence = np.arange(40, 80, dtype=np.int32)
    vocabulary = Trios(" ".join(f"{i:03}" for i in range(60)))
    rows = rows_of(documents=Stored([[sentence] * 2] * 2), vocabulary=vocabulary, mask_rate=0.0)
    starts = []
    for row in draws(rows, times=200):
        first, second = halves(row)
        assert (len(first), len(second)) == (23, 22)
        assert is_inside(first, sentence.tolist())
        starts.append(first[0] - 40)
    # Binomial(17, 1/2): 8.5 on average; the mean of 400 or more is within 4 of its deviations.
    assert abs(np.mean(starts) - 8.5) < 4 * np.sqrt(17 / 4 / len(starts))
    assert min(starts) < 6 < 11 < max(starts)


# ---- which masks ----


@pytest.mark.parametrize("data", [PAIRS, SINGLE])
@pytest.mark.parametrize(("rate", "most"), [(0.15, 20), (0.5, 10), (0.0, 5), (1.0, 64)])
def test_as_many_tokens_are_masked_as_the_rate_says_and_never_special_ones(data, rate, most):
    for row in draws(rows_of(data, mask_rate=rate, max_predictions=most), times=3):
        total = row["segment"].sum()
        count = min(most, max(1, round(rate * total)), total - 2 - data.next_sentence)
        assert row["mask"].sum() == count
        assert row["mask"][:count].all()
        positions = row["masked_positions"][:count]
        assert np.all(np.diff(positions) > 0)
        assert not np.isin(restored(row)[positions], SPECIAL).any()
        assert not row["masked_positions"][count:].any()
        assert not row["masked_targets"][count:].any()
        assert sum(real(row) == VOCABULARY.sep) >= 1 + data.next_sentence


def test_of_ten_masked_tokens_eight_are_masks_one_any_and_one_itself():
    rows = rows_of(SINGLE, mask_rate=1.0, max_predictions=64)
    fates, new = np.zeros(3), []
    for row in draws(rows, times=60):
        tokens = row["tokens"][row["masked_positions"][row["mask"]]]
        targets = row["masked_targets"][row["mask"]]
        masked, stays = tokens == VOCABULARY.mask, tokens == targets
        fates += [masked.sum(), (~masked & ~stays).sum(), stays.sum()]
        new.append(tokens[~masked & ~stays])
    # A random token is the mask, or itself, by chance.
    chance = np.array([1, -2, 1]) * 0.1 / VOCABULARY.size
    expected = np.array([0.8, 0.1, 0.1]) + chance
    total = fates.sum()
    assert total > 20_000
    deviation = np.sqrt(total * expected * (1 - expected))
    assert np.all(np.abs(fates - total * expected) < 4 * deviation)
    assert len(np.unique(np.concatenate(new))) > 0.9 * VOCABULARY.size


def test_every_place_is_as_likely_to_be_masked():
    rows = rows_of(SINGLE, documents=Stored([np.full(46, 40, np.int32)]))
    counts = np.zeros(48)
    for row in draws(rows, times=3000):
        counts[row["masked_positions"][row["mask"]]] += 1
    share = counts[1:47] / 3000
    assert np.abs(share - 7 / 46).max() < 4.5 * np.sqrt(7 / 46 * 39 / 46 / 3000)


@pytest.mark.parametrize("data", [PAIRS, SINGLE])
def test_whole_words_are_masked_whole(data):
    rows = rows_of(data, whole_words=True, mask_rate=0.3)
    parts = 0
    for row in draws(rows, times=5):
        total, tokens = int(row["segment"].sum()), restored(row)
        chosen = np.zeros(len(tokens), bool)
        chosen[row["masked_positions"][row["mask"]]] = True
        special = np.isin(tokens, SPECIAL)
        for i in range(1, total):
            continues = not VOCABULARY.word_starts[tokens[i]] and not special[i - 1]
            if continues:
                assert chosen[i] == chosen[i - 1]
                parts += chosen[i]
        limit = max(1, round(0.3 * total))
        assert row["mask"].sum() <= min(limit, 20)
    assert parts
    counts = [row["mask"].sum() for row in draws(rows) if row["segment"].sum() == 48]
    assert np.mean(counts) > 13.5  # of 14: a word that would pass the limit is passed over


def test_a_word_that_was_cut_at_its_beginning_is_a_word():
    vocabulary = Trios("apples yesterday")
    apples, yesterday = vocabulary.encode("apples"), vocabulary.encode("yesterday")
    tokens = np.concatenate([apples, [vocabulary.sep], yesterday[1:], apples]).astype(np.int32)
    places = np.flatnonzero(tokens != vocabulary.sep)
    found = {
        tuple(whole_words(tokens, places, vocabulary.word_starts, 2, np.random.default_rng(s)))
        for s in range(40)
    }
    assert found == {(0, 1), (3, 4), (5, 6)}


def test_masks_are_drawn_anew_unless_they_are_static():
    for data in (PAIRS, SINGLE):
        dynamic = draws(rows_of(data, short_rate=0.5), times=2)
        static = draws(rows_of(data, masking="static", short_rate=0.5), times=2)
        half = len(dynamic) // 2
        for name in static[0]:
            for a, b in zip(static[:half], static[half:], strict=True):
                np.testing.assert_array_equal(a[name], b[name])
        same = [
            np.array_equal(a["tokens"], b["tokens"])
            for a, b in zip(dynamic[:half], dynamic[half:], strict=True)
        ]
        assert np.mean(same) < 0.5
        # Rows differ in what is drawn for them.
        assert len({tuple(row["masked_positions"]) for row in static}) > half / 2


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"documents": Stored([DOCUMENTS[0]])}, "test is one document: random next texts"),
        ({"documents": Stored([d[:1] for d in DOCUMENTS.documents])}, "no row of test holds two"),
        ({"documents": Stored([[], []])}, "holds no text"),
        ({"data": SINGLE, "documents": numbered([0, 0])}, "holds no text"),
        ({"length": 4}, "data.length is 4: special tokens leave too few"),
        ({"vocabulary": Trios("", mask=None)}, r"'masked_lm' needs \[MASK\]"),
    ],
)
def test_what_cannot_work_is_named(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        rows_of(**settings)
