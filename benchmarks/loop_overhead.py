"""What `zoo.training.loop.train` costs a step, over the bare compiled step on a fixed batch.

    taskset -c 1 python benchmarks/loop_overhead.py [--rounds 10] 2>/dev/null

Two models on the built-in digits: `configs/digits_vit.py` (a step of about 0.06 s) and a wider one
(about 0.3 s). Each is one call of `train`, logging every 50 steps; every so often the loop is held
up while as many bare steps run, so that a busy machine slows both alike. Prints, in CPU seconds of
the process and in wall clock: milliseconds a bare step and a step of the loop, their ratio's median
and quartiles over the rounds, and what making a batch costs alone, which the loop's CPU includes.
On one core (taskset) nothing hides behind anything else: that wall clock is the worst case.
"""

import argparse
import dataclasses
import os
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

from zoo.config import load_config
from zoo.data.stream import train_batches
from zoo.training import loop
from zoo.training.runner import Runner, make_runner

SETTLE = 5  # steps of the loop after each pause that do not count: batches were made meanwhile
WIDER = {"width": "192", "mlp_dim": "768", "num_heads": "3", "depth": "2"}
CASES: dict[str, tuple[dict[str, str], int]] = {  # name -> (overrides of digits_vit, steps a round)
    "digits_vit": ({}, 50),
    "digits_vit, wider": ({f"model.{k}": v for k, v in WIDER.items()}, 21),
}


def clocks() -> np.ndarray:
    """Seconds: CPU of this process, wall."""
    return np.array([time.process_time(), time.perf_counter()])


class Alternating:
    """A step that now and then holds its caller up to run bare steps, and times both."""

    def __init__(self, runner: Runner, steps: int):
        self.runner, self.steps, self.calls = runner, steps, 0
        self.bare, self.looped = [], []  # seconds a step of each round: [CPU, wall]
        self.state: Any = None
        self.batch: Any = None

    def __call__(self, state, batch):
        at = self.calls % (self.steps + SETTLE)
        if self.calls and at == 0:
            jax.block_until_ready(state)
            self.looped.append((clocks() - self.since) / self.steps)
            self._run_bare(batch)
        if at == SETTLE:
            jax.block_until_ready(state)
            self.since = clocks()
        self.calls += 1
        return self.runner.step(state, batch)

    def _run_bare(self, batch) -> None:
        if self.state is None:
            self.state, self.batch = self.runner.init(jax.random.key(1)), batch
        jax.block_until_ready(self.state)
        since = clocks()
        for _ in range(self.steps):
            self.state, _ = self.runner.step(self.state, self.batch)
        jax.block_until_ready(self.state)
        self.bare.append((clocks() - since) / self.steps)


def measure(overrides: dict[str, str], steps: int, rounds: int) -> dict[str, list[float]]:
    """clock -> ms of a bare step, of the loop's, of a batch; their ratio and its quartiles."""
    total = (rounds + 1) * (steps + SETTLE) + 1
    every = {"log_every": "50 steps", "eval_every": "1e9 steps", "save_every": "1e9 steps"}
    config = load_config("digits_vit", {**overrides, "total": f"{total} steps", **every})
    found: list[Alternating] = []

    def make(*args):
        runner = make_runner(*args)
        found.append(Alternating(runner, steps))
        return dataclasses.replace(runner, step=found[0])

    with tempfile.TemporaryDirectory() as workdir, mock.patch.object(loop, "make_runner", make):
        loop.train(config, Path(workdir))
    with train_batches(config.data, seed=0, start=0, stop=101) as batches:
        next(batches)
        since = clocks()
        deque(batches, maxlen=0)
        batch = (clocks() - since) / 100
    # The first round warms up.
    bare, looped = np.array(found[0].bare[1:]), np.array(found[0].looped[1:])
    ms = 1e3 * np.stack([np.median(bare, 0), np.median(looped, 0), batch])
    ratios = np.quantile(looped / bare, (0.5, 0.25, 0.75), axis=0)
    return dict(zip(("CPU", "wall"), np.concatenate([ms, ratios]).T.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    print(f"{'milliseconds':20s}clock    bare    loop   batch     ratio  (quartiles)")
    for name, case in CASES.items():
        for clock, row in measure(*case, args.rounds).items():
            bare, looped, batch, ratio, low, high = row
            print(f"{name:20s}{clock:5s}{bare:8.1f}{looped:8.1f}{batch:8.1f}", end="")
            print(f"{ratio:10.3f}  ({low:.3f} to {high:.3f})")
    print(f"load {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} core(s)")


if __name__ == "__main__":
    main()
