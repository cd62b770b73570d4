"""How many rows and tokens a second one core makes of text, for each kind; and how full rows are.

    python benchmarks/text_input.py [--dir DIR --tokenizer T] [--seconds 2] [--json FILE]

Without --dir it makes its own text, always the same: documents of sentences of words whose
frequencies fall as in English (Zipf's law) and whose lengths vary, and a WordPiece and a byte-level
BPE vocabulary of 8,000 pieces learnt from it. With --dir, that directory's split `train` is read,
as far as it has the fields of a kind. CPU time of one thread; the tokens are in the cache already,
which is what all epochs but the first find. "tokens" are real ones, without padding. Packing
is measured alone, too: a million pairs of lengths as LibreOffice's and WMT's sentences have them.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from zoo.config import UserError
from zoo.config import data as kinds
from zoo.data.batches import ExampleRng
from zoo.data.rows import open_rows
from zoo.data.text.packing import pack_pairs
from zoo.data.text.tokenizers import train_tokenizer

VOCABULARY = 8000
CASES: dict[str, tuple[type[kinds.TextData], str, dict[str, Any]]] = {
    "lm, 1024": (kinds.LmData, "bpe", {"length": 1024}),
    "masked_lm with next_sentence, 128": (kinds.MaskedData, "wordpiece", {"length": 128}),
    "masked_lm with next_sentence, 512": (
        kinds.MaskedData,
        "wordpiece",
        {"length": 512, "max_predictions": 76},
    ),
    "masked_lm, whole words, 512": (
        kinds.MaskedData,
        "wordpiece",
        {"length": 512, "max_predictions": 76, "whole_words": True, "next_sentence": False},
    ),
    "span_corruption, 512": (kinds.SpanData, "bpe", {"length": 512}),
    "seq2seq, 128 + 128": (kinds.PairData, "bpe", {"length": 128, "on_long": "cut"}),
    "seq2seq packed, 256 + 256": (
        kinds.PairData,
        "bpe",
        {"length": 256, "target_length": 256, "pack": True, "on_long": "cut"},
    ),
    "text_classification, 128": (kinds.LabelledData, "wordpiece", {"length": 128}),
    "token_classification, 128": (kinds.TagData, "wordpiece", {"length": 128}),
    "question_answering, 384": (kinds.QuestionData, "wordpiece", {"length": 384}),
}


def make_sentences(count: int, rng: np.random.Generator) -> list[str]:
    """Sentences of 3 to 40 words, of 20,000 words whose frequency falls with their rank."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    weights = 1 / np.arange(2, 28)
    sizes = rng.integers(1, 12, 20_000)
    drawn = rng.choice(letters, sizes.sum(), p=weights / weights.sum())
    words = np.array(["".join(word) for word in np.split(drawn, np.cumsum(sizes)[:-1])])
    weights = 1 / np.arange(1, 20_001)
    lengths = np.clip(rng.gamma(4, 5, count).astype(int), 3, 40)
    chosen = rng.choice(words, lengths.sum(), p=weights / weights.sum())
    parts = np.split(chosen, np.cumsum(lengths)[:-1])
    return [" ".join(part).capitalize() + "." for part in parts]


def make_text(root: Path, count: int) -> None:
    """Examples that have the fields of every kind, and tokenizers learnt from them."""
    rng = np.random.default_rng(0)
    sentences = iter(make_sentences(count * 22, rng))
    texts = []
    with (root / "train.jsonl").open("w") as file:
        for i in range(count):
            lines = [next(sentences) for _ in range(int(rng.integers(2, 20)))]
            words = lines[1].split()
            record = {
                "text": "\n".join(lines),
                "label": ("bad", "good")[i % 2],
                "source": next(sentences),
                "target": next(sentences),
                "words": words,
                "tags": ["O" if len(word) < 7 else "LONG" for word in words],
                "question": lines[0],
                "context": "\n".join(lines),
                "answers": {"text": [lines[1]], "answer_start": [len(lines[0]) + 1]},
                "id": str(i),
            }
            texts.append(record["text"])
            file.write(json.dumps(record) + "\n")
    for kind in ("wordpiece", "bpe"):
        train_tokenizer(kind, texts[:2000], VOCABULARY, root / kind, sentinels=100)


def measure(rows: Any, seconds: float) -> tuple[float, float]:
    """Rows and real tokens a second of CPU time."""
    rng, made, tokens = ExampleRng(0), 0, 0
    start = time.process_time()
    while time.process_time() - start < seconds:
        # Rows far from each other, as the stream's order has them.
        index = made * 7919 % len(rows)
        row = rows.make(index, rng.at(made))
        sides = [name for name in row if name.endswith("segment")]
        tokens += sum(np.count_nonzero(row[name]) for name in sides)
        made += 1
    spent = time.process_time() - start
    return made / spent, tokens / spent


def measure_packing(count: int) -> dict[str, float]:
    """Pairs a second that are planned, and the share of tokens that is not padding."""
    rng = np.random.default_rng(0)
    source = np.clip(rng.gamma(2, 14, count), 2, 256).astype(int)
    target = np.clip(source * rng.normal(1.1, 0.2, count), 2, 256).astype(int)
    start = time.process_time()
    rows = pack_pairs(source, target, 256, 256)
    spent = time.process_time() - start
    fill = [float(side.sum() / (256 * (rows.max() + 1))) for side in (source, target)]
    return {"pairs_per_second": count / spent, "source_fill": fill[0], "target_fill": fill[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--dir", type=Path, help="text to read; default: made here")
    parser.add_argument("--tokenizer", help="with --dir: of every kind")
    parser.add_argument("--documents", type=int, default=10_000, help="to make without --dir")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="to plan rows for")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if bool(args.dir) != bool(args.tokenizer):
        parser.error("--dir and --tokenizer go together")
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = args.dir or Path(temporary)
        if not args.dir:
            os.environ["ZOO_CACHE"] = f"{temporary}/cache"
            make_text(root, args.documents)
        for name, (kind, tokenizer, settings) in CASES.items():
            where = str(args.tokenizer or root / tokenizer)
            data = kind(name="text", dir=str(root), tokenizer=where, **settings)
            try:
                rows = open_rows(data, "train", train=True)
            except UserError as error:
                print(f"{name:36s}  left out: {error}")
                continue
            rate, tokens = measure(rows, args.seconds)
            found[name] = {"rows_per_second": rate, "tokens_per_second": tokens}
            print(
                f"{name:36s}{rate:10,.0f} rows/s/core {tokens / 1e6:8.2f} M tokens/s/core", end=""
            )
            fill = getattr(rows, "fill", None)
            print("".join(f"{share:8.1%}" for share in fill()) + " full" if fill else "")
    packing = found["packing"] = measure_packing(args.pairs)
    print(
        f"{'packing alone, 256 + 256':36s}{packing['pairs_per_second']:10,.0f} pairs/s/core"
        f"{packing['source_fill']:8.1%}{packing['target_fill']:8.1%} full"
    )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
