"""Devices laid out as a mesh with the axes slices, data, fsdp, sequence and tensor."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from zoo.config import UserError
from zoo.config.schema import MeshConfig

# From the one whose devices talk least to the one whose devices talk most: the last axes lie
# between neighbours, and of `slices` alone the devices are joined by a network.
AXES = ("slices", "data", "fsdp", "sequence", "tensor")


def make_mesh(cfg: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays devices out so that neighbours of an axis are neighbours in the machine.

    Args:
      cfg: devices along each axis; one may be -1, which takes what is left.
      devices: all of JAX's devices by default; those of a described topology for compiling ahead.

    Raises:
      UserError: the numbers do not multiply to the number of devices, or `slices` is not how many
        slices of TPUs there are.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = mesh_sizes(cfg, len(devices))
    inner = sizes[1:]
    layouts = [
        jax.make_mesh(inner, AXES[1:], (AxisType.Auto,) * len(inner), devices=part).devices
        for part in _slices(devices, sizes[0])
    ]
    # The type is spelled out because its default became Explicit in jax 0.9.
    return Mesh(np.stack(layouts), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def mesh_sizes(cfg: MeshConfig, num_devices: int) -> tuple[int, ...]:
    """Devices along each of AXES with -1 filled in; raises as `make_mesh` does."""
    sizes = {axis: getattr(cfg, axis) for axis in AXES}
    given = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
    free = [axis for axis, size in sizes.items() if size == -1]
    wrong = [axis for axis, size in sizes.items() if size < 1 and size != -1]
    if wrong or len(free) > 1:
        raise UserError(
            f"config.mesh ({given}): each size must be 1 or more, but for one that may be -1 "
            "and takes what is left"
        )
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if num_devices % fixed or (not free and fixed != num_devices):
        raise UserError(
            f"config.mesh ({given}) needs {'a multiple of ' if free else ''}{fixed} devices, "
            f"there are {num_devices}; set one axis to -1 to take what is left"
        )
    return tuple(num_devices // fixed if axis in free else sizes[axis] for axis in AXES)


def _slices(devices: list[Any], count: int) -> list[list[Any]]:
    """The devices of each slice: those that TPUs are in, else so many equal parts in order.

    Other devices know no slices; ordered by process, a part is one or more whole hosts wherever
    the hosts divide over the parts.
    """
    if devices[0].platform == "tpu":
        found: dict[int, list[Any]] = {}
        for device in devices:
            found.setdefault(getattr(device, "slice_index", 0), []).append(device)
        if len(found) != count:
            raise UserError(
                f"config.mesh.slices is {count}, and the devices are in {len(found)} "
                f"slice{'s' * (len(found) > 1)}: set it to {len(found)}"
            )
        return [found[index] for index in sorted(found)]
    size = len(devices) // count
    return [devices[i * size : (i + 1) * size] for i in range(count)]
