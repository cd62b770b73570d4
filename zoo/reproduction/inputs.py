"""What small runs read: slices of real data sets, and tasks made of real sentences.

Where no registry holds a data set (GLUE, SQuAD, WMT), a task of the same form is made of texts that
are at hand. It exercises every line that the real one would; its numbers mean nothing else.
"""

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zoo.config import UserError
from zoo.config.data import (
    LabelledData,
    LmData,
    MaskedData,
    PairData,
    QuestionData,
    SpanData,
    TextData,
)
from zoo.data.catalog import default_dir
from zoo.data.text.tokenizers import train_tokenizer

TOKENS = 4000
LEARN_FROM = 4000  # texts that a tokenizer learns from
SENTINELS = 30
NUMBER = re.compile(r"\b\d+\b")


class Source(NamedTuple):
    """Where a stage's text lies: a directory, its splits, and the tokenizer for it."""

    dir: Path
    train: str
    test: str
    tokenizer: Path


class Inputs:
    """Tokenizers and tasks below a directory, each made when it is first asked for."""

    def __init__(self, directory: Path):
        self._directory = directory

    def text(self, kind: str, data: TextData) -> Source:
        """The stand-in of a kind, for a stage that reads such data.

        Raises:
          UserError: what it is made of is not there.
        """
        if kind == "help":
            root = fetched("libreoffice_help")
            return Source(root, "train", "test[:100]", self._tokenizer("sentencepiece", "help"))
        learner = "wordpiece"  # BERT's
        if isinstance(data, SpanData | PairData):  # T5's
            learner = "sentencepiece"
        elif isinstance(data, LmData):
            learner = "bpe"
        tokenizer = self._tokenizer(learner, "imdb")
        if isinstance(data, LabelledData | PairData | QuestionData):
            return Source(self._task(kind), "train", "test", tokenizer)
        # Running text; of a labelled task, the stage before it.
        split = "sentences" if isinstance(data, MaskedData) else "unlabelled"
        return Source(fetched("imdb"), f"{split}[:10%]", f"{split}[99%:]", tokenizer)

    def _tokenizer(self, learner: str, of: str) -> Path:
        place = self._directory / f"{learner}_{of}"
        if not place.exists():
            if of == "imdb":
                rows = column(fetched("imdb") / "unlabelled.jsonl", "text")
                texts = [*itertools.islice(rows, LEARN_FROM)]
            else:
                files = [fetched("libreoffice_help") / f"train.{name}" for name in ("en", "de")]
                texts = [
                    line for file in files for line in file.read_text().splitlines()[:LEARN_FROM]
                ]
            sentinels = SENTINELS if learner == "sentencepiece" else 0
            place.parent.mkdir(parents=True, exist_ok=True)
            train_tokenizer(learner, texts, TOKENS, place, sentinels=sentinels)
        return place

    def _task(self, kind: str) -> Path:
        """Written beside its place, and renamed when it is whole."""
        place = self._directory / kind
        if not place.exists():
            partial = place.with_name(f"{kind}.partial-{os.getpid()}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_task(kind, partial)
            partial.rename(place)
        return place


def write_task(kind: str, directory: Path) -> None:
    """A labelled task of real sentences: `train` of some thousands, `test` of a thousand.

    reviews   a sentence about a film, and whether it is favourable
    pairs     two of them, and whether the second one is
    triples   the same, or a sentence of a program's manual as the second one; in MNLI's columns
    scores    two of them, and 4 where the second one is favourable, else 1
    numbers   a sentence with one number, and the question for it
    """
    if kind == "numbers":
        for split, rows in _split(_numbers(), 1000).items():
            paragraphs = [{"context": c, "qas": [qa]} for c, qa in rows]
            document = {"data": [{"title": "numbers", "paragraphs": paragraphs}]}
            (directory / f"{split}.json").write_text(json.dumps(document))
        return
    for split in ("train", "test"):
        lines = [json.dumps(row) + "\n" for row in _labelled(kind, split)]
        (directory / f"{split}.jsonl").write_text("".join(lines))


def _labelled(kind: str, split: str) -> Iterator[dict[str, Any]]:
    rows = [*read_rows(fetched("rotten_tomatoes") / f"{split}.jsonl")]
    first_name, second_name, manual = "text", "text_pair", []
    if kind == "triples":
        first_name, second_name = "premise", "hypothesis"
        manual = (fetched("libreoffice_help") / "train.en").read_text().splitlines()
    for i, row in enumerate(rows):
        text, good = row["text"], row["label"] == "pos"
        if kind == "reviews":
            yield {"text": text, "label": "good" if good else "bad"}
            continue
        first = rows[i - 1]["text"]
        label: Any = "good" if good else "bad"
        if kind == "triples" and i % 3 == 0:
            text, label = manual[i % len(manual)], "other"
        elif kind == "scores":
            label = 4.0 if good else 1.0
        yield {first_name: first, second_name: text, "label": label}


def _numbers() -> Iterator[tuple[str, dict[str, Any]]]:
    for i, text in enumerate(column(fetched("imdb") / "sentences.jsonl", "text")):
        for sentence in text.splitlines():
            found = [*NUMBER.finditer(sentence)]
            if len(found) == 1 and len(sentence.split()) < 30:
                answer = {"text": found[0][0], "answer_start": found[0].start()}
                yield (
                    sentence,
                    {"id": f"{i}", "question": "Which number is named?", "answers": [answer]},
                )
                break


def _split(rows: Iterable[Any], count: int) -> dict[str, list[Any]]:
    """The first `count` rows to test on, five times as many to train on."""
    found = [*itertools.islice(rows, 6 * count)]
    cut = len(found) // 6
    return {"test": found[:cut], "train": found[cut:]}


def fetched(name: str) -> Path:
    """The directory of a data set that `benchmarks/fetch_data.py` lays out.

    Raises:
      UserError: it is not there.
    """
    path = default_dir(name)
    if not path.is_dir():
        raise UserError(
            f"small runs read {name}, and {path} is not there: python benchmarks/fetch_data.py "
            f"{name}"
        )
    return path


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, one a line."""
    with path.open() as lines:
        yield from map(json.loads, lines)


def column(path: Path, name: str) -> Iterator[str]:
    """One field of them."""
    return (row[name] for row in read_rows(path))
