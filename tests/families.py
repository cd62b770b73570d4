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


_SIZES = {"width": 16, "depth": 2, "mlp_dim": 32, "num_heads": 2, "vocab_size": VOCAB}
_TEXT = {"name": "text", "tokenizer": "none", "batch_size": 16, "length": LENGTH}

FAMILIES: dict[str, Family] = {
    "decoder": Family(
        {
            "model": {**_SIZES, "family": "decoder", "dropout": 0.1, "max_length": LENGTH},
            "data": {**_TEXT, "kind": "lm"},
            "task": {"label_smoothing": 0.1, "z_loss": 1e-3},
        },
        _packed,
    ),
}
