"""`zoo bench`: where a config's time goes on the devices that are there."""

import itertools
import time
from collections.abc import Iterator

import jax
import numpy as np

from zoo.config.schema import Config
from zoo.config.sizes import row_macs
from zoo.data.stream import Stream, train_batches
from zoo.sharding.batches import own_rows
from zoo.sharding.devices import peak_flops
from zoo.sharding.mesh import make_mesh
from zoo.training.loop import make_run_optimizer
from zoo.training.resolve import resolve
from zoo.training.runner import make_runner


def bench(config: Config, *, steps: int = 20) -> dict[str, float | int]:
    """Measures the step alone, the input alone, and both as the training loop runs them.

    Returns:
      Medians of seconds a step, examples a second, MFU, and the loop's overhead over the slower
      of its two halves. All on this process's share of the batch.
    """
    run = resolve(config)
    config, mesh = run.config, make_mesh(run.config.mesh)
    tx, _ = make_run_optimizer(run, mesh)
    runner = make_runner(config, tx, mesh)

    def batches() -> Stream:
        own = own_rows(mesh, config.data.batch_size)
        return train_batches(config.data, seed=config.seed, start=0, own=own)

    began = time.perf_counter()
    state = runner.enter(runner.init(jax.random.key(config.seed)))
    with batches() as source:
        batch = runner.put(next(source))
    state, metrics = runner.step(state, batch)
    jax.block_until_ready(metrics)
    compiled = time.perf_counter() - began

    def alone() -> Iterator[float]:
        nonlocal state
        for _ in range(steps):
            start = time.perf_counter()
            state, metrics = runner.step(state, batch)
            jax.block_until_ready(metrics)
            yield time.perf_counter() - start

    def both() -> Iterator[float]:
        nonlocal state
        with batches() as source:
            start = time.perf_counter()
            for host_batch in itertools.islice(source, steps):
                state, metrics = runner.step(state, runner.put(host_batch))
                jax.block_until_ready(metrics)
                yield time.perf_counter() - start
                start = time.perf_counter()

    step_s = float(np.median([*alone()]))
    input_s = _seconds_a_batch(batches(), steps)
    both_s = float(np.median([*both()]))
    size = config.data.batch_size
    flops = 6 * row_macs(config) * size
    return {
        "step_s": step_s,
        "input_s": input_s,
        "step_and_input_s": both_s,
        "overhead_over_slower_half": both_s / max(step_s, input_s) - 1,
        "examples_per_second_step": size / step_s,
        "examples_per_second_input": size / input_s,
        "examples_per_second": size / both_s,
        "mfu": flops / both_s / (peak_flops(jax.devices()[0]) * jax.device_count()),
        "first_step_s": compiled,
        "devices": jax.device_count(),
        "batch_size": size,
    }


def _seconds_a_batch(stream: Stream, steps: int) -> float:
    with stream:
        next(stream)  # starts the workers
        start = time.perf_counter()
        for _ in itertools.islice(stream, steps):
            pass
        return (time.perf_counter() - start) / steps
