"""`zoo inspect`: what weights hold, read from their metadata; no array is loaded."""

from typing import Any

import numpy as np

from zoo.pretrained.opening import Pretrained
from zoo.training.weights import count_params, open_weights


def inspect_weights(path: str) -> tuple[dict[str, Any], list[str]]:
    """A checkpoint's arrays and facts, as a JSON value and as lines of text.

    Raises:
      UserError: there is no checkpoint at the path, or it cannot be read.
    """
    weights = open_weights(path)
    if isinstance(weights, Pretrained):
        return _published(weights)
    shapes = weights.shapes()
    arrays = [
        {
            "name": f"{item}.{name}",
            "shape": [*leaf.shape],
            "dtype": str(leaf.dtype),
            "bytes": int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize,
        }
        for item, leaves in shapes.items()
        for name, leaf in leaves.items()
    ]
    totals = {
        item: sum(a["bytes"] for a in arrays if a["name"].startswith(f"{item}.")) for item in shapes
    }
    num_params = count_params(leaf.shape for leaf in shapes["params"].values())
    found = {
        "step": weights.step,
        "steps": weights.checkpoints.steps(),
        "num_params": num_params,
        "classes": [*weights.classes],
        "metrics": weights.metrics,
        "bytes": totals,
        "arrays": arrays,
    }
    width = max(len(a["name"]) for a in arrays)
    lines = [
        f"{a['name']:<{width}}  {a['dtype']:<9} {a['shape']!s:<20} {a['bytes']:>14,} B"
        for a in arrays
    ]
    lines += [
        "",
        f"step {weights.step} (of {found['steps']}), {num_params:,} parameters, "
        + ", ".join(f"{item} {size / 2**20:,.1f} MiB" for item, size in totals.items()),
        "metrics " + ", ".join(f"{k} {v:.6g}" for k, v in weights.metrics.items()),
    ]
    return found, lines


def _published(weights: Pretrained) -> tuple[dict[str, Any], list[str]]:
    """Weights of others: each of their arrays, and the parameters that are made of it."""
    report, shapes = weights.mapped.report, weights.mapped.shapes
    num_params = count_params(shapes.values())
    found = {
        "format": weights.origin,
        "step": weights.step,
        "num_params": num_params,
        "classes": [*weights.classes],
        "metrics": weights.metrics,
        "arrays": [one._asdict() for one in report],
    }
    width = max(len(one.name) for one in report)
    lines = [f"{one.name:<{width}}  {[*one.shape]!s:<20} {one.state} {one.what}" for one in report]
    lines += ["", f"{weights.origin}, {num_params:,} parameters"]
    return found, lines
