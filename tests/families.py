"""One tiny experiment of each family of text models, with batches as the stream gives them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from zoo.config import parse_config
from zoo.config.schema import Config

VOCAB, LENGTH = 32, 12


class Family(NamedTuple):
    """A config and random batches for it."""

    sections: dict[str, Any]
    batch: Callable[[np.random.Generator, int], dict[str, np.ndarray]]

    def config(self, **changes: Any) -> Config:
        """The config with some sections updated."""
        tree: dict[str, Any] = {
            "optimizer": {"name": "sgd", "lr": 0.1, "schedule": "constant"},
            "total": "8 steps",
            **self.sections,
        }
        for name, value in changes.items():
            old = tree.get(name)
            tree[name] = {**old, **value} if isinstance(old, dict) else value
        return parse_config(tree)

    def rows(self, size: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
        """A batch; some of its rows are shorter than others."""
        made = self.batch(np.random.default_rng(seed), size)
        return {
            **made,
            "weight": np.ones(size, np.float32),
            "index": np.arange(size, dtype=np.int32),
        }


def _tokens(rng: np.random.Generator, size: int, length: int = LENGTH) -> np.ndarray:
    return rng.integers(4, VOCAB, (size, length), np.int32)


def _packed(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """Two documents a row, then padding, all of random lengths."""
    at = np.arange(LENGTH)[None]
    first, both = rng.integers(2, 6, (size, 1)), rng.integers(7, LENGTH + 1, (size, 1))
    segment = np.where(at < first, 1, np.where(at < both, 2, 0)).astype(np.int32)
    return {
        "tokens": _tokens(rng, size),
        "targets": _tokens(rng, size),
        "mask": segment > 0,
        "segment": segment,
        "position": np.where(at < first, at, at - first).astype(np.int32),
        "num_bytes": (3 * (segment > 0).sum(1)).astype(np.int32),
    }


MASKED = 3  # tokens to guess in a row


def _read(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """A text or two a row, then padding."""
    at, length = np.arange(LENGTH)[None], rng.integers(6, LENGTH + 1, (size, 1))
    return {
        "tokens": _tokens(rng, size),
        "type": (at >= length // 2).astype(np.int32),
        "segment": (at < length).astype(np.int32),
    }


def _masked(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    count = rng.integers(1, MASKED + 1, (size, 1))
    return {
        **_read(rng, size),
        "masked_positions": rng.integers(0, 6, (size, MASKED), np.int32),
        "masked_targets": _tokens(rng, size, MASKED),
        "mask": np.arange(MASKED)[None] < count,
        "next_sentence": rng.integers(0, 2, size, np.int32),
    }


def _labelled(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    return {**_read(rng, size), "label": rng.integers(0, 3, size, np.int32)}


def _tagged(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    read = _read(rng, size)
    label = rng.integers(0, 3, (size, LENGTH), np.int32)
    return {**read, "label": label, "mask": (read["segment"] > 0) & (label != 1)}


def _asked(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    start = rng.integers(0, 4, size, np.int32)
    return {**_read(rng, size), "start": start, "end": start + 1}


_SIZES = {"width": 16, "depth": 2, "mlp_dim": 32, "num_heads": 2, "vocab_size": VOCAB}
_TEXT = {"name": "text", "tokenizer": "none", "batch_size": 16, "length": LENGTH}


def _bert(head: str, kind: str, batch: Callable[..., Any], **data: Any) -> Family:
    classes = {"num_classes": 3} if head.endswith("classification") else {}
    model = {**_SIZES, **classes, "family": "bert", "head": head, "max_length": LENGTH}
    return Family({"model": model, "data": {**_TEXT, "kind": kind, **data}}, batch)


FAMILIES: dict[str, Family] = {
    "decoder": Family(
        {
            "model": {**_SIZES, "family": "decoder", "dropout": 0.1, "max_length": LENGTH},
            "data": {**_TEXT, "kind": "lm"},
            "task": {"label_smoothing": 0.1, "z_loss": 1e-3},
        },
        _packed,
    ),
    "bert": _bert("pretraining", "masked_lm", _masked, max_predictions=MASKED),
    "text": _bert("classification", "text_classification", _labelled),
    "tags": _bert("token_classification", "token_classification", _tagged),
    "answers": _bert("question_answering", "question_answering", _asked, max_question=4),
}
