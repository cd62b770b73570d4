"""Tokenizers: published layouts, our own, their special tokens, offsets, streaming; learning."""

import json
import pickle
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest

from zoo.config import UserError
from zoo.data.text.pieces import _BYTE_OF
from zoo.data.text.tokenizers import load_tokenizer, train_tokenizer

WORDS = "the quick brown fox jumps over a lazy dog while naïve cafés serve 42 pies isn't it odd"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
HARD = "Héllo,  wörld!\n\tThe [MASK] isn't <pad> 你好 😀👩‍👩‍👧 x\u200bﬁne \u00a0 end "


def corpus(count: int = 300) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS.split(), k=12)).capitalize() + "." for _ in range(count)]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """One tokenizer of each kind that we learn."""
    root = tmp_path_factory.mktemp("learnt")
    sizes = {"wordpiece": (105, 0), "bpe": (300, 3), "sentencepiece": (320, 5)}
    return {
        kind: train_tokenizer(kind, corpus(), size, root / kind, sentinels=sentinels)
        for kind, (size, sentinels) in sizes.items()
    }


@pytest.fixture(params=["wordpiece", "bpe", "sentencepiece"])
def tokenizer(request, learnt):
    return learnt[request.param]


@pytest.fixture
def bert(tmp_path):
    """Devlin's own example, as a `vocab.txt`."""
    pieces = [*SPECIALS, "un", "##aff", "##able", "want", "##ed", "runn", "##ing", ","]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    return tmp_path / "vocab.txt"


# ---- published files ----


def test_wordpiece_cuts_as_bert_does(bert):
    tokenizer = load_tokenizer(bert)
    assert tokenizer.encode("UNaffable, wantéd running").tolist() == [5, 6, 7, 12, 8, 9, 10, 11]
    assert tokenizer.encode("unseen").tolist() == [1]
    assert tokenizer.decode([2, 5, 6, 7, 12, 8, 9, 3, 0]) == "unaffable , wanted"
    assert tokenizer.word_starts.tolist() == [1] * 6 + [0, 0, 1, 0, 1, 0, 1]
    assert tokenizer.byte_lengths.tolist() == [0] * 5 + [2, 3, 4, 4, 2, 4, 3, 1]
    roles = (tokenizer.pad, tokenizer.unk, tokenizer.cls, tokenizer.sep, tokenizer.mask)
    assert roles == (0, 1, 2, 3, 4)
    assert (tokenizer.bos, tokenizer.eos, tokenizer.sentinels) == (None, None, [])


