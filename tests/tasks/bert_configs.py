"""Tiny BERTs with their data, and batches as the rows make them, that the tests of tasks share."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from tests.models.berts import make_batch
from zoo.config import parse_config
from zoo.config.schema import Config

MODEL = {
    "family": "bert",
    "width": 16,
    "depth": 2,
    "mlp_dim": 24,
    "num_heads": 2,
    "vocab_size": 30,
    "max_length": 12,
}


def bert_config(kind: str, head: str, **sections: Any) -> Config:
    """A config whose model is filled in; `model`, `data` and `task` update the sections."""
    data = {"kind": kind, "name": "none", "tokenizer": "none", "length": 8, "batch_size": 4}
    return parse_config(
        {
            "model": {**MODEL, "head": head, **sections.pop("model", {})},
            "data": {**data, **sections.pop("data", {})},
            **sections,
        }
    )


def bert_batch(batch: int = 4, **changes: Any) -> dict[str, Any]:
    """Rows of 8 tokens, with `weight` 1."""
    arrays = make_batch(batch)
    arrays["weight"] = jnp.ones(batch)
    return {**arrays, **{name: jnp.asarray(value) for name, value in changes.items()}}


def padded(batch: dict[str, Any], rows: int) -> dict[str, Any]:
    """The batch with rows of zeros after it, as the last batch of an evaluation has."""
    return {name: jnp.pad(x, ((0, rows), *[(0, 0)] * (x.ndim - 1))) for name, x in batch.items()}


def split(batch: dict[str, Any], at: int) -> list[dict[str, Any]]:
    """Two microbatches."""
    return [{name: x[part] for name, x in batch.items()} for part in (slice(at), slice(at, None))]


class FakeRows:
    """What `summarize` may ask of a split."""

    repeats = 1

    def __init__(self, classes: tuple[str, ...] = ()):
        self.classes = classes

    def __len__(self) -> int:
        return 4

    def make(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        raise NotImplementedError

    def describe(self, index: int) -> str:
        return f"row {index}"
