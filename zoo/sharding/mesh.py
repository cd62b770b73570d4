"""Devices laid out as a mesh with the axes data, fsdp and tensor."""

import math
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from zoo.config import UserError
from zoo.config.schema import MeshConfig

AXES = ("data", "fsdp", "tensor")


def make_mesh(cfg: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays devices out so that neighbours of an axis are neighbours in the machine.

    Args:
      cfg: devices along each axis; one may be -1, which takes what is left.
      devices: all of JAX's devices by default; those of a described topology for compiling ahead.

    Raises:
      UserError: the numbers do not multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = mesh_sizes(cfg, len(devices))
    # The type is spelled out because make_mesh's default became Explicit in jax 0.9.
    auto = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(sizes, AXES, auto, devices=devices)


def mesh_sizes(cfg: MeshConfig, num_devices: int) -> tuple[int, int, int]:
    """Devices along (data, fsdp, tensor) with -1 filled in; raises as `make_mesh` does."""
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
    filled = {axis: num_devices // fixed if axis in free else sizes[axis] for axis in AXES}
    return filled["data"], filled["fsdp"], filled["tensor"]
