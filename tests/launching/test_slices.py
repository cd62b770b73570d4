"""Slices of TPUs: how many machines they are, and what Google Cloud calls them."""

import pytest

from zoo.config import UserError
from zoo.launching.slices import parse_slice


@pytest.mark.parametrize(
    ("name", "chips", "hosts", "chips_per_host", "accelerator_type"),
    [
        ("v5e:1x1", 1, 1, 1, "v5litepod-1"),
        ("v5e:2x4", 8, 1, 8, "v5litepod-8"),
        ("v5e:4x4", 16, 4, 4, "v5litepod-16"),
        ("v6e:16x16", 256, 64, 4, "v6e-256"),
        ("v4:2x2x1", 4, 1, 4, "v4-8"),
        ("v4:2x2x4", 16, 4, 4, "v4-32"),
        ("v5p:4x4x8", 128, 32, 4, "v5p-256"),
        ("v5p:8x8x16", 1024, 256, 4, "v5p-2048"),
    ],
)
def test_a_topology_gives_machines_and_a_type(name, chips, hosts, chips_per_host, accelerator_type):
    found = parse_slice(name)
    assert (found.chips, found.hosts, found.chips_per_host) == (chips, hosts, chips_per_host)
    assert found.accelerator_type == accelerator_type


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("v5:4x4", "no such generation of TPUs; did you mean"),
        ("v5e", "v5e comes as 1x1, 2x2"),
        ("v5e:4x4x4", "v5e comes as 1x1, 2x2"),
        ("v6e:32x32", "v6e comes as 1x1, 2x2"),
        ("v5p:4x4", "v5p comes as 2x2x1"),
        ("v5p:2x2x3", "v5p comes as 2x2x1"),
        ("v5p:8x4x4", "A <= B <= C"),
        ("v5p:16x16x28", "up to 6144 chips"),
        ("v4:0x4x4", "v4 comes as 2x2x1"),
    ],
)
def test_a_slice_that_does_not_exist_is_refused(name, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_slice(name)


def test_cloud_tpu_vms_come_in_one_shape_for_each_number_of_chips():
    with pytest.raises(UserError, match="256 chips come as 4x8x8"):
        parse_slice("v5p:4x4x16").accelerator_type  # noqa: B018
    with pytest.raises(UserError, match="use launch/gke"):
        parse_slice("tpu7x:4x4x4").accelerator_type  # noqa: B018
