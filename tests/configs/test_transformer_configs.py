"""The configs of encoder-decoders: sizes, lengths and rates as their sources say."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.configs.test_configs import ALL_CASES
from zoo.config import load_config
from zoo.config.duration import Clock
from zoo.config.sizes import num_params, row_tokens
from zoo.config.transformer import TransformerConfig
from zoo.tasks.build import abstract_model, check_model, make_task
from zoo.training.optimizer import make_optimizer
from zoo.training.schedules import make_schedule

CASES = [case for case in ALL_CASES if isinstance(load_config(case).model, TransformerConfig)]
# config: (vocabulary, parameters, steps, tokens of a batch, peak of the learning rate)
PINS = {
    "wmt_vaswani:base": (37_000, 63_045_632, 100_000, 96 * 512, 6.988e-4),
    "wmt_vaswani:big": (37_000, 214_171_648, 300_000, 96 * 512, 4.941e-4),
    "wmt17_deen:flax": (32_000, 209_055_744, 100_000, 256 * 512, 2e-3),
    "wmt17_deen:algoperf": (32_000, 133_521_408, 99_999, 128 * 512, 1.7486e-3),
    "t5_11_c4:small": (32_128, 76_961_152, 1_000_000, 2048 * 626, 0.01),
    "t5_11_c4:base": (32_128, 247_577_856, 1_000_000, 2048 * 626, 0.01),
    "t5_11_c4:large": (32_128, 783_150_080, 1_000_000, 2048 * 626, 0.01),
    "t5_11_c4:xl": (32_128, 2_849_757_184, 1_000_000, 2048 * 626, 0.01),
    "t5_mnli:small": (32_128, 76_961_152, 15_001, 128 * 528, 1e-4),
    "t5_mnli:large": (32_128, 783_150_080, 15_001, 128 * 528, 1e-4),
    "t5_mnli:xl": (32_128, 2_849_757_184, 15_001, 128 * 528, 1e-4),
    # Made for this project, nothing published: the steps are those of a million pairs.
    "translate_help": (4_000, 1_896_448, 187_500, 32 * 192, 0.02),
}


@pytest.mark.parametrize("case", CASES)
def test_config_builds(case):
    config = load_config(case)
    vocab_size, count, steps, tokens, lr = PINS[case]
    config = config.replace(model=config.model.replace(vocab_size=vocab_size))
    assert row_tokens(config) * config.data.batch_size == tokens
    clock = Clock(config.data.batch_size, 10**6, tokens)
    total, warmup = clock.steps(config.total), clock.steps(config.optimizer.warmup)
    assert (num_params(config), total) == (count, steps)
    check_model(config)
    assert make_task(config).metric_names[0] == "loss"
    _, state = abstract_model(config)
    params = nnx.to_pure_dict(state)
    assert sum(np.prod(p.shape, dtype=int) for p in jax.tree.leaves(params)) == count
    schedule = make_schedule(
        config.optimizer, total_steps=total, warmup_steps=warmup, cooldown_steps=0
    )
    assert float(schedule(warmup)) == pytest.approx(lr, rel=1e-3)
    tx = make_optimizer(config.optimizer, params, schedule)
    jax.eval_shape(tx.update, params, jax.eval_shape(tx.init, params), params)
