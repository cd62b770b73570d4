"""What one training step costs on one CPU core, beside nothing but its matrix products.

    taskset -c 1 python benchmarks/cpu_step.py [--families vit bert ...] [--repeats 7]

The step is the real one (`make_runner`), in float32, with AdamW and without dropout: ViT-S/16 on 8
images of 224 x 224 pixels, BERT-base on 8 rows of 128 tokens, GPT-2 on 4 of 256, and Vaswani's
base on 16 of 64 + 64. Prints process CPU seconds a step and multiples of the bare products,
medians and ranges. Bare: all matmuls of the step (patches, q, k, v, scores, values, out, MLP,
head; forward, input gradient, weight gradient), each by itself on untransposed operands of those
sizes. The rows take turns on one thread, so that a busy machine slows all of them alike.
"""

import argparse
import functools
import os
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zoo.config import parse_config
from zoo.config.bert import BertConfig
from zoo.config.decoder import DecoderConfig
from zoo.config.schema import Config
from zoo.config.transformer import TransformerConfig
from zoo.config.vit import ViTConfig
from zoo.data.shapes import batch_shapes
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import abstract_params
from zoo.training.optimizer import make_optimizer
from zoo.training.runner import make_runner

Section = dict[str, Any]
TEXT = {"name": "text", "dir": "none", "tokenizer": "none"}
# Of each family a model and its data.
FAMILIES: dict[str, tuple[Section, Section]] = {
    "vit": (
        {"size": "S/16", "num_classes": 1000, "image_size": 224, "channels": 3},
        {"kind": "images", "name": "tfds:imagenet2012", "batch_size": 8, "image_size": 224},
    ),
    "bert": (
        {"size": "base", "vocab_size": 30_522, "dropout": 0.0, "attention_dropout": 0.0},
        TEXT | {"kind": "masked_lm", "length": 128, "batch_size": 8},
    ),
    "decoder": (
        {"size": "gpt2", "vocab_size": 50_257},
        TEXT | {"kind": "lm", "length": 256, "batch_size": 4},
    ),
    "transformer": (
        {"size": "base", "vocab_size": 32_000, "dropout": 0.0},
        TEXT | {"kind": "seq2seq", "length": 64, "target_length": 64, "batch_size": 16},
    ),
}
Row = Callable[[], Any]  # runs one step, and gives what to wait for
# How often, and b, m, k, n of [b, m, k] @ [b, k, n].
Product = tuple[int, int, int, int, int]


def make_config(family: str, **model: Any) -> Config:
    """A family's config."""
    own, data = FAMILIES[family]
    optimizer = {"name": "adamw", "weight_decay": 0.1}
    model = {"family": family, **own, **model}
    return parse_config({"model": model, "data": data, "optimizer": optimizer})


def zoo_step(config: Config) -> Row:
    """The training step of a config on a fixed batch."""
    mesh = make_mesh(config.mesh)
    params, lr = abstract_params(config, mesh), optax.constant_schedule(1e-3)
    runner = make_runner(config, make_optimizer(config.optimizer, params, lr), mesh)
    state = runner.init(jax.random.key(0))
    batch = runner.put(random_batch(config))

    def step():
        nonlocal state
        state, metrics = runner.step(state, batch)
        return metrics

    return step


def random_batch(config: Config) -> dict[str, np.ndarray]:
    """Full rows of random tokens or pixels."""
    rng = np.random.default_rng(0)
    batch = {}
    for name, (shape, dtype) in batch_shapes(config.data, config.data.batch_size).items():
        if name in ("tokens", "targets", "source", "target", "masked_targets", "image"):
            batch[name] = rng.integers(0, 256, shape).astype(dtype)
        elif name in ("position", "source_position", "target_position", "masked_positions"):
            batch[name] = np.broadcast_to(np.arange(shape[1], dtype=dtype), shape).copy()
        elif name in ("label", "index", "type", "next_sentence"):
            batch[name] = np.zeros(shape, dtype)
        else:  # what counts, and to what it belongs
            batch[name] = np.ones(shape, dtype)
    return batch


