"""BERT's Adam: optax's without the correction, and the decay of BERT's own code."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.models.berts import make_params, shapes, small_config
from zoo.config.schema import OptimizerConfig
from zoo.training.bert_adam import scale_by_bert_adam
from zoo.training.optimizer import describe_optimizer, make_optimizer

RULES = ((r"(.*/)?\w*norm/.*|.*bias", 0.0), (r".*", 1.0))


def test_moments_are_optax_s_without_the_correction():
    ours, theirs = scale_by_bert_adam(eps=0.0), optax.scale_by_adam(eps=0.0)
    params = {"a": jnp.zeros(5)}
    states = [ours.init(params), theirs.init(params)]
    for t in range(1, 5):
        grads = {"a": jax.random.normal(jax.random.key(t), (5,))}
        found, states[0] = ours.update(grads, states[0])
        corrected, states[1] = theirs.update(grads, states[1])
        factor = (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
        np.testing.assert_allclose(found["a"], corrected["a"] * factor, rtol=1e-4)


def test_epsilon_is_added_to_the_root():
    tx = scale_by_bert_adam(b1=0.0, b2=0.0, eps=1.0)
    found, _ = tx.update({"a": jnp.array([1.0, 3.0])}, tx.init({"a": jnp.zeros(2)}))
    np.testing.assert_allclose(found["a"], [1 / 2, 3 / 4])


def test_one_step_is_the_rule_of_bert_s_own_code():
    params = make_params(small_config())
    grads = make_params(small_config(), seed=1)
    cfg = OptimizerConfig(name="bert_adamw", weight_decay=0.01, decay_rules=RULES)
    tx = make_optimizer(cfg, params, lambda step: 0.1)
    updates, _ = jax.jit(tx.update)(grads, jax.jit(tx.init)(params), params)

    def expect(decay):
        def rule(p, g):
            m, v = 0.1 * g, 0.001 * g**2
            return -0.1 * (m / (np.sqrt(v) + 1e-6) + decay * p)

        return rule

    for decayed in (("token_embed", "table"), ("pos_embed",), ("pooler", "kernel")):
        p, g, u = (pick(tree, decayed) for tree in (params, grads, updates))
        np.testing.assert_allclose(u, expect(0.01)(p, g), rtol=1e-5)
    for kept in (("masked_lm", "bias"), ("embed_norm", "scale"), ("pooler", "bias")):
        p, g, u = (pick(tree, kept) for tree in (params, grads, updates))
        np.testing.assert_allclose(u, expect(0.0)(p, g), rtol=1e-5)


def pick(tree, path):
    for key in path:
        tree = tree[key]
    return np.asarray(tree, np.float64)


def test_the_rules_leave_out_norms_and_biases_alone():
    for row in describe_optimizer(OptimizerConfig(decay_rules=RULES), shapes(small_config())):
        name = row.path.split("/")
        left_out = name[-1] == "bias" or any(part.endswith("norm") for part in name)
        assert row.decay == (not left_out), row.path
