"""Vocabularies from text: the files of a new tokenizer. The same text gives the same files."""

import io
import itertools
import json
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zoo.config import UserError
from zoo.config.load import nearest
from zoo.data.text.pieces import byte_level, wordpiece

KINDS = ("wordpiece", "bpe", "sentencepiece")
WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BPE_SPECIALS = ("<pad>", "<bos>", "<eos>")
MIN_FREQUENCY = 2  # a merge of what occurs once is no rule
MAX_ALPHABET = 1000  # characters of WordPiece: the most frequent ones; others are [UNK]
_LINE_CHARS = 100_000  # SentencePiece leaves longer lines out


def learn(
    kind: str, texts: Iterable[str], vocab_size: int, *, lowercase: bool, sentinels: int
) -> dict[str, bytes]:
    """Learns a vocabulary.

    Returns:
      The tokenizer's files by name, as their originals are laid out.

    Raises:
      UserError: another kind, no text, or too little for so large a vocabulary.
    """
    makers = {"wordpiece": _wordpiece, "bpe": _bpe, "sentencepiece": _sentencepiece}
    if kind not in makers:
        raise UserError(
            f"there is no tokenizer kind {kind!r}{nearest(kind, list(KINDS))}: it is one of "
            f"{', '.join(KINDS)} (which learns unigrams)"
        )
    extra = tuple(f"<extra_id_{i}>" for i in range(sentinels))
    return makers[kind](_some(texts), vocab_size, lowercase, extra)


def _some(texts: Iterable[str]) -> Iterable[str]:
    """The texts, after a look whether there are any.

    Raises:
      UserError: they are all blank.
    """
    rest, head = iter(texts), []
    for text in rest:
        head.append(text)
        if text.strip():
            return itertools.chain(head, rest)
    raise UserError("there is no text to make a tokenizer of: all documents are blank")


def _wordpiece(
    texts: Iterable[str], vocab_size: int, lowercase: bool, extra: tuple[str, ...]
) -> dict[str, bytes]:
    from tokenizers import trainers

    specials = [*WORDPIECE_SPECIALS, *extra]
    library = wordpiece({}, lowercase=lowercase)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "text"
        with path.open("w", encoding="utf-8") as file:
            for text in texts:
                counts.update(library.normalizer.normalize_str(text))
                file.write(text + "\n")
        # The library chooses among equals by the order of a hash table, which is another each time:
        # among characters at the limit, and among merges by the numbers of their parts.
        ranked = sorted(counts, key=lambda char: (-counts[char], char))
        alphabet = sorted([char for char in ranked if not char.isspace()][:MAX_ALPHABET])
        within = [f"##{char}" for char in alphabet if not _stands_alone(char)]
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=MIN_FREQUENCY,
            special_tokens=[*specials, *alphabet, *within],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        library.train([str(path)], trainer)
    vocabulary = library.get_vocab()
    _check_size(len(vocabulary), vocab_size, len(specials) + len(alphabet) + len(within))
    lines = sorted(vocabulary, key=lambda token: vocabulary[token])
    return {"vocab.txt": "".join(f"{token}\n" for token in lines).encode()}


def _bpe(
    texts: Iterable[str], vocab_size: int, lowercase: bool, extra: tuple[str, ...]
) -> dict[str, bytes]:
    from tokenizers import pre_tokenizers, trainers

    library = byte_level({}, [], lowercase=lowercase)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[*BPE_SPECIALS, *extra],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer)
    vocabulary = library.get_vocab()
    _check_size(len(vocabulary), vocab_size, 256 + len(BPE_SPECIALS) + len(extra))
    with tempfile.TemporaryDirectory() as work:
        library.model.save(work)
        merges = (Path(work) / "merges.txt").read_bytes()
    ordered = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    return {"vocab.json": json.dumps(ordered, ensure_ascii=False).encode(), "merges.txt": merges}


def _sentencepiece(
    texts: Iterable[str], vocab_size: int, lowercase: bool, extra: tuple[str, ...]
) -> dict[str, bytes]:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    trainer: Any = SentencePieceTrainer
    try:
        trainer.train(
            sentence_iterator=_lines(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size - len(extra),
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            byte_fallback=True,
            normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
            max_sentence_length=4 * _LINE_CHARS + 1,
            num_threads=4,  # the sums' order hangs on it
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(_too_much_or_little(str(error), vocab_size, len(extra))) from error
    return {"spiece.model": model.getvalue()}


def _stands_alone(char: str) -> bool:
    """Whether BERT's tokenizer makes the character a word: punctuation, ASCII's symbols too."""
    return unicodedata.category(char)[0] == "P" or (char.isascii() and not char.isalnum())


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in text.splitlines():
            for start in range(0, len(line), _LINE_CHARS):
                yield line[start : start + _LINE_CHARS]


def _too_much_or_little(reason: str, vocab_size: int, sentinels: int) -> str:
    """SentencePiece's complaint about a size, in our words."""
    if found := re.search(r"set it to a value <= (\d+)", reason):
        return _too_large(vocab_size, int(found[1]) + sentinels)
    if found := re.search(r"required_chars. \d+ vs (\d+)", reason):
        return _too_small(vocab_size, int(found[1]) + sentinels)
    return f"SentencePiece cannot learn a vocabulary of {vocab_size} from this text: {reason}"


def _check_size(found: int, wanted: int, least: int) -> None:
    if wanted < least:
        raise UserError(_too_small(wanted, least))
    if found < wanted:
        raise UserError(_too_large(wanted, found))


def _too_large(wanted: int, most: int) -> str:
    return f"the text fills a vocabulary of {most} tokens, not {wanted}: ask for less, or give more"


def _too_small(wanted: int, least: int) -> str:
    return f"a vocabulary of {wanted} is too small: this text's characters alone need {least}"
