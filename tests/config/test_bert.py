"""Sizes and closed formulas of BERT, pinned."""

import pytest

from zoo.config.bert import SIZES, BertConfig, macs, num_params

# size: parameters of the encoder, with the pooler, and with both heads of pre-training: uncased,
# 512 positions, 2 types. From the published dimensions; the papers round base and large to 110M
# and 340M, Turc 2019 (arXiv 1908.08962) the others to 4.4M, 11.3M, 29.1M and 41.7M.
PARAMS = {
    "tiny": (4_369_408, 4_385_920, 4_433_468),
    "mini": (11_104_768, 11_170_560, 11_267_900),
    "small": (28_500_992, 28_763_648, 29_058_876),
    "medium": (41_110_528, 41_373_184, 41_668_412),
    "base": (108_891_648, 109_482_240, 110_106_428),
    "large": (334_092_288, 335_141_888, 336_226_108),
}
UNCASED, CASED = 30522, 28996
SMALL = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 2, "vocab_size": 30}


def counts(size: str, vocab_size: int = UNCASED) -> tuple[int, int, int]:
    bert = BertConfig(size=size, vocab_size=vocab_size)
    classifier = bert.replace(head="classification", num_classes=3)
    with_pooler = num_params(classifier) - 3 * (bert.width + 1)
    return num_params(bert.replace(head="none")), with_pooler, num_params(bert)


@pytest.mark.parametrize("size", SIZES)
def test_parameter_counts_are_the_published_ones(size):
    assert counts(size) == PARAMS[size]


def test_cased_models():
    assert counts("base", CASED)[1] == 108_310_272
    assert counts("large", CASED)[1] == 333_579_264


def test_roberta_base_has_the_published_number_of_parameters():
    """As Hugging Face counts it, 124,697,433, where two more rows of positions are never used."""
    roberta = BertConfig(size="base", vocab_size=50265, num_types=1, head="masked_lm")
    assert num_params(roberta) == 124_697_433 - 2 * 768


def test_multiply_adds_grow_with_what_is_computed():
    bert = BertConfig(size="base", vocab_size=UNCASED)
    # By hand: 85e6 of the blocks' kernels a token, and the scores and the mean of values.
    blocks = 12 * (128 * (4 * 768 * 768 + 2 * 768 * 3072) + 2 * 128 * 128 * 768)
    assert macs(bert.replace(head="none"), 128) == blocks == 11_173_625_856
    masked = 20 * (768 * 768 + 768 * UNCASED)
    assert macs(bert.replace(head="masked_lm"), 128, 20) == blocks + masked
    assert macs(bert, 128, 20) == blocks + masked + 768 * 768 + 2 * 768
    tags = bert.replace(head="token_classification", num_classes=9)
    assert macs(tags, 128) == blocks + 128 * 768 * 9


def test_size_names_the_four_numbers():
    cfg = BertConfig(size="large")
    assert (cfg.width, cfg.depth, cfg.mlp_dim, cfg.num_heads) == (1024, 24, 4096, 16)
    assert BertConfig(size="base", width=768).replace(depth=12) == BertConfig(size="base")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": "huge"}, "'huge' is not one of tiny, mini"),
        ({"size": "base", "width": 512}, "drop one"),
        ({"width": 16}, "depth is missing"),
        ({**SMALL, "num_heads": 3}, "not a multiple of num_heads 3"),
        ({**SMALL, "max_length": 0}, "max_length 0 is less than 1"),
        ({**SMALL, "num_types": -1}, "num_types -1 is less than 0"),
        ({**SMALL, "vocab_size": 0}, "vocab_size 0 is less than 1"),
        ({**SMALL, "head": "classification", "num_classes": 0}, "num_classes 0 is less than 1"),
        ({**SMALL, "num_classes": 2}, "num_classes 2: head 'pretraining' has no classes"),
        ({**SMALL, "dropout": 1.0}, "dropout 1.0 is not in"),
        ({**SMALL, "attention_dropout": -0.1}, "attention_dropout -0.1 is not in"),
    ],
)
def test_impossible_configs_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        BertConfig(**keys)
