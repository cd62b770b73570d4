"""llama2.c's tokenizer, against its own rule: the two neighbours join whose union scores best."""

import itertools
import struct

import numpy as np
import pytest

from zoo.config import UserError
from zoo.data.text.tokenizers import load_tokenizer

WORDS = ["▁", *"abcde", "▁a", "ab", "bc", "abc", "▁abc", "de", "cd", "▁de", "ed", "▁e", "▁▁"]
BYTES = 256


def write(path):
    """Three special pieces, the bytes, then single letters and unions in a random order."""
    rng = np.random.default_rng(0)
    order = [WORDS[i] for i in rng.permutation(len(WORDS))]
    pieces = [("<unk>", 0.0), ("\n<s>\n", 0.0), ("\n</s>\n", 0.0)]
    pieces += [(chr(i), 0.0) for i in range(BYTES)]
    pieces += [(word.replace("▁", " "), -float(i)) for i, word in enumerate(order)]
    raw = [(text.encode(), score) for text, score in pieces]
    for i in range(BYTES):
        raw[3 + i] = (bytes([i]) if i < 128 else b"?", 0.0)
    path.write_bytes(
        struct.pack("<i", 9)
        + b"".join(struct.pack("<fi", score, len(text)) + text for text, score in raw)
    )
    return {word: (3 + BYTES + i, -float(i)) for i, word in enumerate(order)}


def by_hand(known, text):
    """Numbers of a text, by joining the best pair until there is none."""
    pieces = list("▁" + text.replace(" ", "▁"))
    while True:
        pairs = ["".join(pair) for pair in itertools.pairwise(pieces)]
        scores = [known[pair][1] if pair in known else -np.inf for pair in pairs]
        if not scores or max(scores) == -np.inf:
            break
        i = int(np.argmax(scores))
        pieces[i : i + 2] = [pairs[i]]
    numbers = []
    for piece in pieces:
        if piece in known:
            numbers.append(known[piece][0])
        else:
            numbers += [3 + byte for byte in piece.encode()]
    return numbers


def test_pieces_are_joined_by_score_and_the_rest_are_bytes(tmp_path):
    known = write(tmp_path / "tokenizer.bin")
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos, tokenizer.eos, tokenizer.size) == (1, 2, 3 + BYTES + len(WORDS))
    rng = np.random.default_rng(1)
    for _ in range(200):
        text = "".join(rng.choice(list("abcde  x~"), rng.integers(1, 12)))
        assert tokenizer.encode(text).tolist() == by_hand(known, text), text
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("keep", [0, 3, 100, 2000])
def test_a_file_cut_short_is_named(keep, tmp_path):
    path = tmp_path / "tokenizer.bin"
    write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="no llama2c tokenizer"):
        load_tokenizer(path)


def test_a_copy_is_the_same_tokenizer(tmp_path):
    write(tmp_path / "tokenizer.bin")
    tokenizer = load_tokenizer(tmp_path / "tokenizer.bin")
    tokenizer.save(tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy").fingerprint == tokenizer.fingerprint


@pytest.mark.oracle
@pytest.mark.filterwarnings("default")
def test_transformers_cuts_the_same_way_what_is_published(tmp_path):
    transformers = pytest.importorskip("transformers")
    write(tmp_path / "tokenizer.bin")
    tokenizer = load_tokenizer(tmp_path)
    (tmp_path / "hf").mkdir()
    tokenizer.publish(tmp_path / "hf")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    for text in ("abc de", "a  bcd ~", "x"):
        assert theirs(text)["input_ids"] == [1, *tokenizer.encode(text).tolist()]
    assert (theirs.bos_token_id, theirs.eos_token_id) == (1, 2)
    again = load_tokenizer(tmp_path / "hf")
    assert (again.bos, again.eos) == (1, 2)
    assert again.encode("abc de").tolist() == tokenizer.encode("abc de").tolist()
