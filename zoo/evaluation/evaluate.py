"""Exact evaluation: every example of a split once, on any mesh."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from zoo.config import UserError
from zoo.config.data import DataConfig
from zoo.config.schema import Config
from zoo.data.sources import open_source
from zoo.data.stream import eval_batches
from zoo.sharding.batches import check_divides, put_batch
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import Params, abstract_model
from zoo.tasks.classify import Batch, Classify

METRICS = ("accuracy", "loss", "top5_accuracy")  # of a split, beside counts


@dataclass(frozen=True)
class Evaluation:
    """What a model said of each example of a split, in the split's order."""

    metrics: dict[str, float | int]  # means over the split; `count` is the number of examples
    index: np.ndarray  # of the example in its split
    label: np.ndarray
    results: dict[str, np.ndarray]  # as `Classify.predict` gives them


@dataclass(frozen=True)
class Evaluator:
    """A config's prediction function on its devices."""

    mesh: Mesh
    put: Callable[[dict[str, np.ndarray]], Batch]  # host-local rows -> global batch
    predict: Callable[[Any, Batch], dict[str, Array]]  # results on every host


def eval_batch_size(config: Config) -> int:
    """Examples an evaluation step, over all hosts."""
    return config.data.eval_batch_size or config.data.batch_size


def make_evaluator(config: Config, mesh: Mesh | None = None) -> Evaluator:
    """Compiles nothing yet: the first batch does.

    Raises:
      UserError: the evaluation batch does not divide over the devices.
    """
    mesh = mesh or make_mesh(config.mesh)
    check_divides("eval_batch_size", eval_batch_size(config), mesh)
    task = Classify.from_config(config)
    graphdef, _ = abstract_model(config)

    def predict(params, batch):
        results = task.predict(nnx.merge(graphdef, params), batch)
        return {**results, **{name: batch[name] for name in ("index", "label", "weight")}}

    jit_predict = jax.jit(predict, out_shardings=NamedSharding(mesh, P()))

    def predict_on_mesh(params, batch):
        with jax.set_mesh(mesh):
            return jit_predict(params, batch)

    return Evaluator(
        mesh, lambda batch: put_batch(batch, mesh, eval_batch_size(config)), predict_on_mesh
    )


def evaluate(evaluator: Evaluator, params: Params, data: DataConfig, split: str) -> Evaluation:
    """Predicts every example of a split, and asserts that each was counted once.

    Args:
      split: as in the source, such as "test" or "train[99%:]".

    Returns:
      Metrics `loss`, `accuracy`, `count`, and `top5_accuracy` where there are more than 5 classes.

    Raises:
      UserError: as `open_source`; no image of the split can be read.
    """
    batches = eval_batches(data, split, host=jax.process_index(), num_hosts=jax.process_count())
    parts = [jax.device_get(evaluator.predict(params, evaluator.put(b))) for b in batches]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    real = rows.pop("weight") > 0
    rows = {name: value[real] for name, value in rows.items()}
    source = open_source(data, split)
    index, label = rows.pop("index"), rows.pop("label")
    seen, counts = np.unique(index, return_counts=True)
    if np.any(counts > 1) or (len(seen) < len(source) and data.on_bad_image == "error"):
        raise RuntimeError(
            f"evaluation of {split!r} saw {len(seen)} of {len(source)} examples, some "
            f"{counts.max()} times"
        )
    if not len(index):
        raise UserError(f"none of the {len(source)} images of {split!r} could be read")
    rank = rows["label_rank"]
    metrics = {
        "loss": float(np.mean(rows["loss"], dtype=np.float64)),
        "accuracy": float(np.mean(rank == 0)),
        "count": len(index),
    }
    if len(source.classes) > 5:
        metrics["top5_accuracy"] = float(np.mean(rank < 5))
    if len(index) < len(source):
        metrics["unreadable"] = len(source) - len(index)
    return Evaluation(metrics, index, label, rows)
