"""`zoo convert`: weights from one format to another, and what became of every array."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from zoo.config.schema import MeshConfig
from zoo.models.paths import leaves_by_path
from zoo.pretrained.opening import Pretrained
from zoo.pretrained.saving import Format, Model, save
from zoo.pretrained.shards import parse_size
from zoo.sharding.mesh import make_mesh
from zoo.training.weights import Weights, count_params, open_weights


def convert(
    source: str,
    target: str,
    format: Format | None = None,
    *,
    dtype: str = "float32",
    shard_size: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Writes weights anew; returns the report as a JSON value and as lines of text.

    Args:
      source: as `open_weights` takes it.
      target: a directory that does not exist yet.
      format: default zoo for weights of others, hf for a run's.
      shard_size: of a file of Hugging Face's at most, such as `5GB`, which it is by default.

    Raises:
      UserError: weights that cannot be read, or that the format has no place for.
    """
    limit = None if shard_size is None else parse_size(shard_size)
    weights = open_weights(source)
    foreign = isinstance(weights, Pretrained)
    format = format or ("zoo" if foreign else "hf")
    if isinstance(weights, Pretrained):
        shapes, read = weights.mapped.shapes, weights.mapped.read
    else:
        shapes, read = _of_run(weights)
    model = Model(
        weights.config,
        weights.classes,
        weights.tokenizer,
        shapes,
        read,
        weights.step,
        weights.metrics,
    )
    files = save(model, Path(target), format, dtype, shard_size=limit)
    entries = weights.mapped.report if isinstance(weights, Pretrained) else ()
    size = count_params(shapes.values())
    found = {
        "from": weights.origin if isinstance(weights, Pretrained) else "a run of Zoo",
        "to": format,
        "family": type(weights.config.model).__struct_config__.tag,
        "parameters": size,
        "arrays": [one._asdict() for one in entries],
        "files": [str(one) for one in files],
    }
    return found, _lines(found)


def _of_run(weights: Weights) -> tuple[dict[str, Any], Any]:
    """The shapes of a run's parameters, and a function that reads them by path and layer."""
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    flat = leaves_by_path(weights.load(mesh))

    def read(path: str, layer: int | None = None) -> np.ndarray:
        return np.asarray(flat[path] if layer is None else flat[path][layer])

    return {path: leaf.shape for path, leaf in flat.items()}, read


def _lines(found: dict[str, Any]) -> list[str]:
    """What stands on a screen: counts, and each array that is not simply mapped."""
    states = [one["state"] for one in found["arrays"]]
    counts = {state: states.count(state) for state in ("mapped", "tied", "skipped")}
    lines = [f"{found['from']}, a {found['family']} of {found['parameters']:,} parameters"]
    if found["arrays"]:
        lines.append("{mapped} arrays mapped, {tied} tied, {skipped} skipped".format(**counts))
    lines += [
        f"  {one['state']}  {one['name']}  {one['what']}"
        for one in found["arrays"]
        if one["state"] != "mapped"
    ]
    return lines + found["files"]
