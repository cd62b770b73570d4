"""One optimizer step, as a pure function of a state and a batch."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array

from zoo.config.schema import Config
from zoo.tasks.base import Batch, Task
from zoo.tasks.build import Params
from zoo.training.optimizer import stop_frozen


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "ema", "opt_state"),
    meta_fields=(),
)
@dataclass(frozen=True)
class TrainState:
    """All that changes from step to step; `ema` is None where no average is kept."""

    step: Any  # int32 scalar (or its shape, or its sharding, as everywhere in this tree)
    params: Params
    ema: Any  # like params, or None
    opt_state: Any

    @property
    def eval_params(self) -> Params:
        """The parameters to evaluate and predict with: the average where there is one."""
        return self.params if self.ema is None else self.ema


def init_state(config: Config, tx: optax.GradientTransformation, params: Params) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=jax.tree.map(jnp.copy, params) if config.ema_decay is not None else None,
        opt_state=tx.init(params),
    )


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    config: Config,
    task: Task,
    graphdef: nnx.GraphDef,
    tx: optax.GradientTransformation,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One step on a prepared batch (`Task.prepare`).

    Losses, metrics and gradients are sums over rows whose weights add up to one over the global
    batch: microbatches, devices and padding then all add up to the same mean.

    Args:
      axis_name: the axis to sum over under `pmap`; under `jit` the compiler sums by itself.

    Returns:
      The next state, and metrics: the means that the task reports, and `grad_norm`.
    """

    def loss_fn(params, batch):
        params = stop_frozen(config.optimizer, params)
        return task.loss(nnx.merge(graphdef, params), batch)

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    if config.accumulate == 1:
        (_, metrics), grads = grad_fn(state.params, batch)
    else:
        metrics, grads = _accumulate(grad_fn, state.params, batch, config.accumulate)
    if axis_name is not None:
        metrics, grads = jax.lax.psum((metrics, grads), axis_name)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    ema = state.ema
    if config.ema_decay is not None:
        ema = optax.incremental_update(params, ema, 1 - config.ema_decay)
    metrics["grad_norm"] = optax.tree.norm(grads)
    return TrainState(state.step + 1, params, ema, opt_state), metrics


def _accumulate(grad_fn, params: Params, batch: Batch, parts: int):
    """Metrics and gradients of a batch, one microbatch after the other."""

    def split(x):
        # Rows i, i + parts, ... make microbatch i: each device splits its own rows, where
        # consecutive rows would have to move between devices.
        return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)

    def body(total, microbatch):
        (_, metrics), grads = grad_fn(params, microbatch)
        return jax.tree.map(jnp.add, total, (metrics, grads)), None

    microbatches = jax.tree.map(split, batch)
    shapes = jax.eval_shape(grad_fn, params, jax.tree.map(lambda x: x[0], microbatches))
    (_, metrics), grads = shapes
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (metrics, grads))
    return jax.lax.scan(body, zeros, microbatches)[0]
