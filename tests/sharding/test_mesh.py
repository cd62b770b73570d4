"""Meshes from their sizes."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from zoo.config import UserError
from zoo.config.schema import MeshConfig
from zoo.sharding import mesh as meshes
from zoo.sharding.mesh import AXES, make_mesh, mesh_sizes


def test_minus_one_takes_what_is_left():
    mesh = make_mesh(MeshConfig(data=2, fsdp=-1, tensor=2))
    assert dict(mesh.shape) == {"slices": 1, "data": 2, "fsdp": 2, "sequence": 1, "tensor": 2}
    assert mesh.axis_types == (AxisType.Auto,) * 5
    assert dict(make_mesh(MeshConfig()).shape) == {**dict.fromkeys(AXES, 1), "data": 8}


@pytest.mark.parametrize("axis", AXES)
def test_any_axis_may_be_the_one(axis):
    sizes = {"data": 2, "fsdp": 1, axis: -1}
    expected = {**dict.fromkeys(AXES, 1), **sizes, axis: 8 if axis == "data" else 4}
    assert mesh_sizes(MeshConfig(**sizes), 8) == tuple(expected[name] for name in AXES)


def test_every_device_has_one_place():
    mesh = make_mesh(MeshConfig(slices=2, data=1, fsdp=2, tensor=2))
    assert set(mesh.devices.flat) == set(jax.devices())
    few = make_mesh(MeshConfig(), jax.devices()[:3])
    assert list(few.devices.flat) == jax.devices()[:3]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"data": 3, "fsdp": 1},
            r"\(slices 1, data 3, fsdp 1, sequence 1, tensor 1\) needs 3 devices, there are 8",
        ),
        ({"fsdp": 3}, "needs a multiple of 3 devices, there are 8"),
        ({"slices": 3}, "needs a multiple of 3 devices, there are 8"),
        ({"data": 16}, "needs 16 devices, there are 8"),
        ({"data": -1, "fsdp": -1}, "one that may be -1"),
        ({"tensor": 0}, "each size must be 1 or more"),
        ({"sequence": -2}, "each size must be 1 or more"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        mesh_sizes(MeshConfig(**sizes), 8)


def test_a_slice_is_a_part_of_the_devices_in_order():
    mesh = make_mesh(MeshConfig(slices=2, data=2, sequence=2))
    for part, devices in zip(mesh.devices, (jax.devices()[:4], jax.devices()[4:]), strict=True):
        assert set(part.flat) == set(devices)


def tpu(index):
    return SimpleNamespace(platform="tpu", slice_index=index)


def test_a_slice_of_tpus_is_what_its_devices_say():
    devices = [tpu(index) for index in (1, 0, 1, 0)]
    expected = [[devices[1], devices[3]], [devices[0], devices[2]]]
    assert meshes._slices(devices, 2) == expected
    with pytest.raises(UserError, match="slices is 1, and the devices are in 2 slices: set it to"):
        meshes._slices(devices, 1)
    with pytest.raises(UserError, match="slices is 2, and the devices are in 1 slice: set it to 1"):
        meshes._slices([tpu(0), tpu(0)], 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_mesh_over_two_slices_of_tpus(monkeypatch):
    pytest.importorskip("libtpu")
    topologies = pytest.importorskip("jax.experimental.topologies")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    found = topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4", num_slices=2)
    mesh = make_mesh(MeshConfig(slices=-1, data=4, fsdp=2, tensor=2), found.devices)
    place = np.vectorize(lambda device: device.slice_index)(mesh.devices)
    np.testing.assert_array_equal(place, np.arange(2)[:, None, None, None, None] + 0 * place)
    # Along tensor, neighbours of a mesh are neighbours on the chips' grid.
    apart = np.vectorize(lambda a, b: sum(abs(np.subtract(a.coords, b.coords))))
    assert set(apart(mesh.devices[..., 0], mesh.devices[..., 1]).flat) == {1}
