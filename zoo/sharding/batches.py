"""A batch on a mesh: each host brings its rows, each device gets its own."""

import functools
import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array

from zoo.config import UserError
from zoo.sharding.rules import RULES, batch_spec


def own_rows(mesh: Mesh, batch_size: int, process: int | None = None) -> list[int]:
    """The rows of a batch that a host's devices hold, in order.

    Where `sequence` or `tensor` go across hosts, several hosts hold the same rows; and where the
    mesh follows the machine's links, a host's rows need not be neighbours.

    Args:
      batch_size: global; it divides over the devices.
      process: of the host; default this one.
    """
    process = jax.process_index() if process is None else process
    shards = NamedSharding(mesh, batch_spec(mesh)).devices_indices_map((batch_size,))
    held = np.zeros(batch_size, bool)
    for device, index in shards.items():
        held[index] |= device.process_index == process
    return np.flatnonzero(held).tolist()


@functools.cache
def _own(mesh: Mesh, batch_size: int) -> np.ndarray:
    """This host's rows: asked for at every step, and the same at each."""
    return np.array(own_rows(mesh, batch_size))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh, batch_size: int) -> dict[str, Array]:
    """This host's `own_rows` of a batch, as part of the global arrays on a mesh."""
    spec, own = NamedSharding(mesh, batch_spec(mesh)), _own(mesh, batch_size)

    def place(value: np.ndarray) -> Array:
        def part(index: Any) -> np.ndarray:
            start, stop, _ = index[0].indices(batch_size)
            first = np.searchsorted(own, start)
            return value[first : first + stop - start]

        return jax.make_array_from_callback((batch_size, *value.shape[1:]), spec, part)

    return {name: place(value) for name, value in batch.items()}


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
