"""A config's training step on its devices: jit over a mesh, or pmap."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from zoo.config import UserError
from zoo.config.schema import Config
from zoo.config.sizes import model_tokens
from zoo.data.shapes import batch_shapes
from zoo.sharding.batches import check_divides, check_tokens, put_batch
from zoo.sharding.rules import batch_spec
from zoo.tasks.base import Batch
from zoo.tasks.build import Params, abstract_model, abstract_params, init_params, make_task
from zoo.training.step import TrainState, init_state, train_step


@dataclass(frozen=True)
class Runner:
    """A training step, placed; `jit` and `pmap` look alike from outside.

    Attributes:
      abstract_state: shapes and shardings of the state as checkpoints and evaluation see it.
      init: key -> that state, fresh; created sharded, no device ever holds it all.
      enter: that state -> as `step` takes it; `leave` goes back. Under jit both do nothing.
      put: host-local numpy rows of a batch -> the global batch.
      step: (state, batch) -> (state, metrics); gives the old state's memory to the new one.
      lower: () -> that step under jit, for devices that need not be there; it allocates nothing.
    """

    mesh: Mesh
    abstract_state: TrainState
    init: Callable[[Array], TrainState]
    enter: Callable[[TrainState], TrainState]
    leave: Callable[[TrainState], TrainState]
    put: Callable[[dict[str, np.ndarray]], Batch]
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]
    lower: Callable[[], Any]


def make_runner(config: Config, tx: optax.GradientTransformation, mesh: Mesh) -> Runner:
    """Places the step of a config on a mesh; nothing is compiled before the first call.

    Raises:
      UserError: the batch or its tokens do not divide over the devices, or pmap is asked what
        it cannot do.
    """
    check_divides("batch_size", config.data.batch_size, mesh, config.accumulate)
    check_tokens(model_tokens(config), mesh)
    task = make_task(config)
    graphdef, _ = abstract_model(config)
    replicated, rows = NamedSharding(mesh, P()), NamedSharding(mesh, batch_spec(mesh))
    key = lambda: jax.random.key(config.seed)  # not made here: the devices may be another host's

    def init(key):
        return init_state(config, tx, init_params(config, key))

    params = abstract_params(config, mesh)
    shapes = jax.eval_shape(lambda: init(key()))
    shardings = state_shardings(shapes, jax.tree.map(lambda p: p.sharding, params), mesh)
    step = functools.partial(train_step, config=config, task=task, graphdef=graphdef, tx=tx)

    def prepare(batch, step_index):
        return task.prepare(batch, jax.random.fold_in(key(), step_index))

    def in_mesh(function):
        """Calls with the mesh in context, where activation constraints look it up."""

        def call(*args):
            with jax.set_mesh(mesh):
                return function(*args)

        return call

    jit_step = jax.jit(
        lambda state, batch: step(state, prepare(batch, state.step)),
        in_shardings=(shardings, rows),
        out_shardings=(shardings, replicated),
        donate_argnums=0,
    )
    if config.mode == "pmap":
        enter, leave, run_step = _pmap(mesh, step, in_mesh(jax.jit(prepare, out_shardings=rows)))
    else:
        enter = leave = lambda state: state
        run_step = in_mesh(jit_step)
    batch = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(*array),
        batch_shapes(config.data, config.data.batch_size),
        is_leaf=lambda x: isinstance(x, tuple),
    )
    return Runner(
        mesh=mesh,
        abstract_state=jax.tree.map(
            lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding),
            shapes,
            shardings,
        ),
        init=in_mesh(jax.jit(init, out_shardings=shardings)),
        enter=enter,
        leave=leave,
        put=functools.partial(put_batch, mesh=mesh, batch_size=config.data.batch_size),
        step=run_step,
        lower=lambda: in_mesh(jit_step.lower)(shapes, batch),
    )


def _pmap(mesh: Mesh, step: Callable, prepare: Callable) -> tuple[Callable, Callable, Callable]:
    """`enter`, `leave` and `step` for `jax.pmap`: every device holds the whole state.

    The batch is prepared under jit as one global batch, so that mixup sees the same neighbours
    as in jit mode; only the step itself is mapped over the devices of this host.
    """
    if mesh.shape["data"] != mesh.size or jax.process_count() > 1:
        raise UserError(
            "config.mode 'pmap' is plain data parallelism on one host: set config.mesh.data to "
            "-1 and its other axes to 1, or config.mode to 'jit'"
        )
    devices = list(mesh.devices.flat)
    mapped = jax.pmap(
        functools.partial(step, axis_name="batch"),
        axis_name="batch",
        donate_argnums=0,
        devices=devices,
    )
    replicated = NamedSharding(mesh, P())
    copies = NamedSharding(Mesh(np.array(devices), ("batch",)), P("batch"))

    def enter(state):
        tile = lambda x: jnp.broadcast_to(x, (len(devices), *x.shape))
        return jax.device_put(jax.tree.map(tile, state), copies)

    def leave(state):
        first = lambda x: jax.device_put(np.asarray(x[0]), replicated)
        return jax.tree.map(first, state)

    def pmap_step(state, batch):
        split = lambda x: x.reshape(len(devices), -1, *x.shape[1:])
        batch = prepare(batch, jax.device_put(state.step[0], replicated))
        state, metrics = mapped(state, jax.device_put(jax.tree.map(split, batch), copies))
        return state, jax.tree.map(lambda x: x[0], metrics)

    return enter, leave, pmap_step


def state_shardings(shapes: TrainState, param_sharding: Params, mesh: Mesh) -> Any:
    """Shardings of a whole state: what mirrors a parameter lies where the parameter lies.

    Averages and optimizer moments have a parameter's path at the end of their own, and its shape;
    whatever else there is (counts, factored statistics) is replicated.
    """
    replicated = NamedSharding(mesh, P())
    by_path = dict(jax.tree_util.tree_leaves_with_path(param_sharding))
    param_shapes = dict(jax.tree_util.tree_leaves_with_path(shapes.params))

    def place(path, leaf):
        for tail in (path[start:] for start in range(len(path))):
            if tail in by_path and param_shapes[tail].shape == leaf.shape:
                return by_path[tail]
        return replicated

    return jax.tree_util.tree_map_with_path(place, shapes)
