"""Zoo's own directory of weights: safetensors under our paths, the config, the tokenizer.

What `zoo convert --format zoo` makes: `weights.safetensors`, whose metadata hold class names, step
and metrics; `config.json`, which is a config; and of text `tokenizer/`.
"""

import json
from collections.abc import Mapping
from typing import Any

from zoo.config import UserError
from zoo.pretrained.files import ArrayFile
from zoo.pretrained.table import Layout, Row, Shape

WEIGHTS, TOKENIZER = "weights.safetensors", "tokenizer"


def is_native(tree: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is one of ours."""
    return isinstance(tree.get("model"), dict) and "data" in tree


def layout(shapes: Mapping[str, Shape]) -> Layout:
    """The table of any model: each parameter by its own name, blocks with their axis of layers."""
    return Layout("Zoo", tuple(Row((path,), path) for path in shapes), {}, ())


def write_metadata(
    classes: tuple[str, ...], step: int, metrics: Mapping[str, float | int]
) -> dict[str, str]:
    """What stands in the file besides the arrays."""
    told = {"classes": classes, "step": step, "metrics": dict(metrics)}
    return {"format": "zoo", "zoo": json.dumps(told)}


def read_metadata(file: ArrayFile) -> dict[str, Any]:
    """The same, back: `classes`, `step` and `metrics`."""
    try:
        told = json.loads(file.metadata["zoo"])
        return {
            "classes": tuple(map(str, told["classes"])),
            "step": int(told["step"]),
            "metrics": dict(told["metrics"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file.path} has no metadata of Zoo's: convert it again") from error
