"""Plain ViT (2.7 M), strong recipe, CIFAR from scratch: 93.58 % (10), 73.81 % (100) published.

Source: Lee 2021 (arXiv 2112.13492), the plain ViT row of its table on small data sets, 100 epochs;
  recipe from aanna0701/SPT_LSA_ViT (main.py, models/vit.py). Hardware and time not given. Not
  reproduced here.
Command: zoo train --config cifar_vit:cifar10 --workdir runs/cifar_vit
Argument: cifar10 (default) or cifar100. Data: the files in ~/zoo_data/cifar10 or cifar100.

Differs from the source: kernels are uniform, positions N(0, 1/192) and the head zero at the start,
where they are normal, N(0, 1) and normal; q, k and v have no bias there; an erased box is the mean
pixel, where the source's fill (the mean of 0..1, after normalising) is a light grey; its least
learning rate is not in the published files, here it is 0. Repeated augmentation shows each epoch a
third of the images, three times; whether the source's sampler takes 390 or 1,170 steps an epoch
cannot be seen.
"""

from ml_collections import ConfigDict

ARGS = ("cifar10", "cifar100")
MEAN_STD = {  # of pixels in 0..1
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def get_config(arg="cifar10"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    mean, std = MEAN_STD[arg]
    config = ConfigDict()
    config.seed = 0
    config.total = "100 epochs"
    config.save_every = "5 epochs"

    config.data = ConfigDict()
    config.data.name = arg
    config.data.batch_size = 128
    config.data.repeats = 3
    config.data.image_size = 32
    config.data.train_ops = [
        {"op": "flip"},
        {"op": "pad_crop", "pad": 4},
        {"op": "autoaugment_cifar"},
    ]
    config.data.pixel_mean = [255 * m for m in mean]
    config.data.pixel_std = [255 * s for s in std]
    config.data.mix = ConfigDict()
    config.data.mix.mixup = 1.0
    config.data.mix.cutmix = 1.0
    config.data.mix.probability = 0.5
    config.data.mix.erase = 0.25
    config.data.mix.erase_area = (0.02, 0.4)
    config.data.mix.erase_fill = "zero"

    config.task = ConfigDict()
    config.task.label_smoothing = 0.1

    config.model = ConfigDict()
    config.model.family = "vit"
    config.model.width = 192
    config.model.depth = 9
    config.model.mlp_dim = 384
    config.model.num_heads = 12
    config.model.patch_size = 4
    config.model.pool = "cls"
    config.model.drop_path = 0.1
    config.model.drop_path_growth = "uniform"
    config.model.gelu = "erf"
    config.model.norm_epsilon = 1e-5

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.lr = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = "10 epochs"
    config.optimizer.weight_decay = 0.05
    config.optimizer.decay_rules = [(".*", 1.0)]  # PyTorch's AdamW decays every parameter
    return config
