"""Sizes and closed formulas of encoder-decoders, pinned."""

import msgspec
import pytest

from zoo.config.load import to_dict
from zoo.config.transformer import SIZES, TransformerConfig, macs, num_params

# Parameters with the published vocabularies: 37,000 of Vaswani's, who rounds to 65M and 213M, and
# 32,128 of T5's, as its published weights count.
PARAMS = {
    "base": 63_045_632,
    "big": 214_171_648,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-xl": 2_851_598_336,
    "t5_1_1-small": 76_961_152,
    "t5_1_1-base": 247_577_856,
    "t5_1_1-large": 783_150_080,
    "t5_1_1-xl": 2_849_757_184,
}
SMALL = {"width": 16, "depth": 2, "mlp_dim": 32, "num_heads": 2}


def published(size):
    return TransformerConfig(size=size, vocab_size=32_128 if "t5" in size else 37_000)


@pytest.mark.parametrize("size", SIZES)
def test_parameter_counts_are_the_published_ones(size):
    assert num_params(published(size)) == PARAMS[size]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"size": "base"}, 60_485_632),
        # Flax's example of WMT, and AlgoPerf's, with a narrower MLP.
        ({"size": "big", "norm_order": "pre"}, 209_055_744),
        (
            {
                "width": 1024, "depth": 6, "mlp_dim": 1024, "num_heads": 16, "norm_order": "pre",
            },
            133_521_408,
        ),
    ],
)  # fmt: skip
def test_parameter_counts_with_a_vocabulary_of_32000(keys, expected):
    assert num_params(TransformerConfig(**keys, vocab_size=32_000)) == expected


def test_multiply_adds_are_all_kernels_once_a_token_and_scores_and_values():
    cfg, S, T = TransformerConfig(size="t5_1_1-base", vocab_size=32_128), 100, 30
    D, L, heads = 768, 12, 768
    encoder, cross = L * (4 * D * heads + 3 * D * 2048), L * 2 * D * heads
    kernels = S * encoder + T * encoder + (S + T) * cross + T * D * 32_128
    assert macs(cfg, S, T) == kernels + L * 2 * heads * (S * S + T * T + S * T)


def test_a_size_names_the_dimensions_and_the_options():
    cfg = TransformerConfig(size="t5_1_1-small")
    assert (cfg.width, cfg.depth, cfg.decoder_depth, cfg.num_heads) == (512, 8, 8, 6)
    assert (cfg.position, cfg.norm, cfg.gated, cfg.tied) == ("relative", "rms", True, False)
    assert (cfg.attention_scale, cfg.logits_scale, cfg.vocab_size) == (False, False, None)
    assert TransformerConfig(size="t5-small").logits_scale


def test_without_a_size_the_options_are_those_of_the_paper():
    cfg = TransformerConfig(**SMALL)
    assert (cfg.position, cfg.norm, cfg.norm_order) == ("sinusoidal", "layer", "post")
    assert (cfg.shared, cfg.tied, cfg.embed_scale, cfg.attention_bias) == (True, True, True, False)
    assert (cfg.decoder_depth, cfg.head_size) == (2, 8)


def test_what_is_given_wins_over_the_options_of_a_size():
    cfg = TransformerConfig(size="t5-small", tied=False, decoder_depth=2)
    assert (cfg.tied, cfg.decoder_depth, cfg.depth, cfg.norm) == (False, 2, 6, "rms")


@pytest.mark.parametrize("keys", [{"size": size} for size in SIZES] + [SMALL], ids=str)
def test_a_stored_config_is_the_same_again(keys):
    cfg = TransformerConfig(**keys)
    assert msgspec.convert({"family": "transformer", **to_dict(cfg)}, TransformerConfig) == cfg
    assert cfg.replace(dropout=0.1).replace(dropout=0.0) == cfg


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": "t5"}, "size 't5' is not one of base, big, t5-small"),
        ({"size": "big", "width": 512}, "drop one"),
        ({"width": 16}, "depth is missing"),
        ({**SMALL, "width": 15}, "width 15 is not a multiple of num_heads 2"),
        ({**SMALL, "width": 15, "head_size": 8}, "needs a width of 4, 6, ..., not 15"),
        ({**SMALL, "decoder_depth": 0}, "decoder_depth 0 is not above 0"),
        ({**SMALL, "mlp_dropout": 1.0}, "mlp_dropout 1.0 is not in"),
        ({**SMALL, "vocab_size": 9, "start_token": 9}, "start_token 9 is no number of a vocab"),
        ({**SMALL, "start_token": -1}, "start_token -1 is no number"),
    ],
)
def test_impossible_configs_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**keys)
