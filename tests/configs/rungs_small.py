"""The published recipes on MNIST, Fashion-MNIST and CIFAR, one row each, as their sources say."""

from math import log

from tests.configs.fidelity import Rung
from tests.configs.rates import compact, scratch_vit, warmup_cosine
from tests.configs.rungs_vision import ADAM, FLIP, PLUS_MINUS_ONE, everything

# s-chh/PyTorch-Scratch-Vision-Transformer-ViT: main.py, solver.py, data_loader.py.
SCRATCH = {
    "params": 210_058,
    "batch": 128,
    "peak": 5e-4,
    "rate_error": 2e-3,
    "early": (4_688, 0.101),
    "update": "adamw",
    "options": ADAM,
    "decay": 1e-3,
    "decayed": everything,
    "regularisers": {"dropout": 0.1},
    "model": {"gelu": "erf", "norm_epsilon": 1e-5, "pool": "cls", "num_heads": 4, "patch_size": 4},
    "data": {**PLUS_MINUS_ONE, "channels": 1, "image_size": 28, "repeats": 1},
    "examples": 60_000,
    "filled": {"num_classes": 10},
    "gmac": 0.011805,
    "loss": log(10),
    "loss_error": 0.01,
}
# SHI-Labs/Compact-Transformers: examples/main.py, src/vit.py. It gives 3.717 M parameters, which
# are without 7 x 3 x 256 biases, and 0.239 GMAC, which are without 7 x 2 x 65^2 x 256 of attention.
COMPACT = {
    "batch": 128,
    "steps": 78_125,
    "seen": 200 * 50_000,
    "rate": compact(5e-4, 200, 390.625),
    "rate_error": 2e-3,
    "early": (1_954, 0.21),
    "peak": 5e-4,
    "update": "adamw",
    "options": ADAM,
    "decay": 3e-2,
    "decayed": everything,
    "smoothing": 0.1,
    "regularisers": {"attention_dropout": 0.1, "drop_path": 0.1, "drop_path_growth": "linear"},
    "model": {"gelu": "erf", "pool": "cls", "depth": 7, "width": 256, "num_heads": 4},
    "train_ops": (("autoaugment_cifar", {}), ("pad_crop", {"pad": 4, "mode": "zero"}), FLIP),
    "examples": 50_000,
    "gmac": 0.2545,
    "loss_error": 0.05,
}
CIFAR10 = {
    "pixel_mean": tuple(255 * x for x in (0.4914, 0.4822, 0.4465)),
    "pixel_std": tuple(255 * x for x in (0.2470, 0.2435, 0.2616)),
}
# aanna0701/SPT_LSA_ViT: main.py, models/vit.py, create_model.py.
SPT = {
    "batch": 128,
    "steps": 39_062,
    "seen": 100 * 50_000,
    "rate": warmup_cosine(1e-3, 3906.25, 39_062.5),
    "rate_error": 1e-3,
    "peak": 1e-3,
    "update": "adamw",
    "options": ADAM,
    "decay": 0.05,
    "decayed": everything,
    "smoothing": 0.1,
    "regularisers": {"drop_path": 0.1, "drop_path_growth": "uniform"},
    "model": {"depth": 9, "width": 192, "num_heads": 12, "mlp_dim": 384, "patch_size": 4},
    "train_ops": (FLIP, ("pad_crop", {"pad": 4, "mode": "zero"}), ("autoaugment_cifar", {})),
    "mix": {
        "mixup": 1.0,
        "cutmix": 1.0,
        "probability": 0.5,
        "erase": 0.25,
        "erase_area": (0.02, 0.4),
        "erase_fill": "zero",
    },
    "examples": 50_000,
    "gmac": 0.1877,
}
RUNGS = {
    "mnist_vit": Rung(
        **SCRATCH,
        steps=46_875,
        seen=6_000_000,
        rate=scratch_vit(5e-4, 100, 468.75),
        train_ops=(("pad_crop", {"pad": 2, "mode": "zero"}),),
    ),
    "fashion_mnist_vit": Rung(
        **SCRATCH,
        steps=93_750,
        seen=12_000_000,
        rate=scratch_vit(5e-4, 200, 468.75),
        train_ops=(("pad_crop", {"pad": 2, "mode": "zero"}), FLIP),
    ),
    "cifar_vit_lite:cifar10": Rung(
        **COMPACT,
        params=3_722_250,
        loss=log(10) + 0.02**2 * 128 / 2,
        data=CIFAR10,
        filled={"num_classes": 10},
    ),
    "cifar_vit_lite:cifar100": Rung(
        **COMPACT,
        params=3_745_380,
        loss=log(100) + 0.02**2 * 128 / 2,
        data={"pixel_mean": tuple(255 * x for x in (0.5071, 0.4867, 0.4408))},
        filled={"num_classes": 100},
    ),
    "cifar_vit:cifar10": Rung(
        **SPT,
        params=2_697_610,
        loss=log(10),
        data={**CIFAR10, "repeats": 3},
        filled={"num_classes": 10},
    ),
    "cifar_vit:cifar100": Rung(
        **SPT, params=2_714_980, loss=log(100), data={"repeats": 3}, filled={"num_classes": 100}
    ),
}