def products(config: Config) -> list[Product]:
    """The matrix products of a forward pass, but for the pixels': what has gradients on both sides.

    Lookups of embeddings are none.
    """
    model, data = config.model, config.data
    B, D, F, L = data.batch_size, model.width, model.mlp_dim, model.depth

    def layers(times, q_tokens, k_tokens, *, mlp=2, kv=None, head_size=None):
        """Attention, with its MLP where it has one."""
        heads, H = model.num_heads, head_size or D // model.num_heads
        rows, keys, kv_heads = B * q_tokens, B * k_tokens, kv or heads
        up, down = (times, 1, rows, D, F), (times, 1, rows, F, D)
        return [
            (2 * times, 1, rows, D, heads * H),
            (2 * times, 1, keys, D, kv_heads * H),
            (times, B * heads, q_tokens, H, k_tokens),
            (times, B * heads, q_tokens, k_tokens, H),
            *[*[up] * (mlp - 1), down][:mlp],
        ]

    match model:
        case ViTConfig():
            T = model.patches[0] * model.patches[1] + 1
            return [*layers(L, T, T), (1, 1, B, D, model.num_classes or 0)]
        case BertConfig():
            T, rows = data.length, B * data.max_predictions
            head = [(1, 1, rows, D, D), (1, 1, rows, D, model.vocab_size or 0)]
            return [*layers(L, T, T), *head, (1, 1, B, D, D), (1, 1, B, D, 2)]
        case DecoderConfig():
            T, kv, mlp = data.length, model.num_kv_heads, 2 + model.gated
            blocks = layers(L, T, T, mlp=mlp, kv=kv, head_size=model.head_size)
            return [*blocks, (1, 1, B * T, D, model.vocab_size or 0)]
        case TransformerConfig():
            S, T, mlp, H = data.length, data.target_length, 2 + model.gated, model.head_size
            found = layers(L, S, S, mlp=mlp, head_size=H)
            found += layers(model.decoder_depth, T, T, mlp=mlp, head_size=H)
            found += layers(model.decoder_depth, T, S, mlp=0, head_size=H)
            return [*found, (1, 1, B * T, D, model.vocab_size or 0)]


def bare_products(config: Config) -> Row:
    """All matrix products of the step, one after the other."""
    found: list[Product] = []
    if isinstance(config.model, ViTConfig):  # pixels need no gradient
        rows = config.data.batch_size * config.model.patches[0] * config.model.patches[1]
        patch, D = 3 * 16**2, config.model.width
        found += [(1, 1, rows, patch, D), (1, 1, patch, rows, D)]
    for times, b, m, k, n in products(config):
        found += [(times, b, m, k, n), (times, b, m, n, k), (times, b, k, m, n)]
    multiply, key, calls = jax.jit(jnp.matmul), jax.random.key(0), []
    for times, b, m, k, n in found:
        x, y = (jax.random.normal(key, (b, *sizes)[b == 1 :]) for sizes in ((m, k), (k, n)))
        calls += [functools.partial(multiply, x, y)] * times
    return lambda: deque((call().block_until_ready() for call in calls), maxlen=1)


def cpu_seconds(rows: dict[str, Row], repeats: int) -> dict[str, list[float]]:
    """Process CPU seconds of each step of each row, in turns, after a first that compiles."""
    times = {name: [] for name in rows}
    for repeat in range(repeats + 1):
        for name, step in rows.items():
            start = time.process_time()
            jax.block_until_ready(step())
            if repeat:
                times[name].append(time.process_time() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    args = parser.parse_args()
    for family in args.families:
        config = make_config(family)
        rows = {"bare": bare_products(config), "Zoo": zoo_step(config)}
        rows["Zoo, scan=False"] = zoo_step(make_config(family, scan=False))
        times = cpu_seconds(rows, args.repeats)
        for name, row in times.items():
            ratios = sorted(mine / bare for mine, bare in zip(row, times["bare"], strict=True))
            cpu_s, ratio = statistics.median(row), statistics.median(ratios)
            print(f"{family:13s}{name:16s}{cpu_s:8.3f} s{ratio:8.2f}", end="  ")
            print(f"({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
