"""A config's own model, task and optimizer, made small enough to run, or traced without running.

What a shipped config leaves to its data (vocabulary, classes) comes from a rung. Results are kept
by what they depend on, which is the same for many rungs.
"""

import json
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from flax import nnx, traverse_util

from tests.models.test_vit import matmul_flops
from zoo.config.data import ImageData
from zoo.config.load import parse_config, to_dict
from zoo.config.schema import OptimizerConfig
from zoo.config.sizes import row_tokens
from zoo.models.paths import leaves_by_path
from zoo.tasks.build import abstract_model, init_params, make_task
from zoo.training.optimizer import make_optimizer

# Of a shrunk model and its rows. T5's optimizer factors matrices from 128 x 128 on.
SMALL = {"size": None, "depth": 2, "num_heads": 2, "mlp_dim": 256, "width": 128}
VOCABULARY, LENGTH = 4096, 16
# Parameters under these names are treated as others of the same kind are; fewer compile sooner.
LIKE_OTHERS = {"k", "v", "out", "down", "gate", "mlp_norm", "encoder", "cross_attn", "cross_norm"}
# Settings that do not touch what a loss is made of.
ASIDE = {
    "name": "any", "dir": None, "train_split": "train", "eval_splits": {}, "batch_size": 1,
    "eval_batch_size": None, "workers": 0, "train_ops": (), "eval_ops": (), "repeats": 1,
    "tokenizer": "any", "fields": {}, "pair": False, "short_rate": 0.0,
}  # fmt: skip
DROPOUTS = ("dropout", "attention_dropout", "drop_path", "mlp_dropout")


def fill(config, rung):
    """The config with what its data and tokenizer would fill in."""
    filled = dict(rung.filled)
    if isinstance(config.data, ImageData):
        filled |= {"image_size": config.data.image_size, "channels": config.data.channels}
    if getattr(config.model, "max_length", 0) is None:
        filled["max_length"] = config.data.length
    return config.replace(model=config.model.replace(**filled))


def shrink(config, rung):
    """The config with a narrow model of two layers and short rows, everything else its own."""
    config = fill(config, rung)
    model, data = config.model, config.data
    if isinstance(data, ImageData):
        side = 2 * model.patch_size
        return config.replace(
            model=model.replace(**SMALL, image_size=side), data=data.replace(image_size=side)
        )
    sizes: dict[str, Any] = {**SMALL, "vocab_size": VOCABULARY}
    more = {"head_size": 64, "decoder_depth": 2, "max_length": LENGTH, "num_kv_heads": 2}
    if getattr(model, "num_kv_heads", 0) != getattr(model, "num_heads", 0):
        more["num_kv_heads"] = 1
    sizes |= {name: value for name, value in more.items() if hasattr(model, name)}
    short = {"length": LENGTH, "target_length": LENGTH, "max_predictions": 4}
    return config.replace(model=model.replace(**sizes), data=_replace(data, short))


def shapes(config):
    """The model's parameters: path -> shape and type."""
    return leaves_by_path(_abstract_params(_key(config, "model", "data")))


def first_loss(config):
    """The loss of fresh parameters on random rows, without dropout and mixing, in float32."""
    calm = {**dict.fromkeys(DROPOUTS, 0.0), "dtype": "float32"}
    config = config.replace(
        model=_replace(config.model, calm), data=_replace(config.data, {**ASIDE, "mix": {}})
    )
    return _first_loss(_key(config, "model", "data", "task"))


def step_flops(config, *, backward=False):
    """FLOPs of the loss of one row, counted in the program; or those of its gradient."""
    # What is computed again is no work of the model's.
    config = config.replace(
        model=config.model.replace(remat="none"), data=_replace(config.data, ASIDE)
    )
    return _step_flops(_key(config, "model", "data", "task"), backward)


def optimizer_of(config):
    """(init, update) at any given learning rate, on a part of the parameters, by path.

    Returns:
      the shapes of that part; init(params) -> state; update(grads, state, params, rate) ->
      (updates, state).
    """
    if getattr(config.model, "num_classes", None):
        config = config.replace(model=config.model.replace(num_classes=8))
    kept = {p: x.shape for p, x in shapes(config).items() if not LIKE_OTHERS & {*p.split("/")}}
    times = ("lr", "schedule", "warmup", "cooldown", "final_lr")  # what the given rate stands for
    optimizer = to_dict(config.optimizer)
    text = json.dumps({name: optimizer[name] for name in optimizer if name not in times})
    return kept, *_compile(text, tuple(kept.items()))


