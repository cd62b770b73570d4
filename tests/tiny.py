"""The smallest experiment that has everything: shared by the tests."""

from typing import Any

import numpy as np

from zoo.config import parse_config
from zoo.config.schema import Config

MODEL = {
    "family": "vit",
    "width": 16,
    "depth": 2,
    "mlp_dim": 32,
    "num_heads": 2,
    "patch_size": 4,
    "num_classes": 10,
    "image_size": 8,
    "channels": 1,
    "head_init": "trunc_normal",
}
DATA = {"name": "digits", "batch_size": 16, "image_size": 8, "channels": 1}


def tiny_config(**sections: Any) -> Config:
    """A tiny ViT on the built-in digits; keyword arguments update the sections."""
    tree: dict[str, Any] = {
        "model": {**MODEL, **sections.pop("model", {})},
        "data": {**DATA, **sections.pop("data", {})},
        "optimizer": {"name": "sgd", "lr": 0.1, "schedule": "constant"},
        "total": "8 steps",
        "log_every": "1 steps",
        "eval_every": "4 steps",
        "save_every": "4 steps",
    }
    tree["optimizer"] |= sections.pop("optimizer", {})
    return parse_config({**tree, **sections})


def tiny_batch(size: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    """Random images with labels, as the stream gives them."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (size, 8, 8, 1), np.uint8),
        "label": rng.integers(0, 10, size, np.int32),
        "weight": np.ones(size, np.float32),
        "index": np.arange(size, dtype=np.int32),
    }
