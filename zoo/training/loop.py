"""The training loop: one function, read from top to bottom."""

import contextlib
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from zoo.config import UserError
from zoo.config.load import to_dict
from zoo.config.schema import Config
from zoo.data.stream import train_batches
from zoo.evaluation.evaluate import Evaluator, evaluate, make_evaluator
from zoo.sharding.batches import own_rows
from zoo.sharding.hosts import meet
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import Params, abstract_params
from zoo.training.checkpoint import Checkpoints
from zoo.training.metrics import Meter, MetricsWriter, Progress, profiler
from zoo.training.optimizer import make_optimizer
from zoo.training.resolve import Run, resolve
from zoo.training.runner import Runner, make_runner
from zoo.training.schedules import make_schedule
from zoo.training.signals import stop_requests
from zoo.training.step import TrainState
from zoo.training.watchdog import watchdog
from zoo.training.weights import params_from
from zoo.training.workdir import (
    check_tokenizer,
    check_workdir,
    store_tokenizer,
    write_config,
    write_length,
)


class Diverged(UserError):
    """The loss or a gradient is not a finite number any more."""


@dataclass(frozen=True)
class Every:
    """A cadence: each `steps` steps, and after the last one."""

    steps: int
    total: int

    def due(self, step: int) -> bool:
        """Whether it is time, after `step` steps."""
        return step == self.total or step % self.steps == 0


@dataclass(frozen=True)
class TrainResult:
    """Where a run stands when the loop ends."""

    run: Run
    state: TrainState
    evaluator: Evaluator
    metrics: dict[str, float | int]  # of the last evaluation
    step: int
    stopped_by_signal: bool


def train(
    config: Config,
    workdir: Path,
    *,
    stop_at: int | None = None,
    look: Callable[[Run, int, Params], None] | None = None,
) -> TrainResult:
    """Trains a config to its end, or to step `stop_at`; resumes where `workdir` has a checkpoint.

    A resumed run gives bit for bit the losses that the uncut run would have given.

    Args:
      look: called after each evaluation with the run, the step and the parameters.

    Raises:
      UserError: a config, data or checkpoint that does not fit, a full disk.
      Diverged: a loss or gradient norm that is not finite; the last good checkpoint is kept.
    """
    # 1. The data says how long an epoch is and how many classes there are.
    run = resolve(config)
    config, total = run.config, run.total_steps
    check_workdir(workdir, config)
    check_tokenizer(workdir, run.tokenizer)

    # 2. The step, on its mesh.
    mesh = make_mesh(config.mesh)
    meet(mesh)
    tx, schedule = make_run_optimizer(run, mesh)
    runner = make_runner(config, tx, mesh)
    evaluator = make_evaluator(config, mesh)

    # 3. The state: the newest sound checkpoint, else other weights, else fresh.
    checkpoints = Checkpoints(
        workdir / "checkpoints", keep_last=config.keep_last, best_metric=config.best_metric
    )
    state = first_state(config, runner, checkpoints)
    start = int(state.step)
    write_config(workdir, config)
    write_length(workdir, total)
    store_tokenizer(workdir, run.tokenizer)

    # 4. The batches, from the first one that this state has not seen.
    batches = train_batches(
        config.data,
        seed=config.seed,
        start=start,
        stop=total,
        own=own_rows(mesh, config.data.batch_size),
    )

    # 5. Step, log, evaluate, save.
    last = total if stop_at is None else max(min(stop_at, total), start)
    log, evaluation, save = (
        Every(run.clock.steps(every), last)
        for every in (config.log_every, config.eval_every, config.save_every)
    )
    meta = {"config": to_dict(config), "classes": run.classes}
    writer, progress, meter = MetricsWriter(workdir, start), Progress(start, total), Meter(config)
    progress.say(meter.formula)
    pending: deque[tuple[int, dict[str, Any]]] = deque()
    eval_metrics: dict[str, float | int] = {}
    step, saved = start, start

    def settle(in_flight: int) -> None:
        """Reads the metrics of all but the newest steps, and stops at what is not finite."""
        ready = [pending.popleft() for _ in range(len(pending) - in_flight)]
        ready = [(at, jax.device_get(metrics)) for at, metrics in ready]
        logged = [at for at, _ in ready if log.due(at)]
        rates = meter.rates(ready[-1][0]) if logged else {}
        for at, metrics in ready:
            metrics = {name: float(value) for name, value in metrics.items()}
            check_finite(at, metrics, saved)
            progress.update(at)
            if at in logged:
                metrics |= {"learning_rate": float(np.asarray(schedule(at - 1))), **rates}
                writer.write(at, metrics)
                progress.log(at, metrics)

    live = runner.enter(state)
    with contextlib.ExitStack() as stack:
        # Whatever happens, what was being saved is saved, and what was measured is written.
        alive = stack.enter_context(watchdog(config.hang_minutes))
        stack.enter_context(checkpoints)
        for resource in (writer, progress, batches):
            stack.enter_context(contextlib.closing(resource))
        asked_to_stop = stack.enter_context(stop_requests(start))
        profile = stack.enter_context(profiler(workdir, config))
        stopping = False
        while step < last and not stopping:
            profile(step)
            live, metrics = runner.step(live, runner.put(next(batches)))
            step += 1
            pending.append((step, metrics))
            if step == start + 1:  # it compiled: rates count from its end
                settle(0)
                meter.start(step)
            settle(config.max_in_flight)
            alive()
            stopping = asked_to_stop(step)
            if not (stopping or evaluation.due(step) or save.due(step)):
                continue
            settle(0)
            alive(slow=True)
            with meter.paused():
                state = runner.leave(live)
                evaluated = None
                if evaluation.due(step) and not stopping:  # whoever stops us may not wait for it
                    evaluated = evaluate_splits(evaluator, state, config, step, writer, progress)
                    eval_metrics = evaluated
                    if look is not None:
                        look(run, step, state.eval_params)
                stopping = asked_to_stop(step)  # perhaps during the evaluation
                if stopping or save.due(step):
                    checkpoints.save(state, meta=meta, metrics=evaluated)
                    saved = step
            alive()
        settle(0)
        alive(slow=True)
    return TrainResult(run, runner.leave(live), evaluator, eval_metrics, step, stopping)


