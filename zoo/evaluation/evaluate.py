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
from zoo.config.sizes import model_tokens
from zoo.data.rows import open_rows
from zoo.data.shapes import batch_shapes
from zoo.data.stream import eval_batches
from zoo.sharding.batches import check_divides, check_tokens, own_rows, put_batch
from zoo.sharding.mesh import make_mesh
from zoo.sharding.rules import batch_spec
from zoo.tasks.base import Batch, Task
from zoo.tasks.build import Params, abstract_model, make_task


@dataclass(frozen=True)
class Evaluation:
    """What a model said of each example of a split, in the split's order."""

    metrics: dict[str, float | int]  # means over the split; `count` is the number of examples
    index: np.ndarray  # of the example in its split
    results: dict[str, np.ndarray]  # as `Task.predict` gives them


@dataclass(frozen=True)
class Evaluator:
    """A config's prediction function on its devices.

    Attributes:
      put: host-local rows -> the global batch.
      predict: (parameters, batch) -> results on every host.
      lower: parameters, or their shapes and shardings -> that program, for devices that need not
        be there; it allocates nothing.
    """

    mesh: Mesh
    task: Task
    put: Callable[[dict[str, np.ndarray]], Batch]
    predict: Callable[[Any, Batch], dict[str, Array]]
    lower: Callable[[Any], Any]


def eval_batch_size(config: Config) -> int:
    """Examples an evaluation step, over all hosts."""
    return config.data.eval_batch_size or config.data.batch_size


def make_evaluator(
    config: Config, mesh: Mesh | None = None, *, task: Task | None = None
) -> Evaluator:
    """Compiles nothing yet: the first batch does.

    Args:
      task: default: that of the config's kind of data.

    Raises:
      UserError: the evaluation batch or its tokens do not divide over the devices.
    """
    mesh = mesh or make_mesh(config.mesh)
    check_divides("eval_batch_size", eval_batch_size(config), mesh)
    check_tokens(model_tokens(config), mesh)
    task = task or make_task(config)
    graphdef, _ = abstract_model(config)

    def predict(params, batch):
        results = task.predict(nnx.merge(graphdef, params), batch)
        return {**results, **{name: batch[name] for name in ("index", "weight")}}

    jit_predict = jax.jit(predict, out_shardings=NamedSharding(mesh, P()))

    def predict_on_mesh(params, batch):
        with jax.set_mesh(mesh):
            return jit_predict(params, batch)

    def lower(params):
        rows = NamedSharding(mesh, batch_spec(mesh))
        shapes = batch_shapes(config.data, eval_batch_size(config))
        batch = {name: jax.ShapeDtypeStruct(*s, sharding=rows) for name, s in shapes.items()}
        with jax.set_mesh(mesh):
            return jit_predict.lower(params, batch)

    return Evaluator(
        mesh=mesh,
        task=task,
        put=lambda batch: put_batch(batch, mesh, eval_batch_size(config)),
        predict=predict_on_mesh,
        lower=lower,
    )


def evaluate(evaluator: Evaluator, params: Params, data: DataConfig, split: str) -> Evaluation:
    """Predicts every example of a split, and asserts that each was counted once.

    Args:
      split: as in the source, such as "test" or "train[99%:]".

    Returns:
      What the task makes of the results, and `count`.

    Raises:
      UserError: as `open_rows`; no image of the split can be read.
    """
    own = own_rows(evaluator.mesh, data.eval_batch_size or data.batch_size)
    batches = eval_batches(data, split, own=own)
    parts = [jax.device_get(evaluator.predict(params, evaluator.put(b))) for b in batches]
    results = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    real = results.pop("weight") > 0
    results = {name: value[real] for name, value in results.items()}
    rows, index = open_rows(data, split, train=False), results.pop("index")
    seen, counts = np.unique(index, return_counts=True)
    may_miss = getattr(data, "on_bad_image", "error") == "skip"
    if np.any(counts > 1) or (len(seen) < len(rows) and not may_miss):
        raise RuntimeError(
            f"evaluation of {split!r} saw {len(seen)} of {len(rows)} examples, some "
            f"{counts.max()} times"
        )
    if not len(index):
        raise UserError(f"none of the {len(rows)} images of {split!r} could be read")
    metrics = evaluator.task.summarize({**results, "index": index}, rows) | {"count": len(index)}
    if len(index) < len(rows):
        metrics["unreadable"] = len(rows) - len(index)
    return Evaluation(metrics, index, results)
