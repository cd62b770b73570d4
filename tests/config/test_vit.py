"""Sizes and closed formulas of the ViT, pinned."""

import pytest

from zoo.config.vit import SIZES, ViTConfig, macs, num_params

# "size/patch": parameters with cls + learned positions (vision_transformer's convention), with
# gap + sincos2d, the latter with a representation layer, and with map + learned positions; all
# at 224 pixels, 3 channels, 1,000 classes. Ti to H in the first column equal the counts that
# vision_transformer's own tests pin; the rest follows from the published sizes.
PARAMS = {
    "mu/16": (76_712, 70_376, 71_432, 89_320),
    "Ti/16": (5_717_416, 5_679_400, 5_716_456, 6_161_704),
    "S/32": (22_878_952, 22_859_368, 23_007_208, 24_652_264),
    "S/16": (22_050_664, 21_974_632, 22_122_472, 23_823_976),
    "M/16": (38_837_736, 38_736_360, 38_999_016, 41_988_584),
    "B/32": (88_224_232, 88_185_064, 88_775_656, 95_309_800),
    "B/16": (86_567_656, 86_415_592, 87_006_184, 93_653_224),
    "B/8": (86_576_872, 85_973_224, 86_563_816, 93_662_440),
    "L/32": (306_535_400, 306_483_176, 307_532_776, 319_128_552),
    "L/16": (304_326_632, 304_123_880, 305_173_480, 316_919_784),
    "L/14": (304_203_752, 303_939_560, 304_989_160, 316_796_904),
    "So400m/14": (413_597_656, 413_300_440, 414_628_696, 428_833_704),
    "H/14": (632_045_800, 631_715_560, 633_355_240, 651_719_400),
    "g/14": (1_012_611_432, 1_012_248_168, 1_014_232_040, 1_037_857_384),
    "g-opt/16": (1_136_286_184, 1_135_982_056, 1_138_342_888, 1_164_613_096),
    "G/14": (1_844_440_680, 1_844_011_368, 1_846_781_928, 1_882_797_416),
    "G-opt/16": (1_665_026_536, 1_664_722_408, 1_667_083_240, 1_699_646_952),
    "e/14": (3_807_214_312, 3_806_751_976, 3_809_965_032, 3_875_135_720),
}
CONVENTIONS = (
    {"pool": "cls", "position": "learned"},
    {"pool": "gap", "position": "sincos2d"},
    {"pool": "gap", "position": "sincos2d", "representation": True},
    {"pool": "map", "position": "learned"},
)

# Multiply-adds of one image, in 10^9, with a cls token: as published to the digits given.
GMACS = {
    ("mu/16", 224): 0.010,
    ("Ti/16", 224): 1.254,
    ("S/32", 224): 1.143,
    ("S/16", 224): 4.599,
    ("S/16", 384): 15.49,
    ("M/16", 224): 7.991,
    ("B/32", 224): 4.409,
    ("B/16", 224): 17.564,
    ("B/16", 384): 55.48,
    ("B/8", 224): 78.148,
    ("L/32", 224): 15.378,
    ("L/16", 224): 61.555,
    ("L/16", 384): 191.07,
    ("L/14", 224): 81.013,
    ("So400m/14", 224): 109.93,
    ("So400m/14", 384): 333.7,
    ("H/14", 224): 167.295,
    ("g/14", 224): 267.031,
    ("g-opt/16", 224): 228.097,
    ("G/14", 224): 483.748,
    ("G-opt/16", 224): 333.161,
    ("e/14", 224): 990.677,
}

FILLED = {"num_classes": 1000, "image_size": 224, "channels": 3}
SMALL = {"width": 16, "depth": 2, "mlp_dim": 32, "num_heads": 2, "patch_size": 4, **FILLED}


@pytest.mark.parametrize("size", PARAMS)
def test_parameter_counts_are_the_published_ones(size):
    counts = tuple(num_params(ViTConfig(size=size, **FILLED, **c)) for c in CONVENTIONS)
    assert counts == PARAMS[size]


def test_every_size_is_pinned():
    assert {size.partition("/")[0] for size in PARAMS} == set(SIZES)
    assert {size.partition("/")[0] for size, _ in GMACS} == set(SIZES)


@pytest.mark.parametrize(("size", "pixels"), GMACS)
def test_multiply_adds_are_the_published_ones(size, pixels):
    cfg = ViTConfig(size=size, **{**FILLED, "image_size": pixels})
    published = GMACS[size, pixels]
    digits = len(str(published).partition(".")[2])
    assert round(macs(cfg) / 1e9, digits) == published


def test_size_names_the_five_numbers():
    cfg = ViTConfig(size="So400m/14")
    numbers = (cfg.width, cfg.depth, cfg.mlp_dim, cfg.num_heads, cfg.patch_size)
    assert numbers == (1152, 27, 4304, 16, 14)
    assert ViTConfig(size="S/16", width=384).replace(depth=12) == ViTConfig(size="S/16")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": "XXL/16"}, "SIZE one of mu, Ti"),
        ({"size": "S16"}, "is not SIZE/PATCH"),
        ({"size": "S/16", "width": 512}, "drop one"),
        ({"width": 16}, "depth is missing"),
        ({**SMALL, "num_heads": 3}, "not a multiple of num_heads 3"),
        ({**SMALL, "width": 18, "position": "sincos2d"}, "not 18"),
        ({**SMALL, "width": 12, "position": "rotary"}, "= 6"),
        ({**SMALL, "norm_after_pool": True}, "goes with pool 'gap', not 'cls'"),
        ({**SMALL, "distilled": True, "pool": "gap"}, "distilled goes with pool 'cls', not 'gap'"),
        ({**SMALL, "distilled": True, "representation": True}, "and without representation"),
        ({**SMALL, "pool": "cls_gap", "representation": True}, "not 'cls_gap'"),
        ({**SMALL, "dropout": 1.0}, "dropout 1.0 is not in"),
        ({**SMALL, "drop_path": -0.1}, "drop_path -0.1 is not in"),
        ({**SMALL, "image_size": (8, 3)}, "smaller than patch_size 4"),
    ],
)
def test_impossible_configs_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        ViTConfig(**keys)


def test_pixels_beyond_the_last_patch_are_cut_off():
    assert ViTConfig(**{**SMALL, "image_size": (15, 20)}).patches == (3, 5)
    assert ViTConfig(size="So400m/14", **{**FILLED, "image_size": 384}).patches == (27, 27)


def test_positions_are_laid_out_on_position_grid():
    cfg = ViTConfig(**SMALL)
    wider = cfg.replace(position_grid=(100, 100))
    assert num_params(wider) - num_params(cfg) == (100 * 100 - 56 * 56) * 16
    assert macs(wider) == macs(cfg)
