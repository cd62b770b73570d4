"""What a text model says as it learns: the same few examples at every evaluation."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from zoo.config.data import LmData, MaskedData, PairData
from zoo.config.schema import Config
from zoo.data.text.records import open_records
from zoo.data.text.token_store import open_tokens
from zoo.data.text.tokenizers import Tokenizer
from zoo.inference.bert import MASK, MaskFiller
from zoo.inference.decoding import GREEDY
from zoo.inference.generate import LanguageModel
from zoo.inference.opening import TextModel
from zoo.inference.translate import Translator
from zoo.tasks.build import Params
from zoo.training.resolve import Run
from zoo.training.workdir import write_text

NUM_SAMPLES = 4
PROMPT, WRITTEN = 12, 40  # tokens of a language model's prompt, and of what it writes
SHOWN, EVERY = 24, 6  # words of a text with masks, and how many a mask
MAX_CHARS = 400  # of a text that is shown

Sampler = Callable[[Params], list[dict[str, str]]]


def make_sampler(run: Run) -> Sampler | None:
    """What to ask of a model: examples of the first evaluation split, with what is right.

    Returns:
      parameters -> for each example `given`, `said` and, where there is one, `right`. None for
      models that say nothing, and on several hosts, where no process holds all of a model.
    """
    config, tokenizer = run.config, run.tokenizer
    split = next(iter(config.data.eval_splits.values()), None)
    if tokenizer is None or split is None or jax.process_count() > 1:
        return None

    def opened(params: Params) -> TextModel:
        return TextModel(config, run.classes, tokenizer, params)

    data = config.data
    if isinstance(data, LmData):
        return _written(config, data, split, tokenizer)
    if isinstance(data, MaskedData):
        return _filled(data, split, tokenizer, opened)
    if isinstance(data, PairData):
        return _translated(data, split, tokenizer, opened)
    return None


def _written(config: Config, data: LmData, split: str, tokenizer: Tokenizer) -> Sampler:
    documents = open_tokens(data, split, "text", tokenizer)
    starts = [documents[i] for i in range(min(NUM_SAMPLES, len(documents)))]
    length = min(PROMPT, data.length // 2)
    given = [tokenizer.decode(tokens[:length]) for tokens in starts if len(tokens)]
    right = [
        tokenizer.decode(tokens[length : length + WRITTEN]) for tokens in starts if len(tokens)
    ]

    def sample(params: Params) -> list[dict[str, str]]:
        model = LanguageModel(config, tokenizer, params)
        found = model.generate(given, max_tokens=WRITTEN, sampling=GREEDY)
        said = [one["text"] for one in found]
        return _cards(given, said, right)

    return sample


def _filled(data: MaskedData, split: str, tokenizer: Tokenizer, opened: Callable) -> Sampler:
    records = open_records(data, split)
    texts = [records[i]["text"].split()[:SHOWN] for i in range(min(NUM_SAMPLES, len(records)))]
    for words in texts:
        while len(tokenizer.encode(" ".join(words))) > data.length - 2:
            words.pop()
    texts = [words for words in texts if len(words) >= EVERY]
    given = [" ".join(MASK if i % EVERY == EVERY - 1 else w for i, w in enumerate(words))
             for words in texts]  # fmt: skip
    right = [", ".join(words[EVERY - 1 :: EVERY]) for words in texts]

    def sample(params: Params) -> list[dict[str, str]]:
        filler = MaskFiller(opened(params))
        found = [filler.fill(text, top=1)["masks"] for text in given]
        said = [", ".join(best["token"] for (best,) in masks) for masks in found]
        return _cards(given, said, right)

    return sample


def _translated(
    data: PairData, split: str, tokenizer: Tokenizer, opened: Callable
) -> Sampler | None:
    records = open_records(data, split)
    # Those that fit; a prefix takes some room too.
    room = data.length - 1 - len(tokenizer.encode(data.prefix))
    fitting = (one for one in records if len(tokenizer.encode(one["source"])) < room)
    chosen = list(itertools.islice(fitting, NUM_SAMPLES))
    if not chosen:
        return None

    def sample(params: Params) -> list[dict[str, str]]:
        found = Translator(opened(params)).translate([one["source"] for one in chosen])
        said = [one["target"] for one in found]
        return _cards([one["source"] for one in chosen], said, [one["target"] for one in chosen])

    return sample


def _cards(given: list[str], said: list[str], right: list[str]) -> list[dict[str, str]]:
    return [
        {"given": g[:MAX_CHARS], "said": s[:MAX_CHARS], "right": r[:MAX_CHARS]}
        for g, s, r in zip(given, said, right, strict=True)
    ]


class Samples:
    """Asks a run's model after each evaluation, and keeps what it says in `samples.jsonl`."""

    def __init__(self, workdir: Path):
        self._workdir = workdir
        self._sampler: Sampler | None = None
        self._is_known = False  # what to ask, if anything

    def look(self, run: Run, step: int, params: Params) -> None:
        """Asks once."""
        if not self._is_known:
            self._sampler, self._is_known = make_sampler(run), True
        if self._sampler is not None:
            write_samples(self._workdir, step, self._sampler(params))


def write_samples(workdir: Path, step: int, samples: list[dict[str, str]]) -> None:
    """Puts a step's samples to the others of the run; a step that is done again has its last."""
    kept = {**read_samples(workdir), step: samples}
    lines = [json.dumps({"step": at, "samples": kept[at]}) for at in sorted(kept)]
    write_text(workdir / "samples.jsonl", "\n".join(lines) + "\n")


def read_samples(workdir: Path) -> dict[int, list[dict[str, str]]]:
    """Step -> its samples."""
    path = workdir / "samples.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {record["step"]: record["samples"] for record in records}
