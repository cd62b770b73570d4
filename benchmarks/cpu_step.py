"""What one training step costs on one CPU core, beside nothing but its matrix products.

    taskset -c 1 python benchmarks/cpu_step.py [--repeats 7]

The step is the real one (`make_runner`): ViT-S/16, batch 8, 224 x 224, 1,000 classes, float32,
AdamW, no dropout. Prints process CPU seconds a step and multiples of the bare products, medians
and ranges. Bare: all matmuls of the step (patches, q, k, v, scores, values, out, MLP, head;
forward, input gradient, weight gradient), each by itself on untransposed operands of those sizes.
The rows take turns on one thread, so that a busy machine slows all of them alike.
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
from zoo.config.vit import ViTConfig
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import abstract_params
from zoo.training.optimizer import make_optimizer
from zoo.training.runner import make_runner

BATCH, PIXELS, CLASSES = 8, 224, 1000
MODEL = {"size": "S/16", "num_classes": CLASSES, "image_size": PIXELS, "channels": 3}
Row = Callable[[], Any]  # runs one step, and gives what to wait for


def zoo_step(**model: Any) -> Row:
    """The training step of a config on a fixed batch."""
    data = {"name": "tfds:imagenet2012", "batch_size": BATCH, "image_size": PIXELS}
    optimizer = {"name": "adamw", "weight_decay": 0.1}
    model = {"family": "vit", **MODEL, **model}
    config = parse_config({"model": model, "data": data, "optimizer": optimizer})
    mesh = make_mesh(config.mesh)
    params, lr = abstract_params(config, mesh), optax.constant_schedule(1e-3)
    runner = make_runner(config, make_optimizer(config.optimizer, params, lr), mesh)
    state = runner.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (BATCH, PIXELS, PIXELS, 3), np.uint8)
    index = np.arange(BATCH, dtype=np.int32)
    rows = {"image": image, "label": index, "weight": np.ones(BATCH, np.float32), "index": index}
    batch = runner.put(rows)

    def step():
        nonlocal state
        state, metrics = runner.step(state, batch)
        return metrics

    return step


def bare_products() -> Row:
    """All matrix products of the step, one after the other."""
    cfg = ViTConfig(**MODEL)
    D, F, L, heads, H = cfg.width, cfg.mlp_dim, cfg.depth, BATCH * cfg.num_heads, 64
    patches, patch = (PIXELS // 16) ** 2, 3 * 16**2
    T, rows = patches + 1, BATCH * (patches + 1)
    # (times, b, m, k, n) of [b, m, k] @ [b, k, n]
    forward = [(4 * L, 1, rows, D, D), (L, 1, rows, D, F), (L, 1, rows, F, D)]
    forward += [(L, heads, T, H, T), (L, heads, T, T, H), (1, 1, BATCH, D, CLASSES)]
    found = [(1, 1, BATCH * patches, patch, D), (1, 1, patch, BATCH * patches, D)]
    for times, b, m, k, n in forward:  # pixels, above, need no gradient
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
    args = parser.parse_args()
    rows = {"bare": bare_products(), "Zoo": zoo_step(), "Zoo, scan=False": zoo_step(scan=False)}
    times = cpu_seconds(rows, args.repeats)
    for name, row in times.items():
        ratios = sorted(mine / bare for mine, bare in zip(row, times["bare"], strict=True))
        cpu_s, ratio = statistics.median(row), statistics.median(ratios)
        print(f"{name:16s}{cpu_s:8.3f} s{ratio:8.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
