"""Sources and targets: each pair once, whole, ended by EOS, and alone in its segment."""

import numpy as np
import pytest

from tests.texts import Stored, Trios, numbered
from zoo.config import UserError
from zoo.config.data import PairData
from zoo.data.text.pairs import PairRows, encode_prefix

DATA = PairData(name="lines", tokenizer="none", length=16, target_length=12)
RNG = np.random.default_rng(0)
SOURCE = RNG.integers(0, 20, 300)  # up to 15 fit, with EOS
TARGET = RNG.integers(0, 15, 300)  # up to 11 fit
VOCABULARY = Trios("say: a")
EOS = VOCABULARY.eos


def rows_of(source=SOURCE, target=TARGET, *, train=True, vocabulary=VOCABULARY, **changes):
    texts = numbered(source), numbered(target, start=10_000)
    return PairRows(*texts, vocabulary, DATA.replace(**changes), name="test", train=train)


def pairs_in(rows):
    """(source, target) of every segment of every row, as lists without EOS."""
    found = []
    for i in range(len(rows)):
        row = rows.make(i, RNG)
        np.testing.assert_array_equal(row["mask"], row["target_segment"] > 0)
        for number in range(1, row["source_segment"].max() + 1):
            pair = []
            for side in ("source", "target"):
                own = row[f"{side}_segment"] == number
                assert row[f"{side}_position"][own].tolist() == list(range(own.sum()))
                assert row[side][own][-1] == EOS
                pair.append(row[side][own][:-1].tolist())
            found.append(tuple(pair))
        for side in ("source", "target"):
            padding = row[f"{side}_segment"] == 0
            assert not row[side][padding].any()
            assert not row[f"{side}_position"][padding].any()
            # A row's texts lie at its beginning, in order.
            assert np.all(np.diff(row[f"{side}_segment"][~padding]) >= 0)
            assert not np.any(np.diff(padding.astype(int)) < 0)
    return found


def whole(keep=lambda s, t: True, cut=(1000, 1000)):
    texts = zip(numbered(SOURCE), numbered(TARGET, start=10_000), strict=True)
    return [(s[: cut[0]].tolist(), t[: cut[1]].tolist()) for s, t in texts if keep(len(s), len(t))]


def test_training_leaves_out_what_is_too_long():
    rows = rows_of()
    assert pairs_in(rows) == whole(lambda s, t: s <= 15 and t <= 11)
    # What a row is made of is still known.
    texts = numbered(SOURCE)
    row = rows.make(20, RNG)
    assert (
        row["source"][: len(texts[rows.pairs(20)[0]])].tolist() == texts[rows.pairs(20)[0]].tolist()
    )
    assert rows.describe(20) == f"test[{rows.pairs(20)[0]}]"


def test_or_cuts_it():
    assert pairs_in(rows_of(on_long="cut")) == whole(cut=(15, 11))


@pytest.mark.parametrize("changes", [{}, {"pack": True}, {"on_long": "cut"}])
def test_evaluation_has_a_row_for_each_pair_in_order(changes):
    assert pairs_in(rows_of(train=False, **changes)) == whole(cut=(15, 11))


@pytest.mark.parametrize("on_long", ["drop", "cut"])
def test_packed_rows_hold_each_pair_once(on_long):
    plain, packed = rows_of(on_long=on_long), rows_of(on_long=on_long, pack=True)
    assert len(packed) < 0.85 * len(plain)
    assert sorted(pairs_in(packed)) == sorted(pairs_in(plain))
    assert pairs_in(packed) == pairs_in(rows_of(on_long=on_long, pack=True))


@pytest.mark.parametrize("pack", [False, True])
def test_fill_is_the_share_of_real_tokens(pack):
    rows = rows_of(pack=pack, on_long="cut")
    made = [rows.make(i, RNG) for i in range(len(rows))]
    for side, share in zip(("source", "target"), rows.fill(), strict=True):
        assert share == pytest.approx(np.mean([row[f"{side}_segment"] > 0 for row in made]))


def test_a_prefix_stands_before_each_source():
    prefix = VOCABULARY.encode("say: ").tolist()
    assert len(prefix) == 2
    rows = rows_of(prefix="say: ")
    expected = whole(lambda s, t: s + 2 <= 15 and t <= 11)
    assert pairs_in(rows) == [(prefix + s, t) for s, t in expected]
    cut = whole(cut=(13, 11))
    assert pairs_in(rows_of(prefix="say: ", train=False)) == [(prefix + s, t) for s, t in cut]


class Spaced:
    """Characters are tokens; a space is put before any text, as SentencePiece does."""

    def __init__(self, ahead: str):
        self.ahead = ahead

    def encode(self, text):
        return np.array([ord(c) for c in self.ahead + text], np.int32)


def test_a_prefixs_space_is_not_there_twice():
    # Checked by a subclass, as a protocol asks for all members.
    class Tokenizer(Spaced, Trios):
        def __init__(self, ahead):
            Trios.__init__(self, "")
            Spaced.__init__(self, ahead)

    for ahead, bare in ((" ", " say:"), ("", "say: ")):
        tokens = encode_prefix(Tokenizer(ahead), "say: ")
        assert "".join(map(chr, tokens)) == bare


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"source": [20, 30], "target": [3, 3]}, "the 2 pairs are too long; set a longer"),
        ({"source": [], "target": []}, "there are no pairs"),
        ({"source": [3, 3], "target": [3]}, "2 sources and 1 targets"),
        ({"prefix": "say: " * 8}, "data.prefix has 16 tokens, which leaves nothing"),
        ({"vocabulary": Trios("", eos=None)}, r"needs \[EOS\]"),
    ],
)
def test_what_makes_no_row_is_named(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        rows_of(**changes)


def test_texts_are_not_changed_by_laying_them_out():
    source, target = Stored([np.arange(5, dtype=np.int32)]), Stored([np.ones(2, np.int32)])
    rows = PairRows(source, target, VOCABULARY, DATA, name="test", train=True)
    rows.make(0, RNG)
    assert source[0].tolist() == [0, 1, 2, 3, 4]
