"""Losses of tokens: optax's numbers, however few logits are held at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params

from zoo.tasks.token_loss import num_chunks, token_losses

B, T, D, V = 3, 8, 5, 11


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


HIDDEN, TABLE = draw(B, T, D), draw(D, V, seed=1)
TARGET = jnp.asarray(np.random.default_rng(2).integers(0, V, (B, T)), jnp.int32)


def losses(hidden=HIDDEN, table=TABLE, **options):
    return token_losses(lambda x: x @ table, hidden, TARGET, vocab_size=V, **options)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_equal_optax(smoothing):
    found = losses(label_smoothing=smoothing)
    logits = HIDDEN @ TABLE
    target = optax.smooth_labels(jax.nn.one_hot(TARGET, V), smoothing)
    np.testing.assert_allclose(
        found.loss, optax.softmax_cross_entropy(logits, target), rtol=1e-5, atol=1e-6
    )
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, TARGET)
    np.testing.assert_allclose(found.nll, nll, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.correct, logits.argmax(-1) == TARGET)


def test_z_loss_is_the_square_of_log_z():
    plain, found = losses(), losses(z_loss=0.01)
    log_z = jax.nn.logsumexp(HIDDEN @ TABLE, -1)
    np.testing.assert_allclose(found.loss - plain.loss, 0.01 * log_z**2, atol=1e-6)
    np.testing.assert_array_equal(found.nll, plain.nll)


@pytest.mark.parametrize("most", [B * T * V // 2, B * V, 1])
def test_chunks_change_neither_losses_nor_gradients(most):
    def total(hidden, table, most):
        return losses(hidden, table, label_smoothing=0.1, max_logits=most).loss.sum()

    grad = jax.value_and_grad(total, (0, 1))
    whole, chunked = grad(HIDDEN, TABLE, 10**6), grad(HIDDEN, TABLE, most)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), whole, chunked)


def largest_array(jaxpr):
    """Numbers of the largest intermediate in a program and in the programs within."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [v.aval.size for v in equation.outvars if V in v.aval.shape[-1:]]
        sizes += [largest_array(inner) for inner in jaxprs_in_params(equation.params)]
    return max(sizes)


@pytest.mark.parametrize(("most", "expected"), [(10**6, B * T * V), (B * 2 * V, B * 2 * V)])
def test_no_more_logits_are_held_than_allowed(most, expected):
    def total(hidden):
        return losses(hidden, max_logits=most).loss.sum()

    assert largest_array(jax.make_jaxpr(jax.grad(total))(HIDDEN).jaxpr) == expected


@pytest.mark.parametrize(
    ("numbers", "length", "most", "expected"),
    [(100, 10, 100, 1), (100, 10, 99, 2), (100, 10, 30, 5), (100, 7, 50, 7), (10**9, 4, 1, 4)],
)
def test_chunks_divide_the_sequence(numbers, length, most, expected):
    assert num_chunks(numbers, length, most) == expected
