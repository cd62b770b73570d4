"""The published recipes on ImageNet, one row each, as their sources have them.

BV: google-research/big_vision, configs/vit_s16_i1k.py, vit_i1k.py, vit_i21k.py, transfer.py.
Multiply-adds and parameters: those of vit_jax/models_test.py, timm and the papers, or of the usual
formula, N 3 P^2 D + L (4 T D^2 + 2 T D M + 2 T^2 D) + D C.
"""

from math import exp, log, log1p

from tests.configs.fidelity import Rung
from tests.configs.rates import timm_cosine, warmup_cosine

IN1K = 1_281_167
MINUS_MINIVAL = 1_268_355  # 99 % of it


def kernels(path):
    """big_vision's `.*/kernel$`; timm's all but vectors, biases, cls and positions."""
    return path.endswith("/kernel")


def everything(path):
    """What PyTorch's AdamW decays without groups of parameters."""
    return True


ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "mu_dtype": None, "nesterov": False}
ADAM_BF16 = {**ADAM, "mu_dtype": "bfloat16"}
IMAGENET = {"pixel_mean": (123.675, 116.28, 103.53), "pixel_std": (58.395, 57.12, 57.375)}
PLUS_MINUS_ONE = {"pixel_mean": (127.5,), "pixel_std": (127.5,)}
CLASSES = {"num_classes": 1000}

# BV: decode_jpeg_and_inception_crop(224), then flip_lr.
BV_CROP = (
    "inception_crop",
    {"convention": "tf", "area": (0.05, 1.0), "aspect": (0.75, 1.33), "method": "bilinear"},
)
FLIP = ("flip", {"probability": 0.5})
BV_EVAL = (("resize_small", {"crop_fraction": 0.875, "method": "area"}), ("central_crop", {}))
TORCH_CROP = (
    "inception_crop",
    {
        "convention": "torchvision",
        "area": (0.08, 1.0),
        "aspect": (0.75, 1.3333333),
        "method": "bicubic_antialias",
    },
)
# rand-m9-mstd0.5-inc1
TIMM_RANDAUGMENT = (
    "randaugment",
    {"variant": "timm", "num_ops": 2, "magnitude": 9, "magnitude_std": 0.5},
)


def randaug(num_ops, magnitude):
    """BV's randaug(num_ops, magnitude)."""
    return (
        "randaugment",
        {"variant": "big_vision", "num_ops": num_ops, "magnitude": magnitude},
    )


def torch_eval(crop):
    """torchvision's resize and central crop, bicubic."""
    options = {"crop_fraction": crop, "method": "bicubic_antialias", "rounding": "down"}
    return (("resize_small", options), ("central_crop", {}))


