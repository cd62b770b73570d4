"""Optimizers: optax's own, told which parameter gets what, and where one layer ends.

Every one of them moves a parameter p by -lr (u + weight_decay p), with lr the schedule times the
parameter's factors and u the optimizer's direction. The weight decay is decoupled and multiplied
by lr, which is

  adamw      Loshchilov 2019 (arXiv 1711.05101) as in optax and PyTorch; big_vision does not
             multiply by lr, so its 1e-4 is 0.1 here at lr 1e-3
  bert_adamw Devlin 2018 (arXiv 1810.04805), as in its code: AdamW whose moments start at zero and
             are not corrected for it, so that early updates are up to (1 - b1) / sqrt(1 - b2) =
             3.2 times as large; it has nothing of optax's but the form
  lion       Chen 2023 (arXiv 2302.06675), as in optax
  muon       Jordan 2024, as in optax, with the same decay for the matrices and for the AdamW half
  sgd        Loshchilov's SGDW; PyTorch's `weight_decay` is added to the gradient before momentum
  adafactor  Shazeer 2018 (arXiv 1804.04235) without a decay of its own; optax's
             `weight_decay_rate` is not multiplied by lr. Its momentum averages u before lr, as
             in Zhai 2022 (arXiv 2106.04560); optax averages lr u
  lamb       You 2020 (arXiv 1904.00962): the trust ratio rescales (u + weight_decay p), and leaves
             tensors whose decay factor is 0 alone, as in NVIDIA's, timm's and deit3-jax's; optax
             rescales every tensor, as decay_rules of one line, (".*", 1.0), do here

Parameters whose path has a part `blocks` are stacks of layers: LAMB's trust ratio, Muon's
orthogonalisation and Adafactor's statistics are those of each layer by itself. The kernels of
q, k, v (D, N, H) and out (N, H, D) are matrices D x NH and NH x D. Muon takes the matrices; the
patch embedding, the head and whatever is no kernel go by AdamW, as in its reference; its lr is
theirs too, so give theirs in `lr_rules`, or set the option `consistent_rms`.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, muon

from zoo.config import UserError
from zoo.config.load import nearest
from zoo.config.schema import OptimizerConfig
from zoo.models.paths import leaves_by_path, map_by_path
from zoo.training.bert_adam import scale_by_bert_adam
from zoo.training.paths import matching_paths, resolve_rules

STACK = "blocks"
EMBEDDINGS = (
    "token_embed",
    "type_embed",
    "embed_norm",
    "patch_embed",
    "pos_embed",
    "cls",
    "registers",
)
OUTPUTS = ("head", "next_sentence")  # scores of classes

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "adamw": optax.adamw,
    "adafactor": optax.adafactor,
    "bert_adamw": scale_by_bert_adam,
    "lamb": optax.lamb,
    "lion": optax.lion,
    "muon": muon,
    "sgd": optax.sgd,
}
# Arguments of those functions that other keys of the config decide.
_DECIDED_BY = {
    "learning_rate": "lr",
    "adam_learning_rate": "lr_rules",
    "weight_decay": "weight_decay",
    "weight_decay_rate": "weight_decay",
    "adam_weight_decay": "weight_decay",
    "mask": "decay_rules",
    "weight_decay_mask": "decay_rules",
    "muon_weight_dimension_numbers": "name",
}


class ParamSettings(NamedTuple):
    """What the optimizer does with one parameter."""

    path: str
    shape: tuple[int, ...]
    decay: float  # factor on weight_decay
    lr: tuple[float, ...]  # factors on the learning rate: one, or one a layer
    frozen: bool


def make_optimizer(
    cfg: OptimizerConfig, params: Any, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer of a config.

    Gradients are clipped by their global norm, over the whole model but for frozen parameters.
    Frozen ones have no state and get zeros as their update; `stop_frozen` saves their gradients.
    What mirrors a parameter in the state lies at that parameter's path and has its shape, except
    for Adafactor's statistics, which are those of the matrix.

    Args:
      params: the parameters or their shapes, as nested dicts or an `nnx.State`.
      schedule: number of updates made -> learning rate.

    Raises:
      UserError: an option that the optax function does not have, a pattern that matches no
        parameter, or a parameter that no rule covers.
    """
    settings = {row.path: row for row in describe_optimizer(cfg, params)}
    steps = []
    if cfg.clip_norm is not None:
        steps.append(optax.clip_by_global_norm(cfg.clip_norm))
    decay = _decay(cfg.weight_decay, settings)
    options = bind_options(cfg)
    if cfg.name == "lamb":
        steps += [optax.scale_by_adam(**options), decay, _trust_ratio(settings)]
    else:
        steps += [_direction(cfg.name, options), decay]
    steps += [_scale_by_factors(settings), optax.scale_by_learning_rate(schedule)]
    tx = optax.chain(*steps)
    if any(row.frozen for row in settings.values()):

        def label(path, _):
            return "frozen" if settings[path].frozen else "trained"

        tx = optax.partition(
            {"trained": tx, "frozen": optax.set_to_zero()}, lambda tree: map_by_path(label, tree)
        )
    return tx


