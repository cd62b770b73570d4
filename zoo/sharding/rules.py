"""What is split over which mesh axes: one table, and the functions that apply it.

Arrays name their dimensions by logical axes. A parameter carries the names as its metadata `axes`
(a name that Flax does not interpret, so that nothing is sharded before `jit(init)` does it);
activations are named where `constrain` is called.
"""

import math
from collections.abc import Callable, Sequence

import jax
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# A dimension's logical axis; (name, n) is split into whole pieces of n only, such as heads of size
# n; None is never split.
Axis = str | tuple[str, int] | None

# logical axis -> the mesh axes that split it.
RULES: dict[str, tuple[str, ...]] = {
    "batch": ("slices", "data", "fsdp"),  # examples
    # The tokens of an example: all but attention works on each token by itself, and attention
    # gathers keys and values (`Attention.keys_values`).
    "tokens": ("sequence",),
    "embed": ("fsdp",),  # the model's width, in parameters: gathered where they are used
    "heads": ("tensor",),  # attention heads, or with a piece of one head's size, their width
    "mlp": ("tensor",),  # the MLP's hidden width
    "vocab": ("tensor",),  # tokens that there are, in embeddings and logits
    "classes": ("tensor",),
    "layers": (),  # the stack that a scan walks through
    "norm": (),  # scales and biases as wide as the model: too small to be worth gathering
    "patch": (),  # pixels of a patch
}


def spec(axes: Sequence[Axis], shape: Sequence[int], mesh: Mesh | AbstractMesh) -> P:
    """The PartitionSpec of an array.

    A mesh axis is left out where the mesh lacks it, has it with size 1 or manages it by hand
    (inside `shard_map` or `pmap`), where an earlier dimension took it, and where it does not
    divide the dimension.

    Args:
      axes: the logical axis of each dimension.

    Raises:
      ValueError: an unknown name, or not one name for each dimension.
    """
    if len(axes) != len(shape):
        raise ValueError(f"{len(axes)} axis names {tuple(axes)} for the shape {tuple(shape)}")
    pairs = [axis if isinstance(axis, tuple) else (axis, 1) for axis in axes]
    unknown = {name for name, _ in pairs if name is not None and name not in RULES}
    if unknown:
        raise ValueError(f"no rule for the axes {sorted(unknown)}; there are: {', '.join(RULES)}")
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    taken: set[str] = set()
    entries: list[str | tuple[str, ...] | None] = []
    for (name, piece), size in zip(pairs, shape, strict=True):
        chosen: list[str] = []
        parts = piece
        for axis in RULES[name] if name else ():
            if kinds.get(axis) != AxisType.Auto or axis in taken or mesh.shape[axis] == 1:
                continue
            if size % (parts * mesh.shape[axis]) == 0:
                chosen.append(axis)
                taken.add(axis)
                parts *= mesh.shape[axis]
        entries.append(chosen[0] if len(chosen) == 1 else tuple(chosen) or None)
    while entries and entries[-1] is None:
        entries.pop()
    return P(*entries)


def batch_spec(mesh: Mesh | AbstractMesh) -> P:
    """How a batch's first dimension is split, whatever its size."""
    axes = tuple(axis for axis in RULES["batch"] if mesh.shape.get(axis, 1) > 1)
    return P(axes) if axes else P()


def num_shards(axis: Axis, size: int) -> int:
    """Over how many devices the mesh in context splits a dimension; 1 without one, or in pmap."""
    mesh = jax.sharding.get_abstract_mesh()
    chosen = spec((axis,), (size,), mesh)
    axes = jax.tree.leaves(tuple(chosen))
    return math.prod(mesh.shape[name] for name in axes)


def constrain(x: jax.Array, *axes: Axis) -> jax.Array:
    """Pins an activation's sharding in the mesh that is in context; without one, returns `x`.

    Without it the compiler may split a layer's work in ways that nobody asked for: scanned layers
    with sharded parameters then compute the whole batch on every device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    chosen = spec(axes, x.shape, mesh)
    return jax.lax.with_sharding_constraint(x, chosen) if any(chosen) else x


def gather(param: jax.Array, *axes: Axis) -> jax.Array:
    """A parameter as a layer uses it: whole along what fsdp splits, in the dtype that it has here.

    Left to itself the compiler passes the pieces around in loops of small matrix products.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return param
    whole = spec([None if axis == "embed" else axis for axis in axes], param.shape, mesh)
    if whole == spec(axes, param.shape, mesh):
        return param
    # Its gradient is constrained alike, so it is summed whole (all-reduce) before each device
    # takes its part: twice the traffic of a reduce-scatter. Constrained to the parts, it brought
    # the loops back, and took twice the time by the compiler's estimate (ViT-B/16, 16 chips).
    return jax.lax.with_sharding_constraint(param, whole)


def per_shard(
    function: Callable[..., jax.Array],
    arrays: Sequence[jax.Array],
    axes: Sequence[Sequence[Axis]],
) -> jax.Array:
    """Calls a function on each device's part of the arrays; it gives one shaped as the first.

    For what the compiler cannot split by itself, such as a kernel. Without a mesh, or inside
    `shard_map` or `pmap`, it is a plain call.

    Args:
      axes: the logical axes of each array.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or AxisType.Auto not in mesh.axis_types:
        return function(*arrays)
    specs = tuple(spec(names, x.shape, mesh) for names, x in zip(axes, arrays, strict=True))
    # The check would have to know what a kernel does.
    mapped = jax.shard_map(function, in_specs=specs, out_specs=specs[0], check_vma=False)
    return mapped(*arrays)


def on_tpu() -> bool:
    """Whether what is traced now will run on TPUs: those of the mesh in context, or JAX's own."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() == "tpu" if device is None else "TPU" in device.device_kind


def on_gpu() -> bool:
    """The same of NVIDIA's GPUs since Ampere (2020), the first with attention kernels in cuDNN."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    own = jax.devices()[0]
    kind = own.device_kind if device is None else device.device_kind
    return "NVIDIA" in kind and float(getattr(own, "compute_capability", 0)) >= 8


def param_shardings(abstract_state: nnx.State, mesh: Mesh | AbstractMesh) -> nnx.State:
    """The NamedSharding of each parameter, in the same tree.

    Args:
      abstract_state: parameters with shapes (arrays or ShapeDtypeStructs) and metadata `axes`.

    Raises:
      ValueError: a parameter without axis names, or with wrong ones.
    """

    def place(path, param):
        axes = param.get_metadata().get("axes")
        if axes is None:
            raise ValueError(f"parameter {'/'.join(map(str, path))} has no axis names")
        return NamedSharding(mesh, spec(axes, param.shape, mesh))

    return nnx.map_state(place, abstract_state)