def make_run_optimizer(run: Run, mesh: Mesh) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer of a run, and the learning rate by step that it follows."""
    cfg, clock = run.config.optimizer, run.clock
    schedule = make_schedule(
        cfg,
        total_steps=run.total_steps,
        warmup_steps=clock.steps(cfg.warmup),
        cooldown_steps=clock.steps(cfg.cooldown),
    )
    return make_optimizer(cfg, abstract_params(run.config, mesh), schedule), schedule


def first_state(config: Config, runner: Runner, checkpoints: Checkpoints) -> TrainState:
    """The state that the loop starts from."""
    restored = checkpoints.restore_latest(runner.abstract_state)
    if restored is not None:
        return restored[0]
    state = runner.init(jax.random.key(config.seed))
    if config.init_from is not None:
        params = params_from(config.init_from, config, state.params, runner.mesh)
        ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
        state = replace(state, params=params, ema=ema)
    return state


def evaluate_splits(
    evaluator: Evaluator,
    state: TrainState,
    config: Config,
    step: int,
    writer: MetricsWriter,
    progress: Progress,
) -> dict[str, float | int]:
    """Evaluates every split of the config; `SPLIT/METRIC` -> value."""
    metrics = {}
    for name, split in config.data.eval_splits.items():
        found = evaluate(evaluator, state.eval_params, config.data, split).metrics
        metrics |= {f"{name}/{key}": value for key, value in found.items()}
    writer.write(step, {f"eval/{key}": value for key, value in metrics.items()})
    shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
    progress.say(f"step {step}  {shown}")
    return metrics


def check_finite(step: int, metrics: dict[str, float | int], saved: int) -> None:
    """Raises Diverged, naming the step and what to do."""
    for name in ("loss", "grad_norm"):
        if not math.isfinite(metrics[name]):
            kept = f"the checkpoint of step {saved} is kept" if saved else "no step was saved yet"
            raise Diverged(
                f"{name} is {metrics[name]} at step {step}: training stopped, {kept}. Lower "
                "config.optimizer.lr, lengthen config.optimizer.warmup, or set "
                "config.optimizer.clip_norm"
            )
