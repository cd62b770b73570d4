"""Sizes and closed formulas of decoder-only models, pinned."""

import msgspec
import pytest

from zoo.config import ConfigError, parse_config
from zoo.config.decoder import (
    SIZES,
    DecoderConfig,
    macs,
    num_params,
    published_vocab_size,
    token_macs,
)
from zoo.config.load import to_dict

# Parameters with the published vocabulary: of the published weights, of Flax's example, and of
# MaxText's defaults with a vocabulary of 32,000.
PARAMS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "lm1b": 49_653_040,
    "llama3.2-1b": 1_235_814_400,
    "llama3.1-8b": 8_030_261_248,
    "qwen3-0.6b": 596_049_920,
    "gemma3-270m": 268_098_176,
    "gemma3-1b": 999_885_952,
    "maxtext-1b": 1_104_218_112,
}
SMALL = {"width": 16, "depth": 2, "mlp_dim": 32, "num_heads": 2}


def published(size):
    return DecoderConfig(size=size, vocab_size=published_vocab_size(size))


@pytest.mark.parametrize("size", SIZES)
def test_parameter_counts_are_the_published_ones(size):
    assert num_params(published(size)) == PARAMS[size]


def test_multiply_adds_are_all_kernels_once_a_token_and_scores_and_values():
    cfg, T = published("llama3.2-1b"), 1000
    norms = (2 * cfg.depth + 1) * cfg.width
    kernels = num_params(cfg) - norms  # the tied table once, as the output layer
    assert macs(cfg, T) == T * kernels + cfg.depth * 2 * T * T * 32 * 64
    # A token more goes through all kernels, and its query meets all T keys.
    assert token_macs(cfg, T) == kernels + cfg.depth * 2 * T * 32 * 64


def test_a_size_names_the_dimensions_and_the_options():
    cfg = DecoderConfig(size="gemma3-1b")
    assert (cfg.width, cfg.num_heads, cfg.num_kv_heads, cfg.head_size) == (1152, 4, 1, 256)
    assert (cfg.window, cfg.rope_base, cfg.local_rope_base) == (512, 1e6, 1e4)
    assert [i for i, local in enumerate(cfg.local) if not local] == [5, 11, 17, 23]
    assert cfg.vocab_size is None


def test_what_is_given_wins_over_the_options_of_a_size():
    cfg = DecoderConfig(size="llama3.2-1b", rope_scaling=1.0, max_length=64, tied=False)
    assert (cfg.rope_scaling, cfg.max_length, cfg.tied, cfg.rope_base) == (1.0, 64, False, 5e5)


def test_dimensions_have_their_defaults():
    cfg = DecoderConfig(**SMALL)
    assert (cfg.num_kv_heads, cfg.head_size) == (2, 8)
    assert DecoderConfig(**{**SMALL, "width": 15}, head_size=8).head_size == 8


@pytest.mark.parametrize("keys", [{"size": size} for size in SIZES] + [SMALL], ids=str)
def test_a_stored_config_is_the_same_again(keys):
    cfg = DecoderConfig(**keys)
    assert msgspec.convert({"family": "decoder", **to_dict(cfg)}, DecoderConfig) == cfg
    assert cfg.replace(dropout=0.1).replace(dropout=0.0) == cfg


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": "gpt3"}, "size 'gpt3' is not one of gpt2, gpt2-medium"),
        ({"size": "gpt2", "width": 512}, "drop one"),
        ({"width": 16}, "depth is missing"),
        ({**SMALL, "width": 15}, "width 15 is not a multiple of num_heads 2"),
        ({**SMALL, "num_kv_heads": 3}, "not a multiple of num_kv_heads 3"),
        ({**SMALL, "num_heads": 0}, "num_heads 0 is not above 0"),
        ({**SMALL, "vocab_size": 0}, "vocab_size 0 is not above 0"),
        ({**SMALL, "window": -1}, "window -1 is below 0"),
        ({**SMALL, "dropout": 1.0}, "dropout 1.0 is not in"),
        ({**SMALL, "head_size": 7}, "needs an even head_size, not 7"),
        ({**SMALL, "width": 2, "position": "sinusoidal"}, "not 2"),
        ({**SMALL, "rope_scaling": 0.5}, "rope_scaling 0.5 is below 1"),
        ({**SMALL, "rope_scaling": 8.0, "position": "none"}, "goes with position 'rotary'"),
        ({**SMALL, "local_rope_base": 1e4}, "local_rope_base 10000.0 goes with a window"),
        ({**SMALL, "global_every": 6}, "global_every 6 goes with a window"),
        ({**SMALL, "norm": "layer", "norm_from_zero": True}, "goes with norm 'rms'"),
        ({**SMALL, "head_bias": True}, "goes with tied False"),
    ],
)
def test_impossible_configs_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**keys)


def test_a_config_file_may_hold_one():
    data = {"kind": "lm", "name": "x", "tokenizer": "y"}
    config = parse_config({"model": {"family": "decoder", "size": "gpt2"}, "data": data})
    assert config.model == DecoderConfig(size="gpt2")
    with pytest.raises(ConfigError, match=r"no key config\.model\.qk_nrom; did you mean 'qk_norm'"):
        parse_config({"model": {"family": "decoder", "qk_nrom": True}, "data": data})