def test_a_cased_vocabulary_says_so_beside_it(bert):
    bert.with_name("tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = load_tokenizer(bert)
    assert cased.encode("Unaffable unaffable").tolist() == [1, 5, 6, 7]
    bert.with_name("tokenizer_config.json").unlink()
    assert load_tokenizer(bert).fingerprint != cased.fingerprint


@pytest.mark.parametrize("names", [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")])
def test_byte_level_bpe_from_gpt2s_files(tmp_path, names):
    alphabet = {char: i for i, char in enumerate(_BYTE_OF)}
    vocabulary = alphabet | {"th": 256, "Ġth": 257, "Ġthe": 258, "<|endoftext|>": 259}
    (tmp_path / names[0]).write_text(json.dumps(vocabulary))
    (tmp_path / names[1]).write_text("#version: 0.2\nt h\nĠ th\nĠth e\n")
    for path in (tmp_path, tmp_path / names[0], tmp_path / names[1]):
        tokenizer = load_tokenizer(path)
        assert [tokenizer.token(i) for i in tokenizer.encode("the the")] == ["th", "e", "Ġthe"]
        assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.size) == (
            259,
            259,
            None,
            260,
        )
        assert tokenizer.decode([*tokenizer.encode(HARD), 259]) == HARD


def test_a_tokenizer_json_is_read_without_its_padding_and_truncation(bert):
    tokenizer = load_tokenizer(bert)
    library = tokenizer._library._library
    library.enable_truncation(2)
    library.enable_padding(length=9)
    path = bert.with_name("tokenizer.json")
    library.save(str(path))
    other = load_tokenizer(path)
    assert other.kind == "wordpiece"
    assert other.encode("unaffable wanted").tolist() == [5, 6, 7, 8, 9]
    assert other.mask == 4


def test_settings_beside_a_tokenizer_json_say_how_texts_begin_and_end(learnt, tmp_path):
    plain = learnt["bpe"]
    plain._library._library.save(str(tmp_path / "tokenizer.json"))
    before = load_tokenizer(tmp_path)
    assert (before.bos, before.eos) == (plain.bos, plain.eos)
    first, last = plain.token(7), plain.token(8)
    for settings, expected in (
        ({"bos_token": None, "eos_token": last}, (None, 8)),
        ({"bos_token": {"content": first}}, (7, plain.eos)),
        ({"bos_token": "not there"}, (None, plain.eos)),
        ({}, (plain.bos, plain.eos)),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        found = load_tokenizer(tmp_path)
        assert (found.bos, found.eos) == expected
        found.save(tmp_path / "copy")
        copy = load_tokenizer(tmp_path / "copy")
        assert (copy.bos, copy.eos, copy.fingerprint) == (*expected, found.fingerprint)
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(UserError, match=r"tokenizer_config.json is no JSON"):
        load_tokenizer(tmp_path)


def test_the_byte_alphabet_is_the_librarys():
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(_BYTE_OF) == set(ByteLevel.alphabet())
    assert sorted(_BYTE_OF.values()) == list(range(256))
    for byte in (0, 10, 32, 127, 160, 173, 255):
        if byte < 128:
            shown = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(byte))
            assert _BYTE_OF[shown[0][0]] == byte


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (None, "", "there is no tokenizer .*give a directory that `zoo data tokenizer` made"),
        ("empty/", "", "holds no tokenizer"),
        ("notes.pdf", "x", "notes.pdf is no tokenizer"),
        ("config.json", '{"a": 1}', "config.json: no json tokenizer"),
        ("spiece.model", "no model", "spiece.model: no sentencepiece tokenizer"),
        ("vocab.txt", "a\nb\n", r"vocab.txt: no wordpiece tokenizer .*\[UNK\] among them"),
        ("merges.txt", "a b\n", "merges.txt needs encoder.json or vocab.json beside it"),
        ("zoo_tokenizer.json", "{}", "zoo_tokenizer.json"),
    ],
)
def test_what_is_no_tokenizer_is_named(tmp_path, name, content, complaint):
    path = tmp_path / (name or "missing")
    if (name or "").endswith("/"):
        path.mkdir()
    elif name:
        path.write_text(content)
    if name == "zoo_tokenizer.json":
        path = tmp_path
    with pytest.raises(UserError, match=complaint) as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


# ---- what every kind does ----


