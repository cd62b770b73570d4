"""DeiT (without distillation) on ImageNet-1k, 300 epochs: Ti 72.2, S 79.9, B 81.8 % published.

Source: Touvron 2020 (arXiv 2012.12877); facebookresearch/deit, README_deit.md and main.py's
  defaults; S and Ti on 4 GPUs, B on 2 nodes of 8. In JAX, affjljoo3581/deit3-jax on TPU v4-64:
  73.1 (2h40), 79.68 (2h43), 81.46 (4h40), the best epoch each. Not reproduced here.
Command: zoo train --config deit_in1k:S --workdir runs/deit_s
Argument: Ti, S (default) or B.

Differs from the source: one draw of mixup or CutMix for the whole batch, where each GPU makes its
own; the rate moves with every step, there once an epoch; its warm-up starts from 0, not 1e-6, and
its cosine at the end of that, not at step 0 (up to 1.4 % of the peak). The source also keeps an
average of the weights (decay 0.99996) and reports the weights themselves. deit3-jax has stochastic
depth 0 (Ti, S) and 0.05 (B).
With repeated augmentation 300 epochs are 375,342 steps on 100 passes over distinct images, as in
the source.
"""

from ml_collections import ConfigDict

ARGS = ("Ti", "S", "B")


def get_config(arg="S"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    config = ConfigDict()
    config.seed = 0
    config.total = "300 epochs"
    config.save_every = "2500 steps"

    config.data = ConfigDict()
    config.data.name = "tfds:imagenet2012"
    config.data.eval_splits = {"val": "validation"}
    config.data.batch_size = 1024
    config.data.repeats = 3
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
        {
            "op": "resize_small",
            "crop_fraction": 0.875,
            "method": "bicubic_antialias",
            "rounding": "down",
        },
        {"op": "central_crop"},
    ]
    config.data.pixel_mean = (123.675, 116.28, 103.53)
    config.data.pixel_std = (58.395, 57.12, 57.375)
    config.data.mix = {"mixup": 0.8, "cutmix": 1.0, "per": "batch", "erase": 0.25}
    config.data.workers = 16

    config.task = {"label_smoothing": 0.1}

    config.model = ConfigDict()
    config.model.family = "vit"
    config.model.size = f"{arg}/16"
    config.model.num_classes = 1000
    config.model.pool = "cls"
    config.model.drop_path = 0.1
    config.model.gelu = "erf"
    config.model.init = "trunc_normal"
    config.model.head_init = "trunc_normal"
    config.model.dtype = "bfloat16"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.lr = 1e-3  # 5e-4 x 1024 / 512
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = "5 epochs"
    config.optimizer.final_lr = 1e-5
    config.optimizer.weight_decay = 0.05
    return config
