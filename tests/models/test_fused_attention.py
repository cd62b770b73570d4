"""The TPU kernel of attention, interpreted: it never ran on a TPU, but compiles for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.models.vits import loss_and_grads, make_images, make_params, small_config
from zoo.config.schema import MeshConfig
from zoo.models import attention
from zoo.models import fused_attention as fused_attention_module
from zoo.models.attention import Mask, attend, attend_fused
from zoo.models.fused_attention import (
    MAX_TOKENS,
    Options,
    fits,
    fused_attention,
    largest_error,
)
from zoo.sharding.mesh import make_mesh


def draw(*shape, dtype=jnp.float32):
    """q, k, v and the gradient of the output."""
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(4)]


def plain(q, k, v):
    return attend(q, k, v)[0]


def output_and_grads(function, q, k, v, dy):
    y, vjp = jax.vjp(function, q, k, v)
    return y, *vjp(dy)


interpreted = functools.partial(attend_fused, interpret=True)
# Two documents and padding; one and none, which shows that padding sees itself as in `attend`.
SEGMENT = jnp.asarray([[1] * 5 + [2] * 10 + [0] * 4, [1] * 19], jnp.int32)


@pytest.mark.parametrize(
    ("images", "tokens", "heads", "head_size"), [(2, 19, 4, 64), (3, 7, 4, 32), (4, 8, 1, 128)]
)
def test_it_is_attention(images, tokens, heads, head_size):
    arrays = draw(images, tokens, heads, head_size)
    actual = jax.jit(functools.partial(output_and_grads, interpreted))(*arrays)
    expected = output_and_grads(plain, *arrays)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * np.abs(b).max())


@pytest.mark.parametrize(
    "mask",
    [
        Mask(q_segment=SEGMENT, kv_segment=SEGMENT),
        Mask(causal=True),
        Mask(causal=True, window=3),
        Mask(causal=True, q_segment=SEGMENT, kv_segment=SEGMENT),
        Mask(q_segment=SEGMENT, kv_segment=SEGMENT[:, ::-1]),
    ],
    ids=["segments", "causal", "window", "causal segments", "two texts"],
)
def test_it_sees_what_the_mask_says(mask):
    arrays = draw(2, 19, 4, 64)
    kernel = functools.partial(interpreted, mask=mask)
    actual = jax.jit(functools.partial(output_and_grads, kernel))(*arrays)
    expected = output_and_grads(lambda *qkv: attend(*qkv, mask=mask)[0], *arrays)
    unmasked = output_and_grads(plain, *arrays)
    for a, b, c in zip(actual, expected, unmasked, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * np.abs(b).max())
        assert np.abs(b - c).max() > 0.1


def test_bfloat16_is_as_near_to_the_truth_as_xlas():
    exact = output_and_grads(plain, *draw(2, 19, 2, 64))
    arrays = draw(2, 19, 2, 64, dtype=jnp.bfloat16)
    actual = output_and_grads(interpreted, *arrays)
    xla = output_and_grads(plain, *arrays)
    for a, b, truth in zip(actual, xla, exact, strict=True):
        assert a.dtype == jnp.bfloat16
        error = np.abs(a.astype(np.float32) - truth).mean()
        assert 0 < error < 1.1 * np.abs(b.astype(np.float32) - truth).mean()


def test_large_scores_do_not_overflow():
    q, k, v, dy = draw(1, 5, 2, 64)
    for array in output_and_grads(interpreted, 100 * q, 100 * k, v, dy):
        assert np.isfinite(array).all()


def test_on_a_mesh_each_device_does_its_own_examples_and_heads():
    arrays = draw(4, 6, 8, 64)
    run = jax.jit(functools.partial(output_and_grads, interpreted))
    expected = run(*arrays)
    mesh = make_mesh(MeshConfig(data=2, fsdp=1, tensor=4))
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, P("data", None, "tensor"))
        actual = run(*jax.device_put(arrays, split))
        assert actual[0].sharding.is_equivalent_to(split, 4)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_model_uses_it_on_tpus_only(monkeypatch):
    cfg = small_config(width=128, num_heads=2, image_size=8, scan=False, depth=1, qk_norm=True)
    params = make_params(cfg)
    images = make_images(2, 8, 8)
    expected = loss_and_grads(cfg, params, images)
    calls = []

    def kernel(*args, **options):
        calls.append(args)
        return interpreted(*args, **options)

    monkeypatch.setattr(attention, "attend_fused", kernel)
    loss_and_grads.clear_cache()
    loss_and_grads(cfg, params, images)
    assert not calls
    monkeypatch.setattr(attention, "on_tpu", lambda: True)
    loss_and_grads.clear_cache()
    actual = loss_and_grads(cfg, params, images)
    assert len(calls) == 1
    loss_and_grads(cfg.replace(attention="xla"), params, images)
    assert len(calls) == 1
    loss_and_grads.clear_cache()
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * (1 + np.abs(b).max()))


@pytest.mark.parametrize(
    ("head_size", "num_heads", "tokens", "expected"),
    [
        (64, 12, 197, True),
        (128, 3, 640, True),
        (64, 3, 197, False),  # 192 is not whole groups of 128
        (72, 16, 197, False),
        (64, 12, 641, False),
    ],
)
def test_where_it_fits(head_size, num_heads, tokens, expected):
    assert fits(head_size, num_heads, tokens) is expected


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:2x2", "v6e:2x2"])
@pytest.mark.parametrize(("tokens", "masked"), [(197, False), (512, True), (MAX_TOKENS, True)])
def test_it_compiles_for_tpus(monkeypatch, topology, tokens, masked):
    pytest.importorskip("libtpu")
    topologies = pytest.importorskip("jax.experimental.topologies")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    mesh = Mesh(described.devices[:1], ("data",), axis_types=(AxisType.Auto,))
    placed = functools.partial(jax.ShapeDtypeStruct, sharding=NamedSharding(mesh, P()))
    array = placed((8, tokens, 128), jnp.bfloat16)
    segments = [placed((8, tokens), jnp.int32)] * 2 * masked

    def run(q, k, v, dy, *segments):
        options = Options(64, causal=masked)
        kernel = lambda q, k, v: fused_attention(q, k, v, segments, options)
        return output_and_grads(kernel, q, k, v, dy)

    compiled = jax.jit(run).lower(*[array] * 4, *segments).compile()
    assert compiled.as_text().count("tpu_custom_call") >= 2


@pytest.mark.parametrize("head_size", [32, 64, 128])
def test_the_check_for_new_hardware_finds_the_kernel_right(head_size):
    assert 1e-4 < largest_error(head_size, 20, interpret=True) < 0.02


def test_the_check_for_new_hardware_finds_a_wrong_kernel(monkeypatch):
    softmax = fused_attention_module._softmax
    # As if padding beyond the last token took part.
    monkeypatch.setattr(fused_attention_module, "_softmax", lambda *args: softmax(*args) * 20 / 32)
    assert largest_error(64, 20, interpret=True) > 0.1
