"""Tokens in the cache: the same as the tokenizer's, made once, whatever happens meanwhile."""

import itertools
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from zoo.config import UserError
from zoo.config.data import TextData
from zoo.data.text import token_store
from zoo.data.text.token_store import open_tokens, split_sentences
from zoo.data.text.tokenizers import load_tokenizer, train_tokenizer

DOCUMENTS = ["One fish. Two fish!", "Red fish,\nblue fish.\n\tOld fish", "x", "This one has a ü?"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/train.txt").write_text("\n\n".join(DOCUMENTS))
    return TextData(name="text", dir=str(tmp_path / "text"), tokenizer="")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer") / "bpe"
    return train_tokenizer("bpe", DOCUMENTS * 3, 270, out)


@pytest.fixture
def no_making(monkeypatch):
    """After `no_making()`, tokens must come from the cache."""

    def refuse(*_, **__):
        raise AssertionError("made anew")

    return lambda: monkeypatch.setattr(token_store, "_make", refuse)


def stores(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache/tokens").iterdir())


def test_documents_are_the_tokenizers_tokens(data, tokenizer):
    store = open_tokens(data, "train", "text", tokenizer)
    assert len(store) == len(DOCUMENTS)
    for i, text in enumerate(DOCUMENTS):
        assert store[i].dtype == np.int32
        np.testing.assert_array_equal(store[i], tokenizer.encode(text))
    assert store.lengths.tolist() == [len(tokenizer.encode(text)) for text in DOCUMENTS]
    assert store.num_bytes.tolist() == [len(text.encode()) for text in DOCUMENTS]
    with pytest.raises(IndexError):
        store[4]
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy[1], store[1])
    assert len(pickle.dumps(store)) < 500


def test_sentences_are_lines_or_what_marks_end(data, tokenizer):
    store = open_tokens(data, "train", "text", tokenizer, sentences=True)
    for i, text in enumerate(DOCUMENTS):
        found = [tokenizer.decode(ids) for ids in store[i]]
        assert found == split_sentences(text)
    assert split_sentences(DOCUMENTS[0]) == ["One fish.", "Two fish!"]
    assert split_sentences(DOCUMENTS[1]) == ["Red fish,", "blue fish.", "Old fish"]
    assert store.lengths.tolist() == [sum(map(len, store[i])) for i in range(4)]
    copy = pickle.loads(pickle.dumps(store))
    assert [ids.tolist() for ids in copy[1]] == [ids.tolist() for ids in store[1]]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ('He said "Go." Then 3 left.', ['He said "Go."', "Then 3 left."]),
        ("It costs 3.50 e.g. here.", ["It costs 3.50 e.g. here."]),
        ("What?! (Yes.) “No.”", ["What?!", "(Yes.)", "“No.”"]),
        (" \n ", []),
    ],
)
def test_a_simple_rule_ends_sentences(text, sentences):
    assert split_sentences(text) == sentences


def test_a_blank_document_keeps_its_place(data, tokenizer, tmp_path):
    (tmp_path / "text/train.txt").unlink()
    (tmp_path / "text/train.jsonl").write_text('{"text": ""}\n{"text": "a"}\n{"text": ""}\n')
    for sentences in (False, True):
        store = open_tokens(data, "train", "text", tokenizer, sentences=sentences)
        assert [len(store[i]) for i in range(3)] == [0, 1, 0]
        assert store.lengths.tolist() == [0, 1, 0]


def test_batches_do_not_show(data, tokenizer, monkeypatch):
    whole = open_tokens(data, "train", "text", tokenizer, sentences=True)
    monkeypatch.setattr(token_store, "_AT_A_TIME", 1)
    monkeypatch.setattr(token_store, "_FORMAT", -1)
    parts = open_tokens(data, "train", "text", tokenizer, sentences=True)
    assert parts.root != whole.root
    flat = lambda store: [ids.tolist() for i in range(4) for ids in store[i]]
    assert flat(parts) == flat(whole)


def test_a_second_opening_reads_the_cache(data, tokenizer, tmp_path, no_making):
    first = open_tokens(data, "train", "text", tokenizer)
    no_making()
    tokenizer.save(tmp_path / "copy")
    again = open_tokens(data, "train", "text", load_tokenizer(tmp_path / "copy"))
    assert again.root == first.root


def test_whatever_changes_the_tokens_makes_them_anew(data, tokenizer, tmp_path):
    other = train_tokenizer("bpe", DOCUMENTS * 3, 265, tmp_path / "other")
    path = tmp_path / "text/train.txt"
    (tmp_path / "text/train.txt").write_text("\n\n".join(DOCUMENTS))
    roots = [
        open_tokens(data, "train", "text", tokenizer).root,
        open_tokens(data, "train[1:]", "text", tokenizer).root,
        open_tokens(data, "train", "text", tokenizer, sentences=True).root,
        open_tokens(data, "train", "text", other).root,
        open_tokens(data.replace(fields={"line": "text"}), "train", "line", tokenizer).root,
    ]
    os.utime(path, (1, 1))
    roots.append(open_tokens(data, "train", "text", tokenizer).root)
    path.write_text("another")
    os.utime(path, (1, 1))
    roots.append(open_tokens(data, "train", "text", tokenizer).root)
    assert len(set(roots)) == 7
    assert len(stores(tmp_path)) == 7


def test_a_slice_has_its_own_documents(data, tokenizer):
    store = open_tokens(data, "train[2:]", "text", tokenizer)
    assert [tokenizer.decode(store[i]) for i in range(len(store))] == DOCUMENTS[2:]


def test_two_that_make_the_same_both_read_it(data, tokenizer, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: open_tokens(data, "train", "text", tokenizer), range(4))
    assert {store[1].tobytes() for store in found} == {tokenizer.encode(DOCUMENTS[1]).tobytes()}
    assert len(stores(tmp_path)) == 1  # and nothing half made


def test_what_fails_leaves_nothing(data, tokenizer, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no field 'txt'; did you mean 'text'"):
        open_tokens(data, "train", "txt", tokenizer)
    (tmp_path / "text/dev.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(UserError, match="no document has text in its field 'text'"):
        open_tokens(data, "dev", "text", tokenizer)
    assert stores(tmp_path) == []


def test_large_vocabularies_take_four_bytes(data, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "size", 2**16 + 1)
    monkeypatch.setattr(tokenizer, "encode_batch", lambda texts: [np.array([2**16], np.int32)] * 4)
    store = open_tokens(data, "train", "text", tokenizer)
    assert list(itertools.chain.from_iterable(store[i] for i in range(4))) == [2**16] * 4
