"""Checks of a config against what its source says, which a `Rung` holds, typed by hand.

Each takes (config, rung) and raises an AssertionError that names what differs. None of them reads
an expected number from the config; what a config leaves to its data (vocabulary, classes, the size
of an epoch) is the rung's too.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.configs.small import DROPOUTS, fill, first_loss, optimizer_of, shapes, shrink, step_flops
from tests.configs.updates import UPDATES
from zoo.config.data import MixConfig
from zoo.config.duration import Clock
from zoo.config.load import parse_config, to_dict
from zoo.config.sizes import row_tokens
from zoo.data.images import OPS
from zoo.training.optimizer import bind_options, describe_optimizer
from zoo.training.schedules import make_schedule

Op = tuple[str, dict[str, Any]]  # a name of zoo.data.images.OPS, and all its options that matter


@dataclass(frozen=True)
class Rung:
    """A published recipe, in its source's words and units; where those differ from Zoo's it says.

    `decay` is the number that the source gives. It is multiplied by the learning rate in all of
    them but big_vision's, whose `update` is "big_vision": there it stands beside the rate.
    """

    params: int
    batch: int  # rows of the global batch
    steps: int  # optimizer steps of the whole run
    seen: float  # examples in all, or tokens in all (padding too) where `tokens` says so
    rate: Callable[[np.ndarray], np.ndarray]  # updates made -> learning rate
    peak: float
    update: str  # of UPDATES: the published formula
    options: dict[str, Any]  # of the optimizer
    decayed: Callable[[str], bool]  # by path: what the weight decay is on
    loss: float  # at the start, of the shrunk model, in closed form
    gmac: float  # 1e9 multiply-adds of one row, forward, as published or by the usual formula
    decay: float = 0.0
    clip: float | None = None  # of the global gradient norm
    rate_error: float = 1e-5  # what the config's docstring owns up to, as a share of the peak
    early: tuple[int, float] = (0, 0.0)  # before this step, where it warms up, it is that instead
    loss_error: float = 1e-3  # of sampling, where the head does not start at zero
    smoothing: float = 0.0
    ema: float | None = None
    regularisers: dict[str, Any] = field(default_factory=dict)  # dropouts and stochastic depth
    model: dict[str, Any] = field(default_factory=dict)  # other keys of the model
    data: dict[str, Any] = field(default_factory=dict)  # other keys of the data
    task: dict[str, Any] = field(default_factory=dict)  # loss, z_loss, binary_targets
    train_ops: tuple[Op, ...] | None = None  # None: no images
    eval_ops: tuple[Op, ...] = ()
    mix: dict[str, Any] = field(default_factory=dict)
    examples: int = 10**6  # of the training split
    tokens: bool = False  # `seen` counts tokens
    seen_error: float = 1e-3  # as with rate_error
    filled: dict[str, Any] = field(default_factory=dict)  # of the model, by the data


def change(config, key, value):
    """The config with one dotted key set; an index steps into a list."""
    tree = to_dict(config)
    *parents, last = key.split(".")
    node = tree
    for name in parents:
        node = node[int(name)] if isinstance(node, list) else node[name]
    node[int(last) if isinstance(node, list) else last] = value
    if key.startswith("model.") and tree["model"].get("size"):
        tree["model"]["size"] = None  # it names the dimensions, which may be what is changed
    return parse_config(tree)


def same(name, found, expected, rtol=1e-6):
    """Numbers equal up to rounding, anything else equal."""
    if isinstance(expected, bool) or not isinstance(expected, int | float):
        equal = _plain(found) == _plain(expected)
    else:
        equal = isinstance(found, int | float) and np.isclose(found, expected, rtol=rtol, atol=0)
    assert equal, f"{name} is {found!r}, its source has {expected!r}"


def _plain(value):
    """Tuples as lists, dtypes as names."""
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    return getattr(value, "name", value)


def check_size(config, rung):
    """The number of parameters of the model itself, and options that do not change it."""
    count = sum(leaf.size for leaf in shapes(fill(config, rung)).values())
    assert count == rung.params, f"{count:,} parameters, its source has {rung.params:,}"
    for name, expected in rung.model.items():
        same(f"model.{name}", getattr(config.model, name), expected)


def check_length(config, rung):
    """The batch, the number of steps and what is seen in them."""
    same("data.batch_size", config.data.batch_size, rung.batch)
    clock, tokens = _clock(config, rung)
    steps = clock.steps(config.total)
    assert steps == rung.steps, f"{steps:,} steps, its source has {rung.steps:,}"
    seen = steps * (tokens * rung.batch if rung.tokens else config.data.batch_size)
    same("tokens seen" if rung.tokens else "examples seen", seen, rung.seen, rtol=rung.seen_error)
    for name, expected in rung.data.items():
        same(f"data.{name}", getattr(config.data, name), expected)


def check_rate(config, rung):
    """The learning rate at ten steps, in the warm-up and after it."""
    clock, _ = _clock(config, rung)
    cfg = config.optimizer
    schedule = make_schedule(
        cfg,
        total_steps=clock.steps(config.total),
        warmup_steps=clock.steps(cfg.warmup),
        cooldown_steps=clock.steps(cfg.cooldown),
    )
    # At beginnings of epochs, where a source moves its rate once an epoch.
    shares = (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1)
    steps = np.ceil(rung.steps * np.array(shares)).astype(int)
    found = np.asarray(jnp.broadcast_to(schedule(jnp.asarray(steps)), steps.shape))
    for step, ours, theirs in zip(steps, found, rung.rate(steps), strict=True):
        error = rung.early[1] if step < rung.early[0] else rung.rate_error
        assert abs(ours - theirs) <= error * rung.peak, (
            f"learning rate at step {step:,} is {ours:.4g}, its source has {theirs:.4g}"
        )
    same("optimizer.lr", cfg.lr, rung.peak, rtol=1e-4)


def check_optimizer(config, rung):
    """Its name, its numbers, and the norm that gradients are clipped to."""
    same("optimizer.name", config.optimizer.name, UPDATES[rung.update].name)
    found = bind_options(config.optimizer)
    for name, expected in rung.options.items():
        same(f"optimizer.options.{name}", found[name], expected, rtol=1e-4)
    same("optimizer.clip_norm", config.optimizer.clip_norm, rung.clip)
    same("ema_decay", config.ema_decay, rung.ema)
    same("optimizer.freeze", config.optimizer.freeze, ())
    same("optimizer.layer_decay", config.optimizer.layer_decay, 1.0)


def check_decay(config, rung):
    """How strong the weight decay is in the source's convention, and on which parameters."""
    strength = config.optimizer.weight_decay
    if rung.update == "big_vision":
        strength *= config.optimizer.lr
    same("weight decay", strength, rung.decay, rtol=1e-3)
    for row in describe_optimizer(config.optimizer, shapes(fill(config, rung))):
        decayed = bool(row.decay and config.optimizer.weight_decay)
        expected = bool(rung.decay) and rung.decayed(row.path)
        assert decayed == expected, f"{row.path}: decayed {decayed}, by its source {expected}"
        assert row.decay in (0, 1), f"{row.path}: decay times {row.decay}"
        assert row.lr == (1.0,), f"{row.path}: learning rate times {row.lr}"


