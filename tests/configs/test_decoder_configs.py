"""The configs of language models: sizes, lengths and rates as their sources say."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.configs.test_configs import ALL_CASES
from zoo.config import load_config
from zoo.config.decoder import DecoderConfig, num_params, published_vocab_size
from zoo.config.duration import Clock
from zoo.config.sizes import row_tokens
from zoo.tasks.build import abstract_model, check_model, make_task
from zoo.training.optimizer import describe_optimizer, make_optimizer
from zoo.training.schedules import make_schedule

CASES = [case for case in ALL_CASES if isinstance(load_config(case).model, DecoderConfig)]
OWN = {"lm_imdb": 4_000}  # made for this project, nothing published: the vocabulary
# config: (parameters with that or the published vocabulary, steps, tokens of a batch)
PINS = {
    "gpt2_124m:gpt2": (124_439_808, 600_000, 491_520),
    "gpt2_124m:gpt2-medium": (354_823_168, 600_000, 491_520),
    "gpt2_124m:gpt2-large": (774_030_080, 600_000, 491_520),
    "gpt2_124m:gpt2-xl": (1_557_611_200, 600_000, 491_520),
    "lm1b": (49_653_040, 500_000, 256 * 128),
    "llama_1b:llama3.2-1b": (1_235_814_400, 250_000, 2**22),
    "llama_1b:maxtext-1b": (1_104_218_112, 250_000, 2**22),
    "lm_imdb": (2_539_456, 2_500, 16 * 256),
}


def filled(case):
    """The config with what its tokenizer would fill in."""
    config = load_config(case)
    vocab_size = OWN.get(case) or published_vocab_size(config.model.size)
    return config.replace(model=config.model.replace(vocab_size=vocab_size))


@pytest.mark.parametrize("case", CASES)
def test_config_builds(case):
    config = filled(case)
    tokens = row_tokens(config) * config.data.batch_size
    clock = Clock(config.data.batch_size, 10**6, tokens)
    total, warmup = clock.steps(config.total), clock.steps(config.optimizer.warmup)
    assert (num_params(config.model), total, tokens) == PINS[case]
    check_model(config)
    assert make_task(config).metric_names[0] == "loss"
    assert config.data.length <= config.model.max_length
    _, state = abstract_model(config)
    params = nnx.to_pure_dict(state)
    assert sum(np.prod(p.shape, dtype=int) for p in jax.tree.leaves(params)) == PINS[case][0]
    schedule = make_schedule(
        config.optimizer, total_steps=total, warmup_steps=warmup, cooldown_steps=0
    )
    assert float(schedule(warmup)) == pytest.approx(config.optimizer.lr)
    end = {"cosine": config.optimizer.lr / 10, "rsqrt": config.optimizer.lr / 500**0.5, "linear": 0}
    assert float(schedule(total)) == pytest.approx(end[config.optimizer.schedule], rel=1e-3)
    tx = make_optimizer(config.optimizer, params, schedule)
    jax.eval_shape(tx.update, params, jax.eval_shape(tx.init, params), params)


@pytest.mark.parametrize("case", [case for case in CASES if case not in OWN])
def test_all_matrices_are_decayed_and_in_lm1b_everything(case):
    config = filled(case)
    _, state = abstract_model(config)
    for row in describe_optimizer(config.optimizer, state):
        vector = row.path.endswith(("/bias", "/scale"))
        assert row.decay == (case == "lm1b" or not vector), row.path