# BV vit_i1k.py: sigmoid_xent, init_head_bias -6.9, pool tok, rep_size; wd 1e-4 beside the rate.
AUGREG = {
    "batch": 4096,
    "steps": 92_897,
    "seen": 300 * MINUS_MINIVAL,
    "rate": warmup_cosine(1e-3, 10_000, 92_897),
    "peak": 1e-3,
    "update": "big_vision",
    "options": ADAM_BF16,
    "decay": 1e-4,
    "decayed": kernels,
    "clip": 1.0,
    "task": {"loss": "sigmoid"},
    "loss": 1000 * log1p(exp(-6.9)) + 6.9,
    "model": {"pool": "cls", "cls_position": False, "representation": True, "gelu": "tanh"},
    "data": {**PLUS_MINUS_ONE, "train_split": "train[:99%]", "repeats": 1},
    "train_ops": (BV_CROP, FLIP, randaug(2, 15)),
    "eval_ops": BV_EVAL,
    "mix": {"mixup": 0.5, "per": "batch", "keep_larger": True},
    "examples": MINUS_MINIVAL,
    "filled": CLASSES,
}
# BV vit_s16_i1k.py: softmax_xent, pool gap, sincos2d, rep_size, head zero.
S16 = {
    **AUGREG,
    "params": 22_122_472,
    "batch": 1024,
    "task": {"loss": "softmax"},
    "loss": log(1000),
    "model": {"pool": "gap", "position": "sincos2d", "representation": True, "head_init": "zeros"},
    "train_ops": (BV_CROP, FLIP, randaug(2, 10)),
    "mix": {"mixup": 0.2, "per": "batch", "keep_larger": True},
    "gmac": 4.599,
}
# BV transfer.py with momentum_hp: heavy ball kept in bfloat16, no decay, 448 -> 384.
TRANSFER = {
    "batch": 512,
    "update": "sgd",
    "options": {"momentum": 0.9, "nesterov": False, "accumulator_dtype": "bfloat16"},
    "decayed": kernels,
    "clip": 1.0,
    "model": {"pool": "cls", "representation": False, "head_init": "zeros", "size": "B/32"},
    "eval_ops": (
        ("resize_small", {"crop_fraction": 384 / 448, "method": "area"}),
        ("central_crop", {}),
    ),
    "gmac": 13.04,
}
RESMALL_CROP = (("resize_crop", {"crop_fraction": 384 / 448, "method": "area"}), FLIP)
# facebookresearch/deit: main.py's defaults; 5e-4 x batch / 512, timm's groups for the decay.
DEIT = {
    "batch": 1024,
    "steps": 375_342,
    "seen": 300 * IN1K,
    "rate": timm_cosine(1e-3, 5 * IN1K / 1024, 300 * IN1K / 1024),
    "rate_error": 0.014,
    "peak": 1e-3,
    "update": "adamw",
    "options": ADAM,
    "decay": 0.05,
    "decayed": kernels,
    "smoothing": 0.1,
    "regularisers": {"drop_path": 0.1, "drop_path_growth": "linear"},
    "model": {"pool": "cls", "gelu": "erf", "layer_scale": None, "norm_epsilon": 1e-6},
    "data": {**IMAGENET, "repeats": 3, "train_split": "train"},
    "train_ops": (TORCH_CROP, FLIP, TIMM_RANDAUGMENT),
    "eval_ops": torch_eval(0.875),
    "mix": {"mixup": 0.8, "cutmix": 1.0, "probability": 1.0, "erase": 0.25, "erase_fill": "noise"},
    "examples": IN1K,
    "filled": CLASSES,
    "loss": log(1000) + 0.02**2 * 128 / 2,  # a head of N(0, 0.02^2) on a normalised vector
    "loss_error": 0.05,
}
# facebookresearch/deit README_revenge.md: FusedLAMB (clips at 1), BCE, 3-Augment, jitter 0.3;
# of 400 epochs affjljoo3581/deit3-jax, config/deit3/in1k.
DEIT3 = {
    **DEIT,
    "batch": 2048,
    "update": "lamb",
    "options": {"b1": 0.9, "b2": 0.999, "eps": 1e-8},
    "clip": 1.0,
    "smoothing": 0.0,
    "task": {"loss": "sigmoid_mean", "binary_targets": True},
    "model": {"pool": "cls", "cls_position": False, "gelu": "erf", "layer_scale": 1e-4},
    "train_ops": (
        TORCH_CROP,
        FLIP,
        ("three_augment", {"sigma": (0.1, 2.0), "threshold": 128}),
        ("color_jitter", {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}),
    ),
    "eval_ops": torch_eval(1.0),
    "mix": {"mixup": 0.8, "cutmix": 1.0},
    "loss": log(2) + 0.02**2 * 128 / 8,
    "loss_error": 0.015,
}

