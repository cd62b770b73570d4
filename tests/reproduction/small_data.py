"""What small runs read, made up and tiny, below a directory for $ZOO_DATA_DIR."""

import gzip
import json
from pathlib import Path

import numpy as np

from tests.corpus import text_dir
from tests.data.test_official import idx

COUNT = 72  # more than a batch


def write_all(root: Path) -> None:
    """Every data set that the ladder's small runs take from $ZOO_DATA_DIR."""
    rng = np.random.default_rng(0)
    for name in ("mnist", "fashion_mnist"):
        (root / name).mkdir(parents=True)
        for stem in ("train", "t10k"):
            image = rng.integers(0, 256, (5 * COUNT, 28, 28), np.uint8)
            label = rng.integers(0, 10, 5 * COUNT, np.uint8)
            images = root / name / f"{stem}-images-idx3-ubyte.gz"
            images.write_bytes(gzip.compress(idx(image), 1))
            (root / name / f"{stem}-labels-idx1-ubyte").write_bytes(idx(label))
    cifar = root / "cifar10" / "cifar-10-batches-bin"
    cifar.mkdir(parents=True)
    for stem in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        rows = rng.integers(0, 256, (COUNT, 1 + 3072), np.uint8)
        rows[:, 0] %= 10
        (cifar / f"{stem}.bin").write_bytes(rows.tobytes())

    words = (text_dir() / "train.txt").read_text().split()
    starts = rng.integers(0, len(words) - 20, (400, 4))
    line = lambda start: " ".join(words[start : start + 20])
    documents = ["\n".join(map(line, four)) for four in starts]
    numbered = [f"{text}\nthe cat ate {i} apples" for i, text in enumerate(documents)]
    jsonl(root / "imdb" / "unlabelled.jsonl", [{"text": text} for text in documents])
    jsonl(root / "imdb" / "sentences.jsonl", [{"text": text} for text in numbered])
    for split in ("train", "test"):
        lines = [line(start) for start in starts[:COUNT, 0]]
        rows = [{"text": t, "label": "pos" if i % 2 else "neg"} for i, t in enumerate(lines)]
        jsonl(root / "rotten_tomatoes" / f"{split}.jsonl", rows)
        jsonl(root / "imdb" / f"{split}.jsonl", rows)
        (root / "libreoffice_help").mkdir(exist_ok=True)
        for language in ("en", "de"):
            lines = [line(start) for start in starts[:, 1]]
            (root / "libreoffice_help" / f"{split}.{language}").write_text("\n".join(lines))


def jsonl(path: Path, rows: list[dict]) -> None:
    """One object a line."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