def _replace(section, changes):
    """The section with those of the keys changed that it has."""
    tree = to_dict(section)
    tree |= {name: value for name, value in changes.items() if name in tree}
    return msgspec.convert(tree, type(section))


def _key(config, *sections):
    return json.dumps({name: to_dict(getattr(config, name)) for name in sections}, sort_keys=True)


@cache
def _abstract_params(key):
    return nnx.to_pure_dict(abstract_model(parse_config(json.loads(key)))[1])


@cache
def _first_loss(key):
    config = parse_config(json.loads(key))
    task, (graph, _) = make_task(config), abstract_model(config)

    def run(params, key, batch):
        return task.loss(nnx.merge(graph, params), task.prepare(batch, key))[0]

    # Eagerly, since many models have parameters of the same shapes.
    params = init_params(config, jax.random.key(0))
    return float(jax.jit(run)(params, jax.random.key(1), raw_batch(config, 32)))


@cache
def _step_flops(key, backward):
    config = parse_config(json.loads(key))
    task, (graph, state) = make_task(config), abstract_model(config)
    batch = jax.eval_shape(task.prepare, raw_batch(config, 1), jax.random.key(0))
    loss = lambda params, batch: task.loss(nnx.merge(graph, params), batch)[0]
    function = jax.grad(loss) if backward else loss
    return matmul_flops(jax.make_jaxpr(function)(nnx.to_pure_dict(state), batch).jaxpr)


@cache
def _compile(optimizer, kept):
    cfg = msgspec.convert(json.loads(optimizer), OptimizerConfig)
    nest = lambda flat: traverse_util.unflatten_dict(flat, sep="/")
    params = nest({path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in kept})
    make = lambda rate: make_optimizer(cfg, params, lambda _: rate)

    def update(grads, state, params, rate):
        updates, state = make(rate).update(nest(grads), state, nest(params))
        return leaves_by_path(updates), state

    return jax.jit(lambda params: make(0.0).init(nest(params))), jax.jit(update)


def raw_batch(config, rows):
    """Random rows as the stream gives them, one document a row and no padding."""
    return jax.tree.map(jnp.asarray, _random_rows(config, rows))


def _random_rows(config, rows):
    model, data = config.model, config.data
    rng = np.random.default_rng(0)
    batch: dict[str, Any] = {"weight": np.ones(rows, np.float32)}
    if isinstance(data, ImageData):
        shape = (rows, data.image_size, data.image_size, data.channels)
        batch["image"] = rng.integers(0, 256, shape, np.uint8)
        return {**batch, "label": rng.integers(0, model.num_classes, rows, np.int32)}
    tokens = lambda length: rng.integers(4, model.vocab_size, (rows, length), np.int32)
    ones = lambda length: np.ones((rows, length), np.int32)
    at = lambda length: np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    kind, T = to_dict(data)["kind"], data.length
    if kind == "lm":
        batch |= {"tokens": tokens(T), "targets": tokens(T), "segment": ones(T), "position": at(T)}
        return {**batch, "mask": ones(T) > 0}
    if kind in ("seq2seq", "span_corruption"):
        S = row_tokens(config) - T
        batch |= {"source": tokens(T), "target": tokens(S), "mask": ones(S) > 0}
        batch |= {"source_position": at(T), "target_position": at(S)}
        return {**batch, "source_segment": ones(T), "target_segment": ones(S)}
    batch |= {"tokens": tokens(T), "type": 0 * ones(T), "segment": ones(T)}
    if kind == "masked_lm":
        count = data.max_predictions
        batch |= {"masked_positions": at(count), "masked_targets": tokens(count)}
        return {**batch, "mask": ones(count) > 0, "next_sentence": 0 * ones(1)[:, 0]}
    if kind == "question_answering":
        return {**batch, "start": ones(1)[:, 0], "end": 2 * ones(1)[:, 0]}
    label = np.full(rows, 3.0, np.float32) if data.regression else 0 * ones(1)[:, 0]
    return {**batch, "label": label}