def describe_optimizer(cfg: OptimizerConfig, params: Any) -> list[ParamSettings]:
    """A row for each parameter; raises the UserErrors of `make_optimizer` about patterns."""
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves_by_path(params).items()}
    decay = resolve_rules(cfg.decay_rules, shapes, key="decay_rules")
    lr = resolve_rules(cfg.lr_rules, shapes, key="lr_rules")
    frozen = _frozen_paths(cfg.freeze, shapes)
    if len(frozen) == len(shapes):
        raise UserError(f"optimizer.freeze {list(cfg.freeze)} leaves no parameter to train")
    layer = _layer_factors(cfg.layer_decay, shapes)
    return [
        ParamSettings(
            path, shape, decay[path], tuple(lr[path] * f for f in layer[path]), path in frozen
        )
        for path, shape in shapes.items()
    ]


def stop_frozen(cfg: OptimizerConfig, params: Any) -> Any:
    """The parameters, with gradients stopped at the frozen ones: inside a loss this saves their
    gradients, and the backward pass of every layer below the lowest one that trains."""
    if not cfg.freeze:
        return params
    frozen = _frozen_paths(cfg.freeze, leaves_by_path(params))

    def stop(path, x):
        return jax.lax.stop_gradient(x) if path in frozen else x

    return map_by_path(stop, params)


def bind_options(cfg: OptimizerConfig) -> dict[str, Any]:
    """`cfg.options` over the defaults of the optax function, dtypes given as text resolved.

    Raises:
      UserError: an option that the function lacks, that another key decides, or of a wrong kind.
    """
    arguments = inspect.signature(_FUNCTIONS[cfg.name]).parameters
    free = {n: p.default for n, p in arguments.items() if n not in _DECIDED_BY}
    for name, value in cfg.options.items():
        where = f"optimizer.options.{name}"
        if name in arguments and name in _DECIDED_BY:
            raise UserError(f"{where}: set optimizer.{_DECIDED_BY[name]} instead")
        if name not in free:
            raise UserError(
                f"{where}: optax's {cfg.name} has no such option{nearest(name, list(free))}"
            )
        if "dtype" in name and value is not None:
            try:
                value = jnp.dtype(value)
            except TypeError as error:
                raise UserError(f"{where}: {value!r} is no dtype, such as 'bfloat16'") from error
        elif isinstance(free[name], str):
            choices = get_args(arguments[name].annotation)
            if value not in choices:
                raise UserError(f"{where}: {value!r} is not valid{nearest(str(value), choices)}")
        elif isinstance(value, str) or isinstance(free[name], bool) != isinstance(value, bool):
            raise UserError(f"{where}: {value!r} given; expected something like {free[name]!r}")
        free[name] = value
    return free


def _is_stacked(path: str) -> bool:
    """Whether a parameter has a leading axis of layers, such as `decoder/blocks/mlp/up/kernel`."""
    return STACK in path.split("/")[:-1]


def _frozen_paths(patterns: Iterable[str], paths: Iterable[str]) -> set[str]:
    return {path for pattern in patterns for path in matching_paths(pattern, paths, "freeze")}


def _layer_factors(
    layer_decay: float, shapes: dict[str, tuple[int, ...]]
) -> dict[str, tuple[float, ...]]:
    """BEiT's and MAE's factors: of L layers, layer i has layer_decay ** (L - i), the embeddings
    layer_decay ** (L + 1), and what follows the layers 1."""
    if layer_decay == 1:
        return dict.fromkeys(shapes, (1.0,))
    stacks = {path.split(STACK)[0]: shapes[path][0] for path in shapes if _is_stacked(path)}
    if list(stacks) != [""]:
        found = ", ".join(repr(f"{stack}{STACK}/") for stack in stacks) or "none"
        raise UserError(
            f"optimizer.layer_decay needs one stack of layers, '{STACK}/', to count from; the "
            f"model has {found}: leave it out, or give factors by optimizer.lr_rules"
        )
    depth = stacks[""]

    def factors(path):
        if _is_stacked(path):
            return tuple(layer_decay ** (depth - i) for i in range(depth))
        return (layer_decay ** (depth + 1) if path.split("/")[0] in EMBEDDINGS else 1.0,)

    return {path: factors(path) for path in shapes}


