"""Every key that a config may hold, with its type, its default and its meaning.

A config file builds an `ml_collections.ConfigDict`; `zoo.config.load_config` turns it into the
frozen `Config` below and refuses whatever does not fit. Durations are text with a unit:
`"500 steps"`, `"90 epochs"`, `"1e6 examples"`, `"2.5e9 tokens"` (`zoo.config.duration`).
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from zoo.config.base import Section
from zoo.config.vit import ViTConfig

# An image operation: {"op": NAME, **keyword arguments of the function of that name in data/images}.
ImageOp = dict[str, Any]
# An ordered table (path pattern, value): the first pattern that matches a parameter's path wins.
Rules = tuple[tuple[str, float], ...]
Count = Annotated[int, Meta(ge=1)]
Amount = Annotated[float, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class MixConfig(Section, frozen=True):
    """Batch augmentations that run on the device, after pixels are normalised."""

    mixup: Amount = 0.0  # Beta(a, a) of mixup (Zhang 2018); 0 is off
    cutmix: Amount = 0.0  # Beta(a, a) of CutMix (Yun 2019); with both on, each has half the draws
    per: Literal["batch", "example"] = "batch"  # one lambda and one choice for all, or for each
    probability: Probability = 1.0  # share of batches (or examples) that are mixed at all
    # big_vision's mixup keeps the larger part of an image's own: lambda := max(lambda, 1 - lambda)
    keep_larger: bool = False
    erase: Probability = 0.0  # probability of random erasing (Zhong 2017) an image
    erase_area: tuple[float, float] = (0.02, 1 / 3)
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)
    erase_fill: Literal["zero", "noise"] = "noise"  # N(0, 1) a pixel, or 0, after normalising


class DataConfig(Section, frozen=True):
    """Where examples come from, and what happens to them on the host."""

    name: str = "digits"  # digits, mnist, fashion_mnist, cifar10, cifar100, folder, tfds:NAME
    dir: str | None = None  # the files; default $ZOO_DATA_DIR/NAME, else ~/zoo_data/NAME
    train_split: str = "train"  # a split, or a slice as in TFDS: "train[:99%]", "train[1000:]"
    eval_splits: dict[str, str] = field(default_factory=lambda: {"test": "test"})  # name -> split
    batch_size: Count = 128  # global: over all devices and hosts, before accumulation splits it
    eval_batch_size: Count | None = None  # global; default batch_size
    image_size: int | tuple[int, int] = 224  # pixels: a square's side, or (rows, cols)
    channels: Literal[1, 3] = 3
    train_ops: tuple[ImageOp, ...] = ()
    eval_ops: tuple[ImageOp, ...] = ()
    pixel_mean: tuple[float, ...] = (127.5,)  # of 0..255: one number, or one a channel
    pixel_std: tuple[float, ...] = (127.5,)
    mix: MixConfig = MixConfig()
    repeats: int = 1  # repeated augmentation (Hoffer 2020): neighbours in a batch share an image
    on_bad_image: Literal["error", "skip"] = "error"
    workers: int = 0  # processes that decode; 0 means threads in this one
    threads: int = 4  # threads that decode, in this process or in each worker
    prefetch: int = 2  # batches made ahead

    def __post_init__(self):
        for name in ("pixel_mean", "pixel_std"):
            count = len(getattr(self, name))
            if count not in (1, self.channels):
                raise ValueError(f"{name} has {count} numbers: give 1 or channels, {self.channels}")


class TaskConfig(Section, frozen=True):
    """How a batch becomes a loss."""

    # "sigmoid" sums over the classes (big_vision), "sigmoid_mean" averages (PyTorch, DeiT-III).
    loss: Literal["softmax", "sigmoid", "sigmoid_mean"] = "softmax"
    label_smoothing: Probability = 0.0
    binary_targets: bool = False  # each class with any share of a mixed target counts fully


class OptimizerConfig(Section, frozen=True):
    """An optax optimizer, its schedule, and which parameter gets what."""

    name: Literal["adamw", "adafactor", "lamb", "lion", "muon", "sgd"] = "adamw"
    # Keyword arguments of the optax function, such as b2 or mu_dtype.
    options: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3  # the peak
    schedule: Literal["constant", "linear", "cosine", "rsqrt", "wsd"] = "cosine"
    warmup: str = "0 steps"  # linear, from 0
    cooldown: str = "0 steps"  # linear, to final_lr, at the end of constant, rsqrt and wsd
    final_lr: float = 0.0  # absolute, at the last step
    # Decoupled and multiplied by the learning rate, as in optax and PyTorch: big_vision's 1e-4
    # (not multiplied) is 0.1 here at lr 1e-3.
    weight_decay: float = 0.0
    decay_rules: Rules = ((r".*/kernel", 1.0), (r".*", 0.0))  # factor on weight_decay
    lr_rules: Rules = ((r".*", 1.0),)  # factor on the learning rate
    freeze: tuple[str, ...] = ()  # patterns of parameters that stay as they are
    layer_decay: float = 1.0  # learning rate x layer_decay ^ (layers above), as in BEiT and MAE
    clip_norm: float | None = None  # of the global gradient


class MeshConfig(Section, frozen=True):
    """Devices along each mesh axis; one may be -1, which takes what is left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


class Config(Section, frozen=True):
    """One experiment: `zoo train --config FILE` needs nothing else."""

    model: ViTConfig
    data: DataConfig
    task: TaskConfig = TaskConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = 0
    total: str = "10 epochs"  # how long to train
    accumulate: Count = 1  # microbatches that one optimizer step adds up
    ema_decay: Annotated[float, Meta(ge=0, lt=1)] | None = (
        None  # evaluation and prediction then use the averaged parameters
    )
    init_from: str | None = None  # a workdir or checkpoint whose parameters the run starts from
    mesh: MeshConfig = MeshConfig()
    mode: Literal["jit", "pmap"] = "jit"
    max_in_flight: Annotated[int, Meta(ge=0)] = (
        2  # steps that the host may run ahead of the devices
    )
    log_every: str = "50 steps"
    eval_every: str = "1 epochs"
    save_every: str = "1 epochs"
    keep_last: Count = 2  # checkpoints kept besides the best one
    best_metric: str | None = None  # such as "test/loss"; default: accuracy of the first split
    profile_at: int | None = None  # first step of a profiler window
    profile_steps: Count = 5
