"""What a compiled step sends between devices: what its mesh asks for, and nothing else."""

import re

import jax
import numpy as np
import pytest

from tests.families import FAMILIES, MASKED
from tests.tiny import tiny_config
from zoo.planning.program import axes_of, dims, groups_of, parse
from zoo.planning.programs import compile_training

MESHES = {
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "tensor": {"data": 4, "tensor": 2},
    "sequence": {"data": 2, "sequence": 4},
    "slices": {"slices": 2, "data": 2, "fsdp": 2},
    "wide": {"data": 2, "sequence": 2, "tensor": 2},
}

# Every kind of collective, the axes it goes along, and the largest that it may carry:
# sums are parameters, gradients and numbers, without an extent of examples; ids are integers of
# examples; token is a number of each token; picked are the few tokens [rows, few, D] that a head
# looks at; heads are keys and values [rows, S, K, H] and their gradients; hidden is [rows, T, D].
DATA = {("all-reduce", ("data",), "sums")}
TENSOR = {
    # The branches' outputs, forward, and their inputs' gradients; softmax over the vocabulary.
    ("all-reduce", ("tensor",), "hidden"),
    ("all-gather", ("tensor",), "token"),  # the largest logit,
    ("all-gather", ("tensor",), "ids"),  # and its place
}
SEQUENCE = {
    ("all-gather", ("sequence",), "heads"),
    ("all-reduce", ("sequence",), "heads"),
    ("all-reduce", ("sequence",), "sums"),
    ("all-reduce", ("sequence",), "picked"),
    ("all-gather", ("sequence",), "ids"),  # the segments of keys
    ("collective-permute", ("sequence",), "ids"),  # targets, shifted right
    ("collective-permute", ("sequence",), "picked"),  # the gradient of the token that a pooler reads
}
# A table of positions: its gradient is made by tokens.
POSITIONS = {("all-gather", ("sequence",), "sums")}
ALLOWED = {
    "data": DATA,
    "fsdp": {("all-gather", ("fsdp",), "sums"), ("all-reduce", ("fsdp",), "sums")},
    "tensor": DATA | TENSOR,
    "sequence": DATA | SEQUENCE | POSITIONS,
    # Between slices go the gradients alone.
    "slices": {
        ("all-gather", ("fsdp",), "sums"),
        ("all-reduce", ("fsdp",), "sums"),
        ("all-reduce", ("slices", "data", "fsdp"), "sums"),
    },
    "wide": DATA | TENSOR | SEQUENCE | POSITIONS,
}
# A larger thing stands for the smaller ones.
COVERS = {"hidden": {"hidden", "picked", "token", "sums"}, "picked": {"picked", "token"}}

# Seven divides no size of a model: what an extent of it divides is a number of examples.
BATCH, LENGTH = 56, 20


def config_of(name, mesh):
    if name == "vit":
        sizes = {"image_size": 16}
        model = {**sizes, "pool": "gap"}
        return tiny_config(mesh=mesh, model=model, data={**sizes, "batch_size": BATCH})
    data = {"batch_size": BATCH, "length": LENGTH}
    data |= {"target_length": LENGTH} if name == "pairs" else {}
    return FAMILIES[name].config(
        mesh=mesh, data=data, model={} if name == "pairs" else {"max_length": LENGTH}
    )


def kind_of(shape, config):
    """What an array is, by its extents."""
    extents = dims(shape)
    rows = next((extent for extent in extents if extent % 7 == 0), None)
    if rows is None:
        return "sums"
    if not shape.startswith("f32"):
        return "ids"
    if len(extents) > 3:
        return "heads"
    D = config.model.width
    if D not in extents:
        return "token"
    return "picked" if np.prod(extents) <= rows * MASKED * D else "hidden"


def collectives(made, config):
    """(kind, axes, what) of all collectives, and how many numbers the largest sum has."""
    program, sizes = parse(made.executable.as_text()), dict(made.mesh.shape)
    found, largest = set(), 0
    for instruction, _ in program.walk():
        kind = instruction.collective
        if kind is None:
            continue
        pairs = kind == "collective-permute"
        axes = axes_of(groups_of(instruction.rest), sizes, pairs=pairs)
        for shape in re.findall(r"\w+\[[\d,]*\]", instruction.shape):
            what = kind_of(shape, config)
            found.add((kind, axes, what))
            if what == "sums":
                largest = max(largest, int(np.prod(dims(shape))))
    return found, largest


QUICK = {("decoder", "wide"), ("vit", "slices")}


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        pytest.param(name, mesh, marks=() if (name, mesh) in QUICK else pytest.mark.slow)
        for name in ("vit", "decoder", "bert", "pairs")
        for mesh in MESHES
    ],
)
def test_a_step_sends_what_its_mesh_asks_for(name, mesh):
    config = config_of(name, MESHES[mesh])
    made = compile_training(config, jax.devices())
    found, largest = collectives(made, config)
    allowed = {
        (kind, axes, covered)
        for kind, axes, what in ALLOWED[mesh]
        for covered in COVERS.get(what, {what})
    }
    assert found <= allowed
    # What every mesh needs, so that an empty program would not pass.
    assert {axis for _, axes, _ in found for axis in axes} == {
        axis for axis, size in made.mesh.shape.items() if size > 1
    }
    # One layer's matrix at a time, not the stack.
    layer = max(config.model.width * config.model.mlp_dim, 32 * config.model.width)
    assert largest <= layer
