"""Which rows of a batch a host brings, on meshes that follow the machine's links."""

from types import SimpleNamespace
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from zoo.sharding import batches
from zoo.sharding.batches import own_rows, put_batch
from zoo.sharding.mesh import AXES


class OnHost(NamedTuple):
    """A device, and the host that it is said to be on."""

    process_index: int
    device: jax.Device


class Faked:
    """Eight devices of two hosts, whose shards are asked for by row."""

    def __init__(self, hosts, sizes):
        devices = np.array(jax.devices()).reshape(sizes)
        self.mesh = Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))
        self.host = dict(zip(devices.ravel().tolist(), hosts, strict=True))

    def __call__(self, mesh, spec):
        real = jax.sharding.NamedSharding(mesh, spec)

        def indices(shape):
            found = real.devices_indices_map(shape)
            return {OnHost(self.host[d], d): i for d, i in found.items()}

        return SimpleNamespace(devices_indices_map=indices)


@pytest.mark.parametrize(
    ("hosts", "sizes", "rows"),
    [
        # Neighbours along `data` are on one host.
        ("00001111", (1, 8, 1, 1, 1), ([0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15])),
        # A host is a square of a torus: its devices are no neighbours in the order of the mesh.
        ("00110011", (1, 8, 1, 1, 1), ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])),
        # `tensor` goes across hosts: both bring every row.
        ("01010101", (1, 4, 1, 1, 2), (range(16), range(16))),
        # It stays within one: each brings its own.
        ("00001111", (1, 2, 2, 1, 2), (range(8), range(8, 16))),
    ],
)
def test_a_host_brings_the_rows_of_its_devices(monkeypatch, hosts, sizes, rows):
    faked = Faked([int(h) for h in hosts], sizes)
    monkeypatch.setattr(batches, "NamedSharding", faked)
    for host, expected in enumerate(rows):
        assert own_rows(faked.mesh, 16, host) == [*expected]


@pytest.mark.parametrize("sizes", [(1, 8, 1, 1, 1), (1, 2, 2, 1, 2), (1, 1, 1, 4, 2)])
def test_a_batch_keeps_its_order_on_any_mesh(sizes):
    mesh = Mesh(np.array(jax.devices()).reshape(sizes), AXES)
    assert own_rows(mesh, 16) == [*range(16)]
    image = np.arange(16 * 3, dtype=np.float32).reshape(16, 3)
    placed = put_batch({"image": image}, mesh, 16)["image"]
    np.testing.assert_array_equal(placed, image)
    assert placed.sharding.shard_shape(placed.shape)[0] == 16 // (sizes[0] * sizes[1] * sizes[2])
