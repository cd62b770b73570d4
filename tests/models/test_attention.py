"""Which kernel computes which call; and cuDNN's, tried with XLA's in its place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.config.schema import MeshConfig
from zoo.models import attention as module
from zoo.models.attention import Mask, attend, attend_cudnn, attention, choose_kernel
from zoo.sharding.mesh import make_mesh

SEGMENT = jnp.asarray([[1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 2, 3, 3]], jnp.int32)
WINDOW = jnp.int32(3)
MASKS = {
    "none": None,
    "causal": Mask(causal=True),
    "window": Mask(window=3),
    "window of a layer": Mask(causal=True, window=WINDOW),
    "packed": Mask(q_segment=SEGMENT, kv_segment=SEGMENT),
    "packed, causal": Mask(causal=True, q_segment=SEGMENT, kv_segment=SEGMENT),
    "packed, window": Mask(causal=True, window=3, q_segment=SEGMENT, kv_segment=SEGMENT),
}


def arrays_of(T, N=12, K=12, H=64, S=None, dtype=jnp.bfloat16):
    """Queries and keys, without numbers."""
    return jax.ShapeDtypeStruct((2, T, N, H), dtype), jax.ShapeDtypeStruct((2, S or T, K, H), dtype)


def choose(sizes, mask=None, scale=None):
    # Annotations ask for arrays; the choice looks at shapes only.
    chosen = []

    def run(q, k):
        chosen.append(choose_kernel(q, k, mask, scale))
        return q

    jax.eval_shape(run, *arrays_of(**sizes))
    return chosen[0]


@pytest.mark.parametrize(
    ("sizes", "mask", "on_tpu", "on_gpu"),
    [
        ({"T": 197}, "none", "fused", "cudnn"),
        ({"T": 197}, "causal", "fused", "cudnn"),
        ({"T": 512}, "packed", "fused", "cudnn"),
        ({"T": 512}, "window of a layer", "xla", "cudnn"),
        ({"T": 640, "K": 4}, "none", "xla", "cudnn"),
        ({"T": 1024}, "none", "splash", "cudnn"),
        ({"T": 1024, "K": 4}, "packed, window", "splash", "cudnn"),
        ({"T": 1024}, "window of a layer", "xla", "cudnn"),
        ({"T": 1024, "S": 2048}, "packed", "xla", "cudnn"),
        ({"T": 1000}, "causal", "xla", "cudnn"),
        ({"T": 1025}, "causal", "xla", "cudnn"),
        ({"T": 1025}, "packed", "xla", "xla"),  # a mask as an array, and an odd length
        ({"T": 1024, "H": 256}, "causal", "splash", "xla"),
        ({"T": 1024, "H": 36}, "causal", "xla", "xla"),
        ({"T": 1024, "dtype": jnp.float32}, "causal", "splash", "xla"),
    ],
)
def test_which_kernel_computes_what(monkeypatch, sizes, mask, on_tpu, on_gpu):
    mask = MASKS[mask]
    assert choose(sizes, mask) == "xla"
    monkeypatch.setattr(module, "on_gpu", lambda: True)
    assert choose(sizes, mask) == on_gpu
    monkeypatch.setattr(module, "on_tpu", lambda: True)
    assert choose(sizes, mask) == on_tpu


@pytest.mark.parametrize("platform", ["on_tpu", "on_gpu"])
def test_what_no_kernel_computes(monkeypatch, platform):
    monkeypatch.setattr(module, platform, lambda: True)
    called, T = [], 1024
    for name in ("attend_fused", "attend_splash", "attend_cudnn"):
        stand_in = lambda q, k, v, name=name, **_: called.append(name) or q
        monkeypatch.setattr(module, name, stand_in)

    def run(**options):
        call = functools.partial(attention, **options)
        jax.eval_shape(lambda q, k: call(q, k, k)[0], *arrays_of(T=T, N=2, K=2))
        return [called.pop() for _ in range(len(called))]

    bias = jnp.zeros((1, 2, T, T))
    keys = jax.random.split(jax.random.key(0), 2)
    assert run() == run(rate=0.1) == run(keys=keys)
    assert len(run()) == 1
    assert not run(kernel="xla")
    assert not run(probabilities=True)
    assert not run(bias=bias)
    assert not run(keys=keys, rate=0.1)
    assert not run(mask=Mask(causal=True, q_index=jnp.zeros((2, T), jnp.int32)))


def draw(dtype=jnp.float32):
    """q, k, v and the gradient of the output; two heads of queries share one of keys."""
    rng = np.random.default_rng(0)
    sizes = (4, 2, 2, 4)
    return [jnp.asarray(rng.normal(size=(2, 8, n, 16)), dtype) for n in sizes]


@pytest.mark.parametrize(("mask", "scale"), [(mask, 0.3) for mask in MASKS] + [("none", None)])
def test_cudnn_is_told_what_attention_is(mask, scale):
    arrays, mask = draw(), MASKS[mask]
    ours = functools.partial(attend_cudnn, mask=mask, scale=scale, implementation="xla")
    plain = lambda q, k, v, mask: attend(q, k, v, mask=mask, scale=scale)[0]

    @functools.partial(jax.jit, static_argnums=0)
    def run(function, q, k, v, dy):
        y, vjp = jax.vjp(functools.partial(function, mask=mask), q, k, v)
        return y, *vjp(dy)

    for a, b in zip(run(ours, *arrays), run(plain, *arrays), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * np.abs(b).max())


@pytest.mark.parametrize("mask", ["window", "window of a layer", "packed, causal"])
def test_cudnn_on_a_mesh(mask):
    *arrays, _ = draw()
    ours = jax.jit(functools.partial(attend_cudnn, mask=MASKS[mask], implementation="xla"))
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=1, tensor=2), jax.devices()[:4])):
        actual = ours(*arrays)
    np.testing.assert_allclose(actual, attend(*arrays, mask=MASKS[mask])[0], atol=2e-6)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_cudnn_takes_it(monkeypatch, mask):
    """All that JAX checks of a call before it meets a GPU, and what it hands over."""
    cudnn = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)

    def loss(q, k, v):
        return attend_cudnn(q, k, v, mask=mask).astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(*draw(jnp.bfloat16)[:3])
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    dense = mask is not None and (mask.q_segment is not None or mask.window is WINDOW)
    name = "__cudnn$fmhaScaleBiasSoftmax" if dense else "__cudnn$fmhaSoftmax"
    assert f"@{name}(" in text
    assert f"@{name}Backward(" in text
    causal = mask is not None and (mask.causal or mask.window is not None)
    assert text.count(r"mask_type\22: \22CAUSAL") == 2 * causal
    # cuDNN does windows without a bias only.
    assert text.count(r"sliding_window_length\22: 3") == (2 if mask is MASKS["window"] else 0)
