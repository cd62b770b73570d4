"""Real text that needs no download: this project's own documents, and tokenizers made of them."""

import functools
import tempfile
from pathlib import Path

from zoo.data.text.tokenizers import train_tokenizer

ROOT = Path(__file__).parents[1]


@functools.cache
def text_dir() -> Path:
    """A directory with `train.txt` and `test.txt`, paragraphs as documents."""
    root = Path(tempfile.mkdtemp(prefix="zoo-corpus-"))
    files = [ROOT / "LICENSE", ROOT / "docs" / "architecture.md"]
    paragraphs = [
        " ".join(part.split())
        for file in files
        for part in file.read_text().split("\n\n")
        if len(part.split()) > 5
    ]
    (root / "train.txt").write_text("\n\n".join(paragraphs[8:]) + "\n")
    (root / "test.txt").write_text("\n\n".join(paragraphs[:8]) + "\n")
    return root


@functools.cache
def tokenizer_dir(kind: str, vocab_size: int = 300) -> Path:
    """A tokenizer of that text."""
    out = Path(tempfile.mkdtemp(prefix="zoo-tokenizer-")) / kind
    train_tokenizer(kind, (text_dir() / "train.txt").read_text().splitlines(), vocab_size, out)
    return out