def _direction(name: str, options: dict[str, Any]) -> optax.GradientTransformation:
    """Gradients -> the direction u of the module's docstring."""
    if name == "adamw":
        return optax.scale_by_adam(**options)
    if name == "bert_adamw":
        return scale_by_bert_adam(**options)
    if name == "lion":
        return optax.scale_by_lion(**options)
    if name == "sgd":
        momentum = options.pop("momentum")
        return optax.identity() if momentum is None else optax.trace(momentum, **options)
    if name == "muon":
        options["ns_coeffs"] = _tuples(options["ns_coeffs"])

        def dims(tree):
            return map_by_path(_muon_axes, tree)

        tx = muon(1.0, muon_weight_dimension_numbers=dims, **options)
        return optax.chain(tx, optax.scale(-1.0))
    momentum, dtype = options.pop("momentum"), options.pop("dtype_momentum")
    steps = [_on_matrices(_by_layer(optax.adafactor(None, **options))), optax.scale(-1.0)]
    if momentum is not None:
        # Here rather than in optax.adafactor, so that it keeps the parameter's shape and sharding.
        steps.append(optax.ema(momentum, debias=False, accumulator_dtype=dtype))
    return optax.chain(*steps)


def _decay(weight_decay: float, settings: dict[str, ParamSettings]) -> optax.GradientTransformation:
    """u -> u + weight_decay factor p."""

    def add(path, update, param):
        rate = weight_decay * settings[path].decay
        return update + rate * param if rate else update

    return optax.stateless(lambda updates, params: map_by_path(add, updates, params))


def _trust_ratio(settings: dict[str, ParamSettings]) -> optax.GradientTransformation:
    mask = lambda tree: map_by_path(lambda path, _: settings[path].decay != 0, tree)
    return optax.masked(_by_layer(optax.scale_by_trust_ratio()), mask)


def _scale_by_factors(settings: dict[str, ParamSettings]) -> optax.GradientTransformation:
    def scale(path, update):
        factors = settings[path].lr
        if len(factors) == 1:
            return update if factors[0] == 1 else update * factors[0]
        return update * np.asarray(factors, update.dtype).reshape(-1, *[1] * (update.ndim - 1))

    return optax.stateless(lambda updates, _: map_by_path(scale, updates))


def _matrix_axes(path: str, ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The axes that a kernel sums over and those that it makes; None for what is no kernel."""
    *parents, name = path.split("/")
    if name != "kernel" or not parents:
        return None
    first = 1 if _is_stacked(path) else 0
    border = first + 1 if parents[-1] in ("q", "k", "v") else ndim - 1
    return tuple(range(first, border)), tuple(range(border, ndim))


def _muon_axes(path: str, leaf: Any) -> MuonDimensionNumbers | None:
    axes = _matrix_axes(path, leaf.ndim)
    if axes is None or path.split("/")[0] in EMBEDDINGS + OUTPUTS:
        return None
    return MuonDimensionNumbers(*axes)


def _on_matrices(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Shows kernels to `tx` as (stacks of) matrices, and gives its updates their shapes back."""

    def flatten(path, x):
        axes = _matrix_axes(path, x.ndim)
        if axes is None:
            return x
        rows, columns = (np.prod([x.shape[i] for i in group], dtype=int) for group in axes)
        return x.reshape(*x.shape[: axes[0][0]], rows, columns)

    def init(params):
        return tx.init(map_by_path(flatten, params))

    def update(updates, state, params=None):
        flat, state = tx.update(map_by_path(flatten, updates), state, map_by_path(flatten, params))
        return jax.tree.map(lambda new, old: new.reshape(old.shape), flat, updates), state

    return optax.GradientTransformation(init, update)


def _by_layer(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Applies `tx` to each layer of a stack by itself, and to all other parameters as they are."""

    def label(path, _):
        return path.partition(STACK)[0] if _is_stacked(path) else "others"

    # One for each stack: an encoder and a decoder may differ in depth.
    layers = dict.fromkeys(("", "encoder/", "decoder/"), _over_leading_axis(tx))
    return optax.partition({**layers, "others": tx}, lambda tree: map_by_path(label, tree))


def _over_leading_axis(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """`tx` mapped over the leading axis of every parameter; all layers share its counts."""

    def axes(params):
        layer = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), params)
        return jax.tree.map(lambda x: 0 if x.ndim else None, jax.eval_shape(tx.init, layer))

    def init(params):
        if not jax.tree.leaves(params):
            return tx.init(params)
        return jax.vmap(tx.init, out_axes=axes(params))(params)

    def update(updates, state, params=None):
        if not jax.tree.leaves(updates):
            return tx.update(updates, state, params)
        spec = axes(params)
        mapped = jax.vmap(tx.update, in_axes=(0, spec, 0), out_axes=(0, spec))
        return mapped(updates, state, params)

    return optax.GradientTransformation(init, update)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