def test_text_is_kept_and_never_becomes_a_special_token(tokenizer):
    ids = tokenizer.encode("[MASK] [SEP] <pad> <eos> </s> <extra_id_0>")
    special = {tokenizer.mask, tokenizer.sep, tokenizer.pad, tokenizer.eos, *tokenizer.sentinels}
    assert special.isdisjoint(ids.tolist())
    text = "The quick brown fox."
    wanted = {"wordpiece": "the quick brown fox ."}.get(tokenizer.kind, text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == wanted
    assert tokenizer.decode([tokenizer.pad, *ids, *tokenizer.sentinels, tokenizer.pad]) == wanted


def test_a_batch_is_as_its_texts(tokenizer, monkeypatch):
    monkeypatch.setattr("zoo.data.text.tokenizers._BATCH_CHARS", 200)  # several batches
    texts = [HARD, "", *corpus(9)]
    found = tokenizer.encode_batch(texts)
    assert len(found) == len(texts)
    for text, ids in zip(texts, found, strict=True):
        np.testing.assert_array_equal(ids, tokenizer.encode(text))
    assert tokenizer.encode_batch([]) == []


def test_offsets_are_characters_of_the_text(tokenizer):
    text = "  The naïve fox,\nisn't it odd?  "
    ids, starts, ends = tokenizer.encode_offsets(text)
    np.testing.assert_array_equal(ids, tokenizer.encode(text))
    assert (starts <= ends).all()
    assert (np.diff(starts) >= 0).all()
    covered = "".join(text[a:b] for a, b in zip(starts, ends, strict=True))
    assert covered == "".join(text.split())  # each letter once, no space


def test_words_keep_their_pieces_together(tokenizer):
    words = ["The", "naïve", "fox", "", "isn't", "odd", "."]
    ids, index = tokenizer.encode_words(words)
    np.testing.assert_array_equal(ids, tokenizer.encode(" ".join(words)))
    assert (np.diff(index) >= 0).all()
    parts = [tokenizer.decode(ids[index == i]) for i in range(len(words))]
    shown = [part.strip().replace(" ", "") for part in parts]
    lowered = ["the", "naive", "fox", "", "isn't", "odd", "."]
    assert shown == (lowered if tokenizer.lowercase else words)


def test_streamed_text_comes_whole_and_is_decodes(tokenizer):
    for text in (HARD, "The 😀 fox", ""):
        ids = [*tokenizer.encode(text), tokenizer.pad]
        decoder = tokenizer.stream_decoder()
        parts = [decoder.add(number) for number in ids]
        assert "\ufffd" not in "".join(parts)
        assert "".join(parts) + decoder.end() == tokenizer.decode(ids)


def test_a_cut_character_is_only_given_out_at_the_end(learnt):
    for kind in ("bpe", "sentencepiece"):
        ids = learnt[kind].encode("a😀")
        decoder = learnt[kind].stream_decoder()
        assert "".join(decoder.add(number) for number in ids[:-1]) == "a"
        assert set(decoder.end()) == {"\ufffd"}


def test_byte_lengths_add_up_to_the_text(learnt):
    for text in (*corpus(5), HARD):
        ids = learnt["bpe"].encode(text)
        assert learnt["bpe"].byte_lengths[ids].sum() == len(text.encode())
    text = "naïve 你好 fox"
    ids = learnt["sentencepiece"].encode(text)
    assert learnt["sentencepiece"].byte_lengths[ids].sum() == len(text.encode()) + 1  # " naïve"


def test_word_starts_are_where_a_space_was(tokenizer):
    text = "quick brown lazy foxes isn't"
    ids, starts, _ = tokenizer.encode_offsets(text)
    begins = {0, *(i + 1 for i, char in enumerate(text) if char == " ")}
    for number, start, before in zip(ids[1:], starts[1:], starts, strict=False):
        # The space may be a piece of its own; and BERT parts punctuation.
        if start > before and not (tokenizer.kind == "wordpiece" and text[start] in "'t"):
            assert tokenizer.word_starts[number] == (start in begins), tokenizer.token(number)


def test_tokens_and_numbers_are_inverse(tokenizer):
    assert tokenizer.size == len(tokenizer.word_starts) == len(tokenizer.byte_lengths)
    for number in range(tokenizer.size):
        assert tokenizer.id(tokenizer.token(number)) == number
    assert tokenizer.id("no such token") is None
    assert [tokenizer.token(i) for i in tokenizer.sentinels] == [
        f"<extra_id_{i}>" for i in range(len(tokenizer.sentinels))
    ]


def test_a_copy_and_a_pickle_are_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "copy")
    for other in (load_tokenizer(tmp_path / "copy"), pickle.loads(pickle.dumps(tokenizer))):
        assert other.fingerprint == tokenizer.fingerprint
        np.testing.assert_array_equal(other.encode(HARD), tokenizer.encode(HARD))
    assert len(pickle.dumps(tokenizer)) < 500


