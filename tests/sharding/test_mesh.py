"""Meshes from their sizes."""

import jax
import pytest
from jax.sharding import AxisType

from zoo.config import UserError
from zoo.config.schema import MeshConfig
from zoo.sharding.mesh import make_mesh, mesh_sizes


def test_minus_one_takes_what_is_left():
    mesh = make_mesh(MeshConfig(data=2, fsdp=-1, tensor=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert mesh.axis_types == (AxisType.Auto,) * 3
    assert dict(make_mesh(MeshConfig()).shape) == {"data": 8, "fsdp": 1, "tensor": 1}


def test_every_device_has_one_place():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    assert set(mesh.devices.flat) == set(jax.devices())
    few = make_mesh(MeshConfig(), jax.devices()[:3])
    assert list(few.devices.flat) == jax.devices()[:3]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 3, "fsdp": 1}, r"\(data 3, fsdp 1, tensor 1\) needs 3 devices, there are 8"),
        ({"fsdp": 3}, "needs a multiple of 3 devices, there are 8"),
        ({"data": 16}, "needs 16 devices, there are 8"),
        ({"data": -1, "fsdp": -1}, "one that may be -1"),
        ({"tensor": 0}, "each size must be 1 or more"),
        ({"tensor": -2}, "each size must be 1 or more"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        mesh_sizes(MeshConfig(**sizes), 8)
