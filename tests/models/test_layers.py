"""Layers one by one, against plain formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from zoo.models.attention import attend
from zoo.models.layers import (
    Attention,
    Dense,
    LayerNorm,
    drop_path,
    dropout,
    run_stack,
    stack,
)

normal = nnx.initializers.normal(1.0)


def draw(*shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_layer_norm_is_exact_for_large_means(offset):
    norm = LayerNorm(32, epsilon=1e-6, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = draw(32, seed=1), draw(32, seed=2)
    x = draw(3, 5, 32) + offset
    wide = np.asarray(x, np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-6)
    expected = expected * norm.scale[...][None, None] + norm.bias[...][None, None]
    np.testing.assert_allclose(norm(x), expected, atol=1e-5 + 1e-6 * offset)


def test_layer_norm_of_bfloat16_has_float32_statistics():
    norm = LayerNorm(512, epsilon=1e-6, rngs=nnx.Rngs(0))
    x = (draw(2, 512) + 4).astype(jnp.bfloat16)
    expected = norm(x.astype(jnp.float32)).astype(jnp.bfloat16)
    assert norm(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(norm(x).astype(np.float32), expected.astype(np.float32))


def test_attention_against_loops():
    q, k, v = draw(2, 3, 2, 4), draw(2, 5, 2, 4, seed=1), draw(2, 5, 2, 4, seed=2)
    y, probabilities = attend(q, k, v)
    for b in range(2):
        for n in range(2):
            scores = np.asarray(q[b, :, n] @ k[b, :, n].T) / 2
            weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            np.testing.assert_allclose(probabilities[b, n], weights, atol=1e-6)
            np.testing.assert_allclose(y[b, :, n], weights @ v[b, :, n], atol=1e-5)


def test_attention_survives_large_scores():
    q = jnp.full((1, 2, 1, 4), 100.0)
    y, probabilities = attend(q, q, draw(1, 2, 1, 4))
    np.testing.assert_allclose(probabilities, 0.5)
    assert np.isfinite(y).all()


def test_attention_looks_at_the_context():
    attention = Attention(8, 2, kernel_init=normal, rngs=nnx.Rngs(0))
    x, context = draw(2, 3, 8), draw(2, 5, 8, seed=1)
    y, probabilities = attention(x, context, probabilities=True)
    assert probabilities.shape == (2, 2, 3, 5)
    order = jnp.array([4, 2, 0, 1, 3])
    np.testing.assert_allclose(attention(x, context[:, order])[0], y, atol=1e-5)
    assert np.abs(attention(x, context + 1)[0] - y).max() > 1e-2


def test_dropout_zeroes_a_share_and_keeps_the_mean():
    keys = jax.random.split(jax.random.key(0), 8)
    y = dropout(jnp.ones((8, 100, 50)), keys, 0.2)
    assert set(np.unique(y)) == {0.0, 1.25}
    np.testing.assert_allclose(np.mean(y == 0, (1, 2)), 0.2, atol=0.02)
    assert not np.array_equal(y[0], y[1])
    same = jnp.broadcast_to(keys[:1], 2)
    np.testing.assert_array_equal(*dropout(jnp.ones((2, 10, 5)), same, 0.5))


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    keys = jax.random.split(jax.random.key(0), 2000)
    y = drop_path(jnp.ones((2000, 2, 3)), keys, jnp.float32(0.2))
    np.testing.assert_array_equal(np.ptp(y, (1, 2)), 0)
    np.testing.assert_allclose(np.unique(y), [0, 1.25])
    np.testing.assert_allclose(np.mean(y), 1, atol=0.03)


def test_dropping_nothing_returns_the_very_array():
    x, keys = jnp.ones((2, 3, 4)), jax.random.split(jax.random.key(0), 2)
    assert dropout(x, keys, 0.0) is x
    assert dropout(x, None, 0.5) is x
    assert drop_path(x, None, jnp.float32(0.5)) is x


def make_dense(rngs):
    return Dense(4, 4, axes=("embed", "mlp"), kernel_init=normal, rngs=rngs)


def test_stack_has_a_layer_axis_and_layers_of_their_own():
    layers = stack(make_dense, 3, rngs=nnx.Rngs(0))
    assert layers.kernel.shape == (3, 4, 4)
    assert layers.kernel.get_metadata()["axes"] == ("layers", "embed", "mlp")
    assert layers.bias.get_metadata()["axes"] == ("layers", "mlp")
    assert np.abs(layers.kernel[0] - layers.kernel[1]).max() > 0.1


@pytest.mark.parametrize("scan", [True, False])
def test_run_stack_goes_through_the_layers_in_order(scan):
    layers = stack(make_dense, 3, rngs=nnx.Rngs(0))
    x, factors = draw(2, 1, 4), jnp.array([1.0, 2.0, 3.0])

    def call(layer, x, factor):
        y = layer(x) * factor
        return y, {"sum": y.sum()}

    y, collected = run_stack(call, layers, x, factors, depth=3, scan=scan, remat="none")
    expected, sums = x, []
    for i in range(3):
        expected = expected @ layers.kernel[i] * factors[i]
        sums.append(expected.sum())
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_allclose(collected["sum"], jnp.stack(sums), rtol=1e-4)


def test_unrolled_gradients_are_concatenated_once():
    layers = stack(make_dense, 3, rngs=nnx.Rngs(0))
    call = lambda layer, x, _: (layer(x), None)

    def loss(layers):
        x = jnp.ones((1, 1, 4))
        return run_stack(call, layers, x, None, depth=3, scan=False, remat="none")[0].sum()

    jaxpr = str(jax.make_jaxpr(jax.grad(loss))(layers))
    assert jaxpr.count(" split[") == jaxpr.count("concatenate[") == 2  # kernel and bias
    assert "dynamic_update_slice" not in jaxpr
    assert "scatter" not in jaxpr