def check_augmentation(config, rung):
    """Every operation on images with all of its options, in order; what happens to batches."""
    if rung.train_ops is None:
        return
    for split in ("train_ops", "eval_ops"):
        found, expected = getattr(config.data, split), getattr(rung, split)
        names = [op["op"] for op in found]
        assert names == [name for name, _ in expected], f"data.{split} are {names}"
        for given, (name, options) in zip(found, expected, strict=True):
            _check_op(f"data.{split}: {name}", given, options)
    same("data.mix", to_dict(config.data.mix), to_dict(MixConfig(**rung.mix)))


def _check_op(where, given, options):
    given = {name: value for name, value in given.items() if name != "op"}
    parameters = inspect.signature(OPS[where.split()[-1]]).parameters
    defaults = {name: p.default for name, p in parameters.items()}
    unknown = given.keys() - options.keys()
    assert not unknown, f"{where} sets {sorted(unknown)}, of which its source has nothing"
    for name, expected in options.items():
        found = {**defaults, **given}[name]
        if isinstance(expected, tuple) and isinstance(found, list | tuple):
            assert np.allclose(found, expected), f"{where}.{name} is {found}, not {expected}"
        else:
            same(f"{where}.{name}", found, expected)


def check_regularisation(config, rung):
    """Label smoothing, the kind of loss, dropout of every kind and stochastic depth."""
    same("task.label_smoothing", config.task.label_smoothing, rung.smoothing)
    task = {"loss": "softmax", "z_loss": 0.0, "binary_targets": False, **rung.task}
    for name, expected in task.items():
        same(f"task.{name}", getattr(config.task, name), expected)
    for name, expected in {**dict.fromkeys(DROPOUTS, 0.0), **rung.regularisers}.items():
        if hasattr(config.model, name) or expected:
            same(f"model.{name}", getattr(config.model, name), expected)


def check_start(config, rung):
    """The loss of fresh parameters on random rows, by the config's own head, loss and task."""
    loss = first_loss(shrink(config, rung))
    assert abs(loss - rung.loss) <= rung.loss_error, (
        f"loss at the start is {loss:.4f}, in closed form {rung.loss:.4f} +- {rung.loss_error}"
    )


def check_update(config, rung):
    """Three updates of a shrunk model's parameters, against the formula of the source in NumPy.

    At half of the peak, which is where a decay that the rate does not multiply shows.
    """
    run_update(config, rung, UPDATES[rung.update].run)


def run_update(config, rung, reference):
    """`check_update` against `reference(gradients, params, rung, factor)`: updates of each step."""
    kept, init, update = optimizer_of(shrink(config, rung))
    rng = np.random.default_rng(0)
    draw = lambda: {path: rng.normal(size=s).astype(np.float32) for path, s in kept.items()}
    params, grads = draw(), [draw() for _ in range(3)]
    flat = lambda tree: {path: np.float64(x) for path, x in tree.items()}
    expected = reference([flat(g) for g in grads], flat(params), rung, 0.5)
    rate, state = np.float32(config.optimizer.lr / 2), init(params)
    # A moment in bfloat16 is rounded the other way, now and then.
    rough = 1e-2 if "bfloat16" in map(_plain, rung.options.values()) else 5e-5
    for step, theirs in enumerate(expected):
        ours, state = jax.device_get(update(grads[step], state, params, rate))
        for path, moved in theirs.items():
            error = np.max(np.abs(ours[path] - moved)) / np.max(np.abs(moved))
            assert error < rough, f"update {step} of {path} is {error:.1e} off its source's formula"
        params = {path: np.float32(x + theirs[path]) for path, x in params.items()}


def check_work(config, rung):
    """Multiply-adds of the forward pass of one row, as published or by the usual formula."""
    same("GMAC of a row", step_flops(fill(config, rung)) / 2e9, rung.gmac, rtol=0.03)


CHECKS = {
    name.removeprefix("check_"): check
    for name, check in list(globals().items())
    if name.startswith("check_")
}


def _clock(config, rung):
    tokens = row_tokens(config)
    clock = Clock(config.data.batch_size, rung.examples, tokens and tokens * config.data.batch_size)
    return clock, tokens