RUNGS = {
    "augreg_in1k:B/16": Rung(**AUGREG, params=87_157_480, gmac=17.564),
    "augreg_in1k:S/16": Rung(**AUGREG, params=22_198_120, gmac=4.599),
    "augreg_in21k:B/16": Rung(
        **AUGREG
        | {
            "steps": 1_036_078,
            "seen": 300 * (14_197_122 - 51_200),
            "rate": warmup_cosine(1e-3, 10_000, 1_036_078),
            "loss": 21_843 * log1p(exp(-10)) + 10,
            "loss_error": 2e-3,
            "model": {"pool": "gap", "position": "learned", "representation": False},
            "data": {**PLUS_MINUS_ONE, "train_split": "full[51200:]"},
            "train_ops": (BV_CROP, FLIP, randaug(2, 10)),
            "mix": {"mixup": 0.2, "per": "batch", "keep_larger": True},
            "examples": 14_145_922,
            "filled": {"num_classes": 21_843},
        },
        params=102_594_387,
        gmac=17.49,
    ),
    "finetune:cifar10": Rung(
        **TRANSFER,
        params=87_535_882,
        steps=10_000,
        seen=5_120_000,
        rate=warmup_cosine(0.003, 500, 10_000),
        peak=0.003,
        loss=log(10),
        data={**PLUS_MINUS_ONE, "image_size": 384, "train_split": "train[:98%]"},
        train_ops=RESMALL_CROP,
        filled={"num_classes": 10},
    ),
    "finetune:cifar100": Rung(
        **TRANSFER,
        params=87_605_092,
        steps=10_000,
        seen=5_120_000,
        rate=warmup_cosine(0.01, 500, 10_000),
        peak=0.01,
        loss=log(100),
        data={**PLUS_MINUS_ONE, "image_size": 384, "train_split": "train[:98%]"},
        train_ops=RESMALL_CROP,
        filled={"num_classes": 100},
    ),
    "finetune:in1k": Rung(
        **TRANSFER,
        params=88_297_192,
        steps=20_000,
        seen=10_240_000,
        rate=warmup_cosine(0.03, 500, 20_000),
        peak=0.03,
        loss=log(1000),
        data={**PLUS_MINUS_ONE, "image_size": 384, "train_split": "train[:99%]"},
        train_ops=(BV_CROP, FLIP),
        filled=CLASSES,
    ),
    "s16_in1k:90": Rung(
        **S16
        | {
            "steps": 111_477,
            "seen": 90 * MINUS_MINIVAL,
            "rate": warmup_cosine(1e-3, 10_000, 111_477),
        }
    ),
    "s16_in1k:300": Rung(
        **S16
        | {
            "steps": 371_588,
            "seen": 300 * MINUS_MINIVAL,
            "rate": warmup_cosine(1e-3, 10_000, 371_588),
        }
    ),
    "deit_in1k:S": Rung(**DEIT, params=22_050_664, gmac=4.6),
    "deit_in1k:B": Rung(**DEIT, params=86_567_656, gmac=17.56),
    "deit3_in1k:S,400": Rung(
        **DEIT3
        | {
            "steps": 250_228,
            "seen": 400 * IN1K,
            "rate": warmup_cosine(4e-3, 3128, 250_228, end=1e-5, start=1e-6),
            "rate_error": 1e-3,
            "peak": 4e-3,
            "decay": 0.02,
            "regularisers": {"drop_path": 0.0},
        },
        params=22_059_496,
        gmac=4.6,
    ),
    "deit3_in1k:S,800": Rung(
        **DEIT3
        | {
            "steps": 500_456,
            "seen": 800 * IN1K,
            "rate": timm_cosine(4e-3, 5 * IN1K / 2048, 800 * IN1K / 2048),
            "rate_error": 0.006,
            "peak": 4e-3,
            "decay": 0.05,
            "regularisers": {"drop_path": 0.05, "drop_path_growth": "uniform"},
        },
        params=22_059_496,
        gmac=4.6,
    ),
    "deit3_in1k:B,800": Rung(
        **DEIT3
        | {
            "steps": 500_456,
            "seen": 800 * IN1K,
            "rate": timm_cosine(3e-3, 5 * IN1K / 2048, 800 * IN1K / 2048),
            "rate_error": 0.006,
            "peak": 3e-3,
            "decay": 0.05,
            "regularisers": {"drop_path": 0.2, "drop_path_growth": "uniform"},
            "data": {**IMAGENET, "repeats": 3, "image_size": 192},
        },
        params=86_545_384,
        gmac=12.79,
    ),
    "deit3_in1k_finetune:B": Rung(
        **DEIT
        | {
            "batch": 512,
            "steps": 50_046,
            "seen": 20 * IN1K,
            "rate": timm_cosine(1e-5, 5 * IN1K / 512, 20 * IN1K / 512),
            "rate_error": 1e-5,
            "early": (12_512, 0.1),  # its warm-up starts at a tenth of the peak
            "peak": 1e-5,
            "decay": 0.1,
            "regularisers": {"drop_path": 0.2, "drop_path_growth": "uniform"},
            "model": {"cls_position": False, "layer_scale": 1e-4, "position_resize": "bicubic"},
            "data": {**IMAGENET, "repeats": 1, "image_size": 224},
            "eval_ops": torch_eval(1.0),
            "mix": {"mixup": 0.8, "cutmix": 1.0},
            "loss": log(1000),  # the head comes with the weights
            "loss_error": 1e-3,
        },
        params=86_585_320,
        gmac=17.56,
    ),
    # mlcommons/algorithmic-efficiency: workloads/imagenet_vit and imagenet_resnet, and the run that
    # set the targets, int(0.75 x 186,666) steps.
    "algoperf_vit": Rung(
        params=22_122_472,
        batch=1024,
        steps=139_999,
        seen=139_999 * 1024,
        rate=warmup_cosine(0.0008445074561975979, 6999, 139_999),
        peak=0.0008445074561975979,
        update="nadamw",
        options={
            "b1": 0.8895758153482813,
            "b2": 0.9978504782314613,
            "eps": 1e-8,
            "nesterov": True,
            "mu_dtype": None,
        },
        decay=0.08135402759553023,
        decayed=everything,
        loss=log(1000),
        gmac=4.599,
        model=S16["model"],
        data={**IMAGENET, "train_split": "train", "image_size": 224, "repeats": 1},
        train_ops=(
            (
                "inception_crop",
                {
                    "convention": "tf",
                    "area": (0.08, 1.0),
                    "aspect": (0.75, 1.3333333),
                    "method": "bicubic",
                },
            ),
            FLIP,
            randaug(2, 10),
        ),
        eval_ops=(
            ("resize_small", {"crop_fraction": 0.875, "method": "bicubic"}),
            ("central_crop", {}),
        ),
        mix={"mixup": 0.2, "per": "batch", "keep_larger": False},
        examples=IN1K,
        filled=CLASSES,
    ),
}
