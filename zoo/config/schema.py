"""Every key that a config may hold, with its type, its default and its meaning.

A config file builds an `ml_collections.ConfigDict`; `zoo.config.load_config` turns it into the
frozen `Config` below and refuses whatever does not fit. Durations are text with a unit:
`"500 steps"`, `"90 epochs"`, `"1e6 examples"`, `"2.5e9 tokens"` (`zoo.config.duration`).
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from zoo.config.base import Section
from zoo.config.bert import BertConfig
from zoo.config.data import Amount, AnyData, Count, Probability
from zoo.config.decoder import DecoderConfig
from zoo.config.transformer import TransformerConfig
from zoo.config.vit import ViTConfig

# An ordered table (path pattern, value): the first pattern that matches a parameter's path wins.
Rules = tuple[tuple[str, float], ...]


class TaskConfig(Section, frozen=True):
    """How a batch becomes a loss."""

    # "sigmoid" sums over the classes (big_vision), "sigmoid_mean" averages (PyTorch, DeiT-III).
    loss: Literal["softmax", "sigmoid", "sigmoid_mean"] = "softmax"
    label_smoothing: Probability = 0.0
    z_loss: Amount = 0.0  # of token losses: factor on log(Z)^2; PaLM and T5 have 1e-4
    binary_targets: bool = False  # each class with any share of a mixed target counts fully


class OptimizerConfig(Section, frozen=True):
    """An optax optimizer, its schedule, and which parameter gets what."""

    name: Literal["adamw", "adafactor", "bert_adamw", "lamb", "lion", "muon", "sgd"] = "adamw"
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

    slices: int = 1  # copies of the rest, joined by the slow network between TPU slices
    data: int = -1  # examples
    fsdp: int = 1  # examples, and each parameter along the model's width
    sequence: int = 1  # the tokens of an example; it must divide them
    tensor: int = 1  # heads, the MLP's hidden width, the vocabulary


class Config(Section, frozen=True):
    """One experiment: `zoo train --config FILE` needs nothing else."""

    model: ViTConfig | BertConfig | DecoderConfig | TransformerConfig
    data: AnyData
    task: TaskConfig = TaskConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    total: str = "10 epochs"  # how long to train
    accumulate: Count = 1  # microbatches that one optimizer step adds up
    ema_decay: Annotated[float, Meta(ge=0, lt=1)] | None = (
        None  # evaluation and prediction then use the averaged parameters
    )
    # A workdir, checkpoint or published weights (docs/pretrained.md) that the run starts from.
    init_from: str | None = None
    mesh: MeshConfig = MeshConfig()
    mode: Literal["jit", "pmap"] = "jit"
    max_in_flight: Annotated[int, Meta(ge=0)] = (
        2  # steps that the host may run ahead of the devices
    )
    log_every: str = "50 steps"
    eval_every: str = "1 epochs"
    save_every: str = "1 epochs"
    # Without a step for so long, or ten times that where it compiles, evaluates or saves, a run is
    # hanging: it ends, with the stack traces of all threads.
    hang_minutes: Annotated[float, Meta(gt=0)] = 10.0
    keep_last: Count = 2  # checkpoints kept besides the best one
    best_metric: str | None = None  # such as "test/loss"; default: accuracy of the first split
    profile_at: int | None = None  # first step of a profiler window
    profile_steps: Count = 5
