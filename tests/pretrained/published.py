"""Tiny random weights in published layouts, written by hand, and what the tests do with them."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

from zoo.config.schema import MeshConfig
from zoo.pretrained.mapped import export
from zoo.pretrained.opening import open_pretrained
from zoo.sharding.mesh import make_mesh

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop", "##a", "##b", "##c"]


def random_arrays(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Numbers of about a tenth, and norms near 1."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(1.0 if "norm" in name.lower() and "bias" not in name else 0, 0.3, shape)
        .astype(np.float32)
        for name, shape in shapes.items()
    }  # fmt: skip


def write_published(directory: Path, tree: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    """`config.json` and `model.safetensors`, as Hugging Face's libraries write them."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(tree))
    save_file(arrays, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def write_vocabulary(directory: Path) -> None:
    """A WordPiece vocabulary of 24 pieces."""
    (directory / "vocab.txt").write_text("\n".join(WORDS) + "\n")


def write_words(directory: Path, words: list[str]) -> None:
    """A `tokenizer.json` of whole words; those in <> are special."""
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tree = {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": word, "special": True, **special}
            for i, word in enumerate(words)
            if word.startswith("<")
        ],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {
            "type": "WordLevel",
            "unk_token": "<unk>",
            "vocab": {word: i for i, word in enumerate(words)},
        },
    }
    parts = ("truncation", "padding", "normalizer", "post_processor", "decoder")
    text = json.dumps(tree | dict.fromkeys(parts))
    (directory / "tokenizer.json").write_text(text)


def load(path: Path) -> tuple[Any, dict[str, Any]]:
    """The model section and the parameters of published weights."""
    found = open_pretrained(path)
    return found.config.model, found.load(make_mesh(MeshConfig(data=1), jax.devices()[:1]))


def exported(format: Any, cfg: Any, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """Parameters, or their gradients, under the names that a format's library saves them by."""
    flat = traverse_util.flatten_dict(params, sep="/")

    def read(path, layer):
        return np.asarray(flat[path] if layer is None else flat[path][layer])

    shapes = {path: leaf.shape for path, leaf in flat.items()}
    names, make = export(format.layout(cfg), shapes, read)
    return {format.publish(name, cfg): make(name) for name in names}