# ---- learning ----


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "sentencepiece"])
def test_the_same_text_makes_the_same_tokenizer_in_another_process(kind, learnt, tmp_path):
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.data.text.test_tokenizers import corpus, train_tokenizer\n"
        f"t = train_tokenizer({kind!r}, corpus(), {learnt[kind].size}, {str(tmp_path / 'o')!r}, "
        f"sentinels={len(learnt[kind].sentinels)})\n"
        "print(t.fingerprint)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == learnt[kind].fingerprint


def test_special_tokens_stand_where_the_originals_have_them(learnt):
    assert [learnt["wordpiece"].token(i) for i in range(5)] == SPECIALS
    assert [learnt["bpe"].token(i) for i in range(3)] == ["<pad>", "<bos>", "<eos>"]
    t5 = learnt["sentencepiece"]
    assert (t5.pad, t5.eos, t5.unk, t5.bos) == (0, 1, 2, None)
    assert t5.sentinels == [319, 318, 317, 316, 315]
    assert t5.size == 320
    # A model of T5's kind that comes without our settings has T5's hundred.
    foreign = load_tokenizer(t5.path / "spiece.model")
    assert foreign.size == 315 + 100
    assert foreign.sentinels[:2] == [414, 413]


def test_capitals_go_or_stay_as_asked(tmp_path):
    for kind, size in (("wordpiece", 100), ("bpe", 300), ("sentencepiece", 308)):
        lower = train_tokenizer(kind, corpus(), size, tmp_path / f"{kind}-l", lowercase=True)
        cased = train_tokenizer(kind, corpus(), size, tmp_path / f"{kind}-c", lowercase=False)
        assert lower.decode(lower.encode("The Fox")) == "the fox"
        assert cased.decode(cased.encode("The Fox")) in ("The Fox", "The")  # no F in the corpus
        assert load_tokenizer(lower.path).lowercase


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "sentencepiece"])
def test_a_vocabulary_that_the_text_cannot_fill_is_refused(kind, tmp_path):
    with pytest.raises(UserError, match=r"the text fills a vocabulary of \d+ tokens, not 5000"):
        train_tokenizer(kind, corpus(20), 5000, tmp_path / "o")
    with pytest.raises(UserError, match="a vocabulary of 20 is too small"):
        train_tokenizer(kind, corpus(20), 20, tmp_path / "o")
    with pytest.raises(UserError, match="all documents are blank"):
        train_tokenizer(kind, ["", " \n"], 100, tmp_path / "o")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_made_is_said_first(tmp_path):
    with pytest.raises(UserError, match="no tokenizer kind 'wordpeice'; did you mean 'wordpiece'"):
        train_tokenizer("wordpeice", corpus(), 100, tmp_path / "o")
    (tmp_path / "mine").write_text("")
    with pytest.raises(UserError, match="is there already"):
        train_tokenizer("bpe", corpus(), 300, tmp_path)


# ---- against transformers ----


@pytest.mark.oracle
def test_numbers_are_transformers(learnt, tmp_path):
    from transformers import AutoTokenizer

    classes = {"wordpiece": "BertTokenizer", "bpe": "GPT2Tokenizer", "sentencepiece": "T5Tokenizer"}
    for kind, tokenizer in learnt.items():
        folder = tmp_path / kind
        shutil.copytree(tokenizer.path, folder)
        settings = {"tokenizer_class": classes[kind], "do_lower_case": True, "extra_ids": 5}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        theirs = AutoTokenizer.from_pretrained(folder)
        # Its T5 has no bytes for what is rare.
        rare = "" if kind == "sentencepiece" else "Odd, 你好 😀?"
        for text in (*corpus(5), f"The cafés serve 42 pies\n isn't  it {rare}"):
            want = theirs(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.encode(text).tolist() == want, kind
        assert theirs.convert_tokens_to_ids("<extra_id_0>") == (tokenizer.sentinels or [1])[0]
