"""Which files of a directory are a split of text, and of what sort."""

import re
from collections.abc import Callable
from pathlib import Path

from zoo.config import UserError
from zoo.data.base import no_split
from zoo.data.text.files import (
    Documents,
    JsonLines,
    Parallel,
    Questions,
    Reader,
    Table,
    TaggedWords,
    TextFolder,
)

LAYOUTS = (
    "SPLIT.jsonl, .tsv, .csv, .txt, .json (SQuAD) or .conll, SPLIT.en and SPLIT.de, SPLIT/*.txt or "
    "SPLIT/CLASS/*.txt"
)
UNLABELLED = "unsup"  # the folder of aclImdb that is no class
_READERS: dict[str, Callable[[Path], Reader]] = {
    "jsonl": JsonLines,
    "tsv": lambda path: Table(path, comma=False),
    "csv": lambda path: Table(path, comma=True),
    "txt": Documents,
    "conll": TaggedWords,
    "json": Questions,
}
_ONE_FILE = re.compile(rf"([\w-]+?)(?:-v\d[\d.]*)?\.({'|'.join(_READERS)})(?:\.gz)?")
_ONE_SIDE = re.compile(r"([\w-]+)\.([a-z]{2,3}(?:[-_][A-Za-z]+)?|source|target)")

Openers = dict[str, dict[str, Callable[[], Reader]]]  # split -> what it may be -> how to open it


def open_split(root: Path, split: str) -> Reader:
    """All of a split.

    Raises:
      UserError: no such directory or split, more than one that could be meant, or damaged files.
    """
    found = _openers(root)
    if split not in found:
        raise no_split(split, tuple(found), root)
    if len(found[split]) > 1:
        names = " and ".join(found[split])
        raise UserError(f"{root} has {names}: it is not clear which is {split!r}; keep one")
    (opener,) = found[split].values()
    return opener()


def split_names(root: Path) -> tuple[str, ...]:
    """The splits that a directory has.

    Raises:
      UserError: no such directory, or none in it.
    """
    return tuple(_openers(root))


def _openers(root: Path) -> Openers:
    if not root.is_dir():
        raise UserError(
            f"{root} is no directory: data.name 'text' needs {LAYOUTS} there; set data.dir"
        )
    found: Openers = {}
    sides: dict[str, dict[str, Path]] = {}
    for path in sorted(root.iterdir()):
        one, side = _ONE_FILE.fullmatch(path.name), _ONE_SIDE.fullmatch(path.name)
        if path.is_dir():
            if opener := _folder_opener(path):
                found.setdefault(path.name, {})[f"{path.name}/"] = opener
        elif one:
            opener = lambda path=path, kind=one[2]: _READERS[kind](path)
            found.setdefault(one[1], {})[path.name] = opener
        elif side:
            sides.setdefault(side[1], {})[side[2]] = path
    for split, paths in sides.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths.values())
            found.setdefault(split, {})[names] = lambda paths=paths: Parallel(paths)
    if not found:
        raise UserError(f"{root} holds no text: data.name 'text' needs {LAYOUTS} there")
    return found


def _folder_opener(path: Path) -> Callable[[], Reader] | None:
    inner = sorted(one.name for one in path.iterdir() if one.is_dir())
    classes = tuple(
        name for name in inner if name != UNLABELLED and any((path / name).glob("*.txt"))
    )
    if classes or any(path.glob("*.txt")):
        return lambda: TextFolder(path, classes)
    return None
