"""What is read from the text of a compiled program."""

import numpy as np
import pytest

from zoo.planning.chips import CHIPS
from zoo.planning.program import Collective, Costs, axes_of, groups_of, largest_batch, parse


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("replica_groups={{0,1},{2,3}}, dimensions={0}", [(0, 1), (2, 3)]),
        ("replica_groups=[2,2]<=[4], use_global", [(0, 1), (2, 3)]),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", [(0, 2), (1, 3)]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, dims", [(0, 2), (1, 3)]),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}, dims", [(0, 1), (2, 3)]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", [(0, 1, 2, 3)]),
        ("groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}, x", [(0, 1), (2, 3)]),
        ("groups=mesh['a'=2,'b'=2], device_ids=(0,3,2,1) {'b'}, x", [(0, 3), (2, 1)]),
        ("replica_groups=mesh['a'=8] {'a':(2)2}", [(0, 2), (1, 3), (4, 6), (5, 7)]),
        ('_xla_megascale_target="{1,2}x{0:2}",_xla_megascale', [(0, 3), (1, 4), (2, 5)]),
        ("source_target_pairs={{0,1},{1,0}}", [(0, 1), (1, 0)]),
    ],
)
def test_who_talks_to_whom(attributes, expected):
    assert groups_of(attributes) == tuple(expected)


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ([(0, 1), (2, 3), (4, 5), (6, 7)], ("tensor",)),
        ([(0, 4), (1, 5), (2, 6), (3, 7)], ("data",)),
        ([(0, 2, 4, 6), (1, 3, 5, 7)], ("data", "fsdp")),
        ([tuple(range(8))], ("data", "fsdp", "tensor")),
        ([(0, 3), (1, 2), (4, 7), (5, 6)], ()),  # across two axes, but not all of them
    ],
)
def test_along_which_axes(groups, axes):
    assert axes_of(tuple(groups), {"data": 2, "fsdp": 2, "tensor": 2}) == axes


def test_a_permutation_goes_along_the_axes_on_which_its_pairs_differ():
    pairs = ((0, 2), (2, 0), (1, 3), (3, 1))
    assert axes_of(pairs, {"data": 2, "tensor": 2}, pairs=True) == ("data",)


@pytest.mark.parametrize(
    ("kind", "per_device"),
    [  # of a ring of 4 devices, each of which brings 100 bytes
        ("all-gather", 300),
        ("reduce-scatter", 75),
        ("all-reduce", 150),
        ("all-to-all", 75),
        ("collective-permute", 100),
    ],
)
def test_what_a_device_sends(kind, per_device):
    groups = ((0, 1),) if kind == "collective-permute" else ((0, 1, 2, 3),)
    assert Collective(kind, groups, sent=100, times=3).wire_bytes == 3 * per_device


SEND = """
ENTRY %main (a: f32[8,128]) -> token[] {
  %a = f32[8,128]{1,0} parameter(0)
  %s = (f32[8,128]{1,0}, u32[], token[]) send(%a, %after), channel_id=2, \
frontend_attributes={_xla_megascale_target="{1,2}x{0:1}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %other = (f32[8,128]{1,0}, u32[], token[]) send(%a, %after), channel_id=3
}
"""


def test_what_slices_send_each_other_is_a_collective():
    (one,) = Costs(parse(SEND), CHIPS["v5e"]).collectives
    assert (one.kind, one.groups, one.sent) == ("all-reduce", ((0, 2), (1, 3)), 4096)


LOOP = """
%body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %x = f32[8,128]{1,0} get-tuple-element(%p), index=1
  %r = f32[8,128]{1,0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
}
%condition (p: (s32[], f32[8,128])) -> pred[] {
  %n = s32[] constant(5)
}
ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0} parameter(0)
  %w = (s32[], f32[8,128]{1,0}) while(%t), condition=%condition, body=%body
}
"""


def test_a_loop_counts_once_for_each_trip():
    costs = Costs(parse(LOOP), CHIPS["v5e"])
    (one,) = costs.collectives
    assert (one.kind, one.groups, one.times, one.sent) == ("all-reduce", ((0, 1),), 5, 4096)
    assert costs.bytes == 5 * 2 * 4096
    np.testing.assert_allclose(costs.roofline_s, costs.bytes / CHIPS["v5e"].hbm_rate)


def test_the_largest_activation_tells_the_local_batch():
    text = "%a = bf16[1,64,196,768]{3,2,1,0} add()\n%b = f32[128,768]{1,0} dot()"
    assert largest_batch(text, 768, 196) == 64


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("jit(step)/jvp()/while/body/closed_call/dot_general", "forward"),
        ("jit(step)/transpose(jvp())/while/body/closed_call/checkpoint/dot_general", "backward"),
        (
            "jit(step)/transpose(jvp())/while/body/checkpoint/rematted_computation/mul",
            "recomputed",
        ),
        ("jit(step)/sqrt", "update"),
        ("copy.3", "unnamed"),
    ],
)
def test_an_operation_belongs_to_a_phase(name, phase):
    text = f"""
ENTRY %main (x: f32[1024,512]) -> f32[1024,512] {{
  %x = f32[1024,512]{{1,0}} parameter(0)
  ROOT %y = f32[1024,512]{{1,0}} add(%x, %x), metadata={{op_name="{name}"}}
}}
"""
    (one,) = Costs(parse(text), CHIPS["v5e"]).operations
    assert (one.phase, one.kind, one.bytes) == (phase, "other", 3 * 1024 * 512 * 4)
    assert one.seconds == one.bytes / CHIPS["v5e"].hbm_rate
