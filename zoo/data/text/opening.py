"""Which files make a tokenizer, and of what sort they are."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zoo.config import UserError
from zoo.data.text import llama2c, marian
from zoo.data.text.pieces import HfPieces, Pieces, SentencePieces, byte_level, wordpiece

SETTINGS_FILE = "zoo_tokenizer.json"
ROLES_FILE = "tokenizer_config.json"  # says which tokens are special for what
LAYOUTS = (
    "a directory that `zoo data tokenizer` made, tokenizer.json, vocab.txt (WordPiece), vocab.bpe "
    "or merges.txt beside encoder.json or vocab.json (byte-level BPE), *.model (SentencePiece), "
    "MarianMT's source.spm, target.spm and vocab.json, or llama2.c's tokenizer.bin"
)
# BPE's merges by the vocabularies that lie beside them.
_VOCABULARIES = ("encoder.json", "vocab.json")
_MERGES = ("vocab.bpe", "merges.txt")
_LLAMA2C = "tokenizer.bin"
MARIAN_TARGETS = "marian targets"  # the same files, cutting the language translated into
_CAPITAL = re.compile(r"[A-Z]")


class Files(NamedTuple):
    """A tokenizer's files, and what they do not say themselves."""

    kind: str
    paths: tuple[Path, ...]
    lowercase: bool = False
    sentinels: int | None = None  # of a SentencePiece model, above its pieces; None: T5's habit


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `zoo_tokenizer.json` holds: `Files`, by name."""

    kind: str
    files: tuple[str, ...]
    lowercase: bool
    sentinels: int | None


def find_files(path: Path) -> Files:
    """A path's tokenizer: its own directory, a published file, or a directory with one.

    Raises:
      UserError: nothing is there, or nothing of these.
    """
    if not path.exists():
        raise UserError(f"there is no tokenizer {path}: give {LAYOUTS}")
    if path.is_file():
        return _of_file(path)
    if (path / SETTINGS_FILE).is_file():
        return _of_settings(path)
    if (path / marian.SOURCE).is_file():  # a tokenizer.json there would know one language of two
        return _marian(path)
    names = ("tokenizer.json", *_MERGES, "vocab.txt", _LLAMA2C)
    found = [path / name for name in names if (path / name).is_file()]
    found += sorted(path.glob("*.model"))
    if not found:
        raise UserError(f"{path} holds no tokenizer: give {LAYOUTS}")
    return _of_file(found[0])


def open_library(files: Files) -> Pieces:
    """Opens the files.

    Raises:
      UserError: they are not of the sort that their names say.
    """
    try:
        return _open(files)
    except UserError:
        raise
    except Exception as error:  # the libraries raise nothing more special
        named = " and ".join(map(str, files.paths))
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{named}: no {files.kind} tokenizer ({reason}): give {LAYOUTS}") from error


def _of_settings(path: Path) -> Files:
    try:
        settings = msgspec.json.decode((path / SETTINGS_FILE).read_bytes(), type=Settings)
    except msgspec.DecodeError as error:
        raise UserError(f"{path / SETTINGS_FILE} is damaged ({error}): make it again") from error
    paths = tuple(path / name for name in settings.files)
    for one in paths:
        if not one.is_file():
            raise UserError(f"{path} lacks {one.name}: copy all of a tokenizer's directory")
    return Files(settings.kind, paths, settings.lowercase, settings.sentinels)


def _of_file(path: Path) -> Files:
    if path.suffix == ".spm" or (path.parent / marian.SOURCE).is_file():
        return _marian(path.parent)
    if path.suffix == ".model":
        return Files("sentencepiece", (path,))
    if path.name in _VOCABULARIES + _MERGES:
        beside = _MERGES if path.name in _VOCABULARIES else _VOCABULARIES
        other = next((path.with_name(n) for n in beside if path.with_name(n).is_file()), None)
        if other is None:
            raise UserError(f"{path} needs {' or '.join(beside)} beside it")
        pair = (path, other) if path.name in _VOCABULARIES else (other, path)
        return Files("bpe", pair)
    if path.suffix == ".txt":
        return Files("wordpiece", (path,), lowercase=_is_uncased(path))
    if path.name == _LLAMA2C:
        return Files("llama2c", (path,))
    if path.suffix == ".json":
        beside = path.with_name(ROLES_FILE)
        return Files("json", (path, beside) if beside.is_file() else (path,))
    raise UserError(f"{path} is no tokenizer: give {LAYOUTS}")


def _marian(directory: Path) -> Files:
    paths = tuple(directory / n for n in (marian.VOCABULARY, marian.SOURCE, marian.TARGET))
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise UserError(f"{missing} is not there: MarianMT's tokenizer is all three of its files")
    beside = directory / ROLES_FILE
    if not beside.is_file():
        return Files("marian", paths)
    if _read_object(beside).get("separate_vocabs"):
        raise UserError(f"{beside}: two vocabularies (separate_vocabs) are not read here, only one")
    return Files("marian", (*paths, beside))


def _is_uncased(vocabulary: Path) -> bool:
    """What Hugging Face's settings beside a `vocab.txt` say; else, whether it has no capital."""
    beside = vocabulary.with_name(ROLES_FILE)
    if beside.is_file():
        return bool(_read_object(beside).get("do_lower_case", True))
    text = vocabulary.read_text("utf-8", "replace")
    return not any(_CAPITAL.search(piece) for piece in text.splitlines() if piece[:1] != "[")


def read_roles(files: Files) -> dict[str, str | None]:
    """The begin and end of a text, by Hugging Face's settings beside a `tokenizer.json`.

    None: there is none, whatever the vocabulary has; a role that they do not name is left out.
    """
    found: dict[str, str | None] = {}
    for path in files.paths[1:] if files.kind == "json" else ():
        settings = _read_object(path)
        for role in ("bos", "eos"):
            token = settings.get(f"{role}_token", "")
            token = token.get("content") if isinstance(token, dict) else token
            if token is None or (isinstance(token, str) and token):
                found[role] = token
    return found


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}): mend or remove it") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no JSON object: mend or remove it")
    return found


def _open(files: Files) -> Pieces:
    path = files.paths[0]
    if files.kind == "sentencepiece":
        return SentencePieces(path.read_bytes(), files.sentinels)
    if files.kind in ("marian", MARIAN_TARGETS):
        return marian.MarianPieces(
            marian.read_parts(files.paths), targets=files.kind == MARIAN_TARGETS
        )
    library: Any
    if files.kind == "wordpiece":
        tokens = path.read_text("utf-8").splitlines()
        if "[UNK]" not in tokens or len(set(tokens)) != len(tokens):
            raise ValueError("it needs one piece a line, each once, [UNK] among them")
        vocabulary = {token: number for number, token in enumerate(tokens)}
        library = wordpiece(vocabulary, lowercase=files.lowercase)
    elif files.kind == "bpe":
        from tokenizers.models import BPE

        found = BPE.read_file(*map(str, files.paths))
        library = byte_level(*found, lowercase=files.lowercase)
    elif files.kind == "llama2c":
        library = llama2c.build(llama2c.read_pieces(path))
    else:
        from tokenizers import Tokenizer

        library = Tokenizer.from_file(str(path))
    return HfPieces(library)
