"""The TPU kernel for many tokens, interpreted: it never ran on a TPU, but compiles for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.models.decoders import apply, loss_and_grads, make_params, make_tokens, small_config
from zoo.config.schema import MeshConfig
from zoo.models import attention, splash
from zoo.models.attention import Mask, attend, attend_splash
from zoo.models.decoder import Decoder
from zoo.sharding.mesh import make_mesh

T, BLOCK = 256, 128
# Two documents that end within a block, one that fills the rest of the row, and padding.
SEGMENT = jnp.asarray(np.repeat([1, 2, 3, 0], [40, 100, 100, 16])[None], jnp.int32)


def draw(*, batch=1, heads=2, kv_heads=1):
    """q, k, v and the gradient of the output."""
    rng = np.random.default_rng(0)
    sizes = (heads, kv_heads, kv_heads, heads)
    return [jnp.asarray(rng.normal(size=(batch, T, n, 64)), jnp.float32) for n in sizes]


@functools.partial(jax.jit, static_argnames=("function", "causal", "window"))
def output_and_grads(function, q, k, v, dy, segment=None, *, causal=False, window=None):
    mask = Mask(causal, window, segment, segment)
    y, vjp = jax.vjp(lambda q, k, v: function(q, k, v, mask=mask), q, k, v)
    return y, *vjp(dy)


def plain(q, k, v, *, mask):
    return attend(q, k, v, mask=mask)[0]


interpreted = functools.partial(attend_splash, block=BLOCK, interpret=True)


def assert_close(actual, expected):
    # Both sum in float32, in another order: 250 numbers of rounding error 6e-8 each.
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6 * np.abs(b).max())


@pytest.mark.parametrize(
    ("heads", "options"),
    [
        ({"heads": 2, "kv_heads": 1}, {"causal": True, "segment": SEGMENT}),
        ({"heads": 1}, {"window": 100}),
        ({"heads": 1}, {"segment": SEGMENT}),
    ],
    ids=["grouped, causal, packed", "window", "packed"],
)
def test_it_is_attention(heads, options):
    arrays = draw(**heads)
    actual = output_and_grads(interpreted, *arrays, **options)
    assert_close(actual, output_and_grads(plain, *arrays, **options))


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both ways"])
def test_documents_of_a_row_do_not_leak_into_each_other(causal):
    mask = Mask(causal, q_segment=SEGMENT, kv_segment=SEGMENT)
    run = jax.jit(functools.partial(interpreted, mask=mask))
    arrays = draw()[:3]
    second = (SEGMENT == 2)[..., None, None]
    before, after = run(*arrays), run(*(jnp.where(second, 3 - x, x) for x in arrays))
    np.testing.assert_array_equal(before[SEGMENT != 2], after[SEGMENT != 2])
    assert np.abs(before - after)[SEGMENT == 2].min() > 0


@pytest.mark.parametrize("tensor", [2, 4], ids=["heads are split", "too few heads to split"])
def test_on_a_mesh_each_device_does_its_own_examples_and_heads(tensor):
    arrays = [x[:, :BLOCK] for x in draw(batch=2, heads=4, kv_heads=2)]
    segment = jnp.repeat(SEGMENT[:, :BLOCK], 2, 0)
    run = functools.partial(output_and_grads, causal=True)
    expected = run(plain, *arrays, segment)
    mesh = make_mesh(MeshConfig(data=2, fsdp=1, tensor=tensor), jax.devices()[: 2 * tensor])
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, P("data", None, "tensor" if tensor == 2 else None))
        actual = run(interpreted, *jax.device_put(arrays, split), segment)
        assert actual[0].sharding.is_equivalent_to(split, 4)
    assert_close(actual, expected)


@pytest.mark.parametrize("options", [{"causal": True}, {"window": 100}, {}], ids=str)
def test_on_a_mesh_each_device_does_its_own_queries(options):
    arrays, segment = draw(heads=4, kv_heads=2), SEGMENT
    expected = output_and_grads(plain, *arrays, segment, **options)
    mesh = make_mesh(MeshConfig(data=1, sequence=2, tensor=2), jax.devices()[:4])
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, P(None, "sequence", "tensor"))
        actual = output_and_grads(interpreted, *jax.device_put(arrays, split), segment, **options)
        assert actual[0].sharding.is_equivalent_to(split, 4)
    assert_close(actual, expected)


def test_a_decoder_gives_the_same_by_it(monkeypatch):
    cfg = small_config(num_heads=2, num_kv_heads=1, head_size=64, window=50, global_every=0)
    params, tokens = make_params(cfg), make_tokens(1, 128)
    expected = apply(cfg, params, tokens)
    masks = []

    def kernel(*args, mask, scale):
        masks.append(mask)
        return interpreted(*args, mask=mask, scale=scale)

    monkeypatch.setattr(attention, "on_tpu", lambda: True)
    monkeypatch.setattr(attention, "attend_splash", kernel)
    monkeypatch.setattr(splash, "MIN_TOKENS", 128)
    apply.clear_cache()
    actual = apply(cfg, params, tokens)
    apply.clear_cache()
    assert {mask.window for mask in masks} == {50}
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"window": 50, "global_every": 0}, True),
        ({"window": 50, "global_every": 2}, False),  # one loop for layers of two kinds
        ({"attention": "xla"}, False),
    ],
)
def test_which_decoders_take_it(monkeypatch, options, expected):
    monkeypatch.setattr(attention, "on_tpu", lambda: True)
    cfg = small_config(head_size=64, **options)
    step = functools.partial(loss_and_grads.__wrapped__, cfg)
    jaxpr = str(jax.make_jaxpr(step)(make_params(cfg), make_tokens(1, 1024)))
    assert ("splash_mha_fwd" in jaxpr) is expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((64, 1024, 1024), True),
        ((256, 1152, 1152), True),
        ((96, 1024, 1024), False),
        ((64, 896, 896), False),
        ((64, 1025, 1025), False),
        ((64, 1024, 2048), False),
        ((64, 1024, 1024, 8), True),
        ((64, 1152, 1152, 2), False),  # a device's queries are no whole blocks
    ],
)
def test_where_it_fits(sizes, expected):
    assert splash.fits(*sizes) is expected


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("head_size", "remat", "kernels"),
    [
        (64, "none", 3),  # forward, the gradient of q, and that of k and v
        (128, "attention", 3),
        (256, "full", 4),  # forward once more
    ],
)
def test_a_decoders_step_compiles_for_tpus(monkeypatch, head_size, remat, kernels):
    pytest.importorskip("libtpu")
    topologies = pytest.importorskip("jax.experimental.topologies")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    described = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    axes = ("data", "tensor")
    mesh = Mesh(np.reshape(described.devices, (2, 2)), axes, axis_types=(AxisType.Auto,) * 2)
    cfg = small_config(
        width=256,
        mlp_dim=256,
        num_heads=4,
        num_kv_heads=2,
        head_size=head_size,
        dtype="bfloat16",
        remat=remat,
    )
    graph, state = nnx.split(nnx.eval_shape(lambda: Decoder(cfg, rngs=nnx.Rngs(0))))

    def loss(params, tokens, segment):
        hidden = nnx.merge(graph, params).hidden(tokens, segment=segment)
        return jnp.sum(jnp.square(hidden.astype(jnp.float32)))

    def place(x, spec):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    params = jax.tree.map(lambda x: place(x, P()), nnx.to_pure_dict(state))
    tokens = place(jax.ShapeDtypeStruct((4, 1024), jnp.int32), P("data"))
    with jax.set_mesh(mesh):
        compiled = jax.jit(jax.value_and_grad(loss)).lower(params, tokens, tokens).compile()
    text = compiled.as_text()
    assert text.count("tpu_custom_call") == kernels
    # Two examples and two of four heads on each device.
    assert f"bf16[2,2,1024,{head_size}]" in text
