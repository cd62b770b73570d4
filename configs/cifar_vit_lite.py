"""ViT-Lite-7/4 (3.7 M) on CIFAR from scratch, 200 epochs: 91.38 % (10), 69.75 % (100) published.

Source: Hassani 2021 (arXiv 2104.05704), SHI-Labs/Compact-Transformers: README, examples/main.py,
  src/vit.py; the best epoch on the test set; hardware and time not given.
Command: zoo train --config cifar_vit_lite:cifar10 --workdir runs/vit_lite
Here: the 200 epochs are not reproduced here. CIFAR-10, 4 epochs of a model of 0.46 M with Muon:
  73.6 % (seed 0, 22 CPU minutes; the command is C in docs/benchmarks.md).
Argument: cifar10 (default) or cifar100. Data: the files in ~/zoo_data/cifar10 or cifar100.

Differs from the source, in order of weight: it normalises the stream itself before each MLP, here
only the MLP's input; its positions start with a standard deviation of 0.2, not 0.02; q, k and v
have no bias; warm-up goes 1/5, 1/4, 1/3, 1/2, 1 of the peak by epoch; its AutoAugment has
DeepVoltaire's strengths.
"""

from ml_collections import ConfigDict

ARGS = ("cifar10", "cifar100")
MEAN_STD = {  # of pixels in 0..1
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def get_config(arg="cifar10"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    mean, std = MEAN_STD[arg]
    config = ConfigDict()
    config.seed = 0
    config.total = "200 epochs"
    config.save_every = "5 epochs"

    config.data = ConfigDict()
    config.data.name = arg
    config.data.batch_size = 128
    config.data.image_size = 32
    config.data.train_ops = [
        {"op": "autoaugment_cifar"},
        {"op": "pad_crop", "pad": 4},
        {"op": "flip"},
    ]
    config.data.pixel_mean = [255 * m for m in mean]
    config.data.pixel_std = [255 * s for s in std]

    config.task = ConfigDict()
    config.task.label_smoothing = 0.1

    config.model = ConfigDict()
    config.model.family = "vit"
    config.model.width = 256
    config.model.depth = 7
    config.model.mlp_dim = 512
    config.model.num_heads = 4
    config.model.patch_size = 4
    config.model.pool = "cls"
    config.model.attention_dropout = 0.1
    config.model.drop_path = 0.1
    config.model.gelu = "erf"
    config.model.norm_epsilon = 1e-5
    config.model.init = "trunc_normal"
    config.model.head_init = "trunc_normal"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.lr = 5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = "5 epochs"
    config.optimizer.weight_decay = 3e-2
    config.optimizer.decay_rules = [(".*", 1.0)]  # PyTorch's AdamW decays every parameter
    return config
