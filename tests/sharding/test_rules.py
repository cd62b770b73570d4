"""From logical axes to shardings; and that sharding changes no number."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.models.vits import (
    EVERYTHING,
    loss_and_grads,
    make_images,
    make_keys,
    make_model,
    make_params,
    small_config,
)
from zoo.config.schema import MeshConfig
from zoo.models.vit import ViT
from zoo.sharding.mesh import make_mesh
from zoo.sharding.rules import (
    RULES,
    batch_spec,
    constrain,
    gather,
    num_shards,
    on_gpu,
    param_shardings,
    per_shard,
    spec,
)


def mesh_of(kind=AxisType.Auto, **sizes):
    return AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=(kind,) * len(sizes))


CUBE = mesh_of(data=2, fsdp=2, tensor=2)
HYBRID = P(("slices", "data"), "sequence")


@pytest.mark.parametrize(
    ("axes", "shape", "mesh", "expected"),
    [
        (("batch", None, "mlp"), (8, 3, 4), CUBE, P(("data", "fsdp"), None, "tensor")),
        (("layers", "embed", "heads"), (3, 4, 4), CUBE, P(None, "fsdp", "tensor")),
        (("embed", "embed"), (4, 4), CUBE, P("fsdp")),  # a mesh axis is used once
        (("batch", "embed"), (8, 4), CUBE, P(("data", "fsdp"))),
        (("mlp",), (5,), CUBE, P()),  # 2 does not divide 5
        (("batch",), (2,), CUBE, P("data")),  # as far as it divides
        (("embed", "mlp"), (4, 4), mesh_of(data=8), P()),  # axes that the mesh lacks
        (("batch", "mlp"), (8, 4), mesh_of(data=8, fsdp=1, tensor=1), P("data")),
        ((("heads", 4),), (8,), CUBE, P("tensor")),
        ((("heads", 4),), (12,), CUBE, P()),  # three heads do not go in two, though 12 does
        (("batch",), (8,), mesh_of(AxisType.Manual, data=8), P()),
        (("batch", "tokens"), (8, 6), mesh_of(slices=2, data=4, sequence=2), HYBRID),
        (("batch", "tokens"), (8, 197), mesh_of(data=4, sequence=2), P("data")),
    ],
)
def test_spec(axes, shape, mesh, expected):
    assert spec(axes, shape, mesh) == expected


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match=r"no rule for the axes \['width'\]; there are: batch"):
        spec(("width",), (4,), CUBE)
    with pytest.raises(ValueError, match="1 axis names"):
        spec(("mlp",), (4, 4), CUBE)


def test_batch_spec_names_the_axes_of_the_mesh():
    assert batch_spec(CUBE) == P(("data", "fsdp"))
    assert batch_spec(mesh_of(data=8, fsdp=1)) == P(("data",))
    assert batch_spec(mesh_of(tensor=8)) == P()


def test_constrain_pins_the_sharding_in_a_mesh_only():
    x = jnp.ones((8, 4))
    assert constrain(x, "batch", "mlp") is x
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        y = jax.jit(lambda x: constrain(x, "batch", "mlp"))(x)
        assert y.sharding.spec == P(("data", "fsdp"), "tensor")


def test_over_how_many_devices_a_dimension_is_split():
    assert num_shards("batch", 8) == 1
    with jax.set_mesh(make_mesh(MeshConfig(slices=2, data=2, sequence=2))):
        assert [num_shards("batch", size) for size in (8, 2, 3)] == [4, 2, 1]
        assert [num_shards("tokens", size) for size in (6, 7)] == [2, 1]
        assert num_shards("mlp", 8) == num_shards(None, 8) == 1


def test_constrain_leaves_manual_axes_alone():
    mesh = make_mesh(MeshConfig(data=8))
    double = lambda x: constrain(x, "batch", None) * 2
    mapped = jax.shard_map(double, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    np.testing.assert_array_equal(jax.jit(mapped)(jnp.ones((8, 4))), 2)


@pytest.mark.parametrize(
    ("kind", "capability", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "9.0", True),
        ("NVIDIA GeForce RTX 2080", "7.5", False),
        ("AMD Instinct MI300X", "gfx942", False),
    ],
)
def test_gpus_with_cudnns_kernels(monkeypatch, kind, capability, expected):
    mesh = make_mesh(MeshConfig(data=8))
    device = SimpleNamespace(device_kind=kind, compute_capability=capability)
    assert not on_gpu()
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert on_gpu() is expected
    # What is compiled for the mesh in context is not for this machine's devices.
    with jax.set_mesh(mesh):
        assert not on_gpu()


def test_per_shard_splits_each_array_by_its_own_axes():
    x, y = jnp.arange(32.0).reshape(8, 4), jnp.arange(8.0)
    shapes = []

    def scale(x, y):
        shapes.append((x.shape, y.shape))
        return x * y[:, None]

    axes = [("batch", "heads"), ("batch",)]
    np.testing.assert_array_equal(per_shard(scale, [x, y], axes), x * y[:, None])
    with jax.set_mesh(make_mesh(MeshConfig(data=4, fsdp=1, tensor=2))):
        np.testing.assert_array_equal(per_shard(scale, [x, y], axes), x * y[:, None])
    assert shapes == [((8, 4), (8,)), ((2, 2), (2,))]


def test_gather_makes_whole_what_fsdp_splits():
    x = jnp.ones((8, 4))
    assert gather(x, "embed", "mlp") is x
    with jax.set_mesh(make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))):
        split = jax.jit(lambda x: jax.lax.with_sharding_constraint(x, P("fsdp", "tensor")))(x)
        assert jax.jit(lambda x: gather(x, "embed", "mlp"))(split).sharding.spec == P(
            None, "tensor"
        )
        assert gather(x, None, "mlp") is x


def abstract_state(cfg):
    return nnx.state(nnx.eval_shape(lambda: ViT(cfg, rngs=nnx.Rngs(0))))


@pytest.mark.parametrize("changes", [EVERYTHING, {"pool": "map"}], ids=["cls", "map"])
def test_every_parameter_has_axes(changes):
    state = abstract_state(small_config(**changes))
    specs = jax.tree.map(lambda s: s.spec, nnx.to_pure_dict(param_shardings(state, CUBE)))
    blocks = specs["blocks"]
    assert blocks["attn"]["q"]["kernel"] == P(None, "fsdp", "tensor")
    assert blocks["attn"]["out"]["kernel"] == P(None, "tensor", "fsdp")
    assert blocks["mlp"]["up"] == {"kernel": P(None, "fsdp", "tensor"), "bias": P(None, "tensor")}
    assert blocks["mlp"]["down"] == {"kernel": P(None, "tensor", "fsdp"), "bias": P()}
    assert specs["head"]["kernel"] == P("fsdp")  # five classes
    used = {
        axis[0] if isinstance(axis, tuple) else axis
        for _, param in nnx.to_flat_state(state)
        for axis in param.get_metadata()["axes"]
    }
    assert used - {None} == set(RULES) - {"batch", "tokens", "vocab"}  # no rule that nothing uses


def test_large_parameters_are_all_split():
    sizes = abstract_state(small_config(width=64, mlp_dim=128, num_classes=16, representation=True))
    shardings = param_shardings(sizes, mesh_of(fsdp=4))
    for path, param in nnx.to_flat_state(sizes):
        if path[-1] == "kernel":
            sharding = dict(nnx.to_flat_state(shardings))[path]
            assert np.prod(sharding.shard_shape(param.shape)) == param.size / 4, path


def test_a_parameter_without_axes_is_refused():
    state = nnx.State({"loose": nnx.Param(jnp.ones(3))})
    with pytest.raises(ValueError, match="parameter loose has no axis names"):
        param_shardings(state, CUBE)


MESHES = [(8, 1, 1), (2, 2, 2), (1, 2, 4)]


@pytest.fixture(scope="module")
def unsharded():
    cfg = small_config(drop_path=0.2, num_registers=1)
    params = make_params(cfg)
    return cfg, params, loss_and_grads(cfg, params, make_images(8), make_keys(8))


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_sharded_gradients_are_the_unsharded_ones(unsharded, sizes):
    cfg, params, (loss, grads) = unsharded
    mesh = make_mesh(MeshConfig(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]))
    shardings = nnx.to_pure_dict(param_shardings(abstract_state(cfg), mesh))
    rows = NamedSharding(mesh, batch_spec(mesh))
    with jax.set_mesh(mesh):
        actual_loss, actual = loss_and_grads(
            cfg,
            jax.device_put(params, shardings),
            jax.device_put(make_images(8), rows),
            jax.device_put(make_keys(8), rows),
        )
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * (1 + np.abs(b).max()))


@pytest.mark.parametrize("scan", [True, False])
def test_every_device_computes_its_own_examples_only(scan):
    """Without constraints scanned layers with sharded parameters compute the whole batch."""
    cfg = small_config(scan=scan, image_size=(8, 8), remat="full")
    mesh = make_mesh(MeshConfig(data=1, fsdp=8))
    shardings = nnx.to_pure_dict(param_shardings(abstract_state(cfg), mesh))
    rows = NamedSharding(mesh, batch_spec(mesh))
    batch = 7 * 8  # a number that no other dimension has

    def loss(params, images):
        return make_model(cfg, params)(images).sum()

    grad = jax.jit(jax.grad(loss), in_shardings=(shardings, rows), out_shardings=shardings)
    images = jax.ShapeDtypeStruct((batch, 8, 8, 3), jnp.float32)
    params = jax.eval_shape(lambda: make_params(cfg))
    with jax.set_mesh(mesh):
        text = grad.lower(params, images).compile().as_text()
    assert f"[{batch // 8},5,16]" in text
    assert f"[{batch},5,16]" not in text
