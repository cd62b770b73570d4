"""What a task is: from batches to a loss, to predictions, and to what a split's predictions say."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from zoo.config import UserError
from zoo.config.schema import TaskConfig
from zoo.data.base import Rows

Batch = dict[str, Array]
Metrics = dict[str, Float[Array, ""]]


@runtime_checkable
class Task(Protocol):
    """The mathematics of one kind of data; holds settings and no state.

    A loss is a sum over a batch's rows, whose weights add up to one over the global batch: what
    microbatches, devices and hosts have computed is added up, and nothing is left to divide.
    """

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What `summarize` may give, the one to choose models by first."""
        ...

    def prepare(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """What the training loss needs, from the global batch, before it is split.

        Args:
          batch: as the stream gives it, with `weight` 1 for real rows and 0 for padding.
          key: of this step; each row gets a key of its own from it.
        """
        ...

    def loss(self, model: Any, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Some rows' part of the loss, and of other metrics, of a prepared batch."""
        ...

    def predict(self, model: Any, batch: Batch) -> dict[str, Array]:
        """What the model makes of each row [B, ...], for evaluation and reports."""
        ...

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """Metrics of a split, from the results of all its rows in order; padding is left out.

        Args:
          results: what `predict` gave, and `index`.
          rows: of the split, for what the arrays do not tell: names, references.
        """
        ...


def softmax_only(cfg: TaskConfig) -> None:
    """Raises a UserError where `config.task` asks for what only image classification has."""
    if cfg.loss != "softmax" or cfg.binary_targets:
        raise UserError(
            "config.task.loss and config.task.binary_targets are for images: text has the softmax "
            "loss alone, so leave them out"
        )


def row_keys(key: Key[Array, ""], num_rows: int) -> Key[Array, " B"]:
    """A key for each row of the global batch, whatever microbatch or device it falls to."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num_rows))


def shares(weight: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Weights that add up to one; all zero where there is nothing to weigh."""
    total = jnp.sum(weight)
    return weight / jnp.where(total > 0, total, 1.0)
