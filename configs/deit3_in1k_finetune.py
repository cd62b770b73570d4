"""DeiT-III, the last 20 epochs at 224: B 83.8, L 84.9, H 85.2 % on ImageNet-1k published.

Source: Touvron 2022 (arXiv 2204.07118); facebookresearch/deit, README_revenge.md, after 800 epochs
  of deit3_in1k at 192 (B, L) or 160 (H); B on 8 GPUs. In JAX, affjljoo3581/deit3-jax: B 83.91, L
  (after 400 epochs) 84.62, H (after 400) 85.12. Not reproduced here.
Command: zoo train --config deit3_in1k_finetune:B --workdir runs/deit3_b_224
  --config.init_from=runs/deit3_b
Argument: B (default), L or H.

The source's least learning rate is its peak, 1e-5: it stays constant after the warm-up. Differs
from the source: one draw of mixup or CutMix for the whole batch, not for each GPU; the rate moves
with every step, there once an epoch, and its warm-up starts from 0, not 1e-6.
"""

from ml_collections import ConfigDict

ARGS = ("B", "L", "H")
SIZES = {"B": ("B/16", 0.2), "L": ("L/16", 0.45), "H": ("H/14", 0.55)}


def get_config(arg="B"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    size, drop_path = SIZES[arg]
    config = ConfigDict()
    config.seed = 0
    config.total = "20 epochs"
    config.save_every = "2500 steps"
    config.init_from = "SET --config.init_from=WORKDIR"

    config.data = ConfigDict()
    config.data.name = "tfds:imagenet2012"
    config.data.eval_splits = {"val": "validation"}
    config.data.batch_size = 512
    config.data.image_size = 224
    config.data.train_ops = [
        {"op": "inception_crop", "convention": "torchvision", "method": "bicubic_antialias"},
        {"op": "flip"},
        {
            "op": "randaugment",
            "variant": "timm",
            "num_ops": 2,
            "magnitude": 9,
            "magnitude_std": 0.5,
        },
    ]
    config.data.eval_ops = [
        {"op": "resize_small", "method": "bicubic_antialias", "rounding": "down"},
        {"op": "central_crop"},
    ]
    config.data.pixel_mean = (123.675, 116.28, 103.53)
    config.data.pixel_std = (58.395, 57.12, 57.375)
    config.data.mix = {"mixup": 0.8, "cutmix": 1.0, "per": "batch"}
    config.data.workers = 16

    config.task = {"label_smoothing": 0.1}

    config.model = ConfigDict()
    config.model.family = "vit"
    config.model.size = size
    config.model.num_classes = 1000
    config.model.pool = "cls"
    config.model.cls_position = False
    config.model.position_resize = "bicubic"
    config.model.layer_scale = 1e-4
    config.model.drop_path = drop_path
    config.model.drop_path_growth = "uniform"
    config.model.gelu = "erf"
    config.model.dtype = "bfloat16"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.lr = 1e-5
    config.optimizer.schedule = "constant"
    config.optimizer.warmup = "5 epochs"
    config.optimizer.weight_decay = 0.1
    return config
