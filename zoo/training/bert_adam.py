"""Adam as BERT's own code has it: the moments are not corrected for having started at zero."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class BertAdamState(NamedTuple):
    """Averages of gradients and of their squares."""

    mu: Any
    nu: Any


def scale_by_bert_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6
) -> optax.GradientTransformation:
    """Gradients -> mu / (sqrt(nu) + eps), float32."""

    def init(params):
        zeros = lambda p: jnp.zeros(p.shape, jnp.float32)
        return BertAdamState(jax.tree.map(zeros, params), jax.tree.map(zeros, params))

    def update(updates, state, params=None):
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return direction, BertAdamState(mu, nu)

    return optax.GradientTransformation(init, update)
