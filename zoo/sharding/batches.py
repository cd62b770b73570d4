"""A batch on a mesh: each host brings its rows, each device gets its own."""

import math

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array

from zoo.config import UserError
from zoo.sharding.rules import RULES, batch_spec


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh, batch_size: int) -> dict[str, Array]:
    """This host's rows of a batch, as part of the global arrays on a mesh."""
    rows = NamedSharding(mesh, batch_spec(mesh))
    return {
        name: jax.make_array_from_process_local_data(rows, value, (batch_size, *value.shape[1:]))
        for name, value in batch.items()
    }


def check_divides(name: str, size: int, mesh: Mesh, microbatches: int = 1) -> None:
    """Raises a UserError where a batch does not divide over devices and microbatches."""
    shards = math.prod(mesh.shape[axis] for axis in RULES["batch"])
    unit = shards * microbatches
    if size % unit:
        over = f"{shards} devices" + (f" x {microbatches} microbatches" * (microbatches > 1))
        raise UserError(
            f"config.data.{name} {size} does not divide over {over}: set it to a multiple of "
            f"{unit}, such as {max(round(size / unit), 1) * unit}"
        )


def check_tokens(lengths: dict[str, int], mesh: Mesh) -> None:
    """Raises a UserError where the sequence axis splits nothing of a model.

    What it does not divide it leaves whole: its devices would all do the same work.

    Args:
      lengths: tokens of a row inside the model, by what they are.
    """
    shards = math.prod(mesh.shape[axis] for axis in RULES["tokens"])
    if all(length % shards for length in lengths.values()):
        near = max(round(max(lengths.values()) / shards), 1) * shards
        raise UserError(
            f"config.mesh.sequence {shards} does not divide {' or '.join(lengths)}: make it a "
            f"multiple of {shards}, such as {near}, or set config.mesh.sequence to 1"
        )
