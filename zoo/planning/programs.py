"""The programs that are planned, compiled for devices that need not be there."""

import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from zoo.config import UserError
from zoo.config.decoder import DecoderConfig
from zoo.config.schema import Config
from zoo.config.sizes import row_tokens
from zoo.evaluation.evaluate import eval_batch_size, make_evaluator
from zoo.inference.decoding import cast, lower_step
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import abstract_model, abstract_params
from zoo.training.optimizer import make_optimizer
from zoo.training.runner import make_runner

# v5p, v6e and TPU7x leave look-ups, their gradients and collectives to their SparseCores, beside
# the other work, and JAX cannot read the text of such a program. Without these options of the
# compiler the TensorCores do it, as on other chips.
SPARSE_CORE = dict.fromkeys(
    (
        "xla_tpu_offload_gather_to_sparsecore",
        "xla_tpu_enable_offloading_scatter_to_sparsecore",
        "xla_tpu_enable_sparse_core_collective_offload_all_gather",
        "xla_tpu_enable_sparse_core_collective_offload_all_reduce",
        "xla_tpu_enable_sparse_core_collective_offload_reduce_scatter",
        "xla_tpu_enable_sparse_core_collective_offload_nd_reduce_scatter",
    ),
    False,
)


class Compiled(NamedTuple):
    """What came out.

    Attributes:
      executable: as `jax.stages.Compiled`.
      held: bytes of a device that stay from step to step, by class.
      seconds: of CPU time.
    """

    executable: Any
    mesh: Mesh
    held: dict[str, int]
    seconds: float


def compile_training(config: Config, devices: Any) -> Compiled:
    """A step of `zoo train`."""
    mesh = make_mesh(config.mesh, devices)
    # The learning rate is a number that a step computes: its schedule changes nothing that counts.
    schedule = optax.constant_schedule(config.optimizer.lr)
    tx = make_optimizer(config.optimizer, abstract_params(config, mesh), schedule)
    runner = make_runner(config, tx, mesh)
    state = runner.abstract_state
    held = {"parameters": _bytes(state.params), "optimizer": _bytes(state.opt_state)}
    held |= {"averages": _bytes(state.ema)} if config.ema_decay else {}
    return _compile(runner.lower, mesh, held)


def compile_evaluation(config: Config, devices: Any) -> Compiled:
    """A batch of `zoo eval`."""
    mesh = make_mesh(config.mesh, devices)
    params = abstract_params(config, mesh)
    evaluator = make_evaluator(config, mesh)
    return _compile(lambda: evaluator.lower(params), mesh, {"parameters": _bytes(params)})


def compile_decoding(config: Config, devices: Any) -> Compiled:
    """A token more of each row of an evaluation batch, as `zoo generate` writes it.

    Raises:
      UserError: another model than a decoder, or more than one device.
    """
    if not isinstance(config.model, DecoderConfig):
        raise UserError("--program decode is for decoder-only language models")
    if len(devices) > 1:
        raise UserError("zoo generate works on one device: plan decoding for v5e:1x1 or the like")
    mesh = Mesh(devices, ("data",))
    here = NamedSharding(mesh, P())
    graphdef, state = abstract_model(config)
    dtype = config.model.dtype
    params = jax.eval_shape(lambda params: cast(params, dtype), nnx.to_pure_dict(state))
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), params)
    rows, length = eval_batch_size(config), row_tokens(config) or 0
    cfg = config.model
    cache = 2 * cfg.depth * rows * length * cfg.num_kv_heads * cfg.head_size
    held = {"parameters": _bytes(params), "cache": cache * jnp.dtype(dtype).itemsize}
    lower = lambda: lower_step(graphdef, params, here, rows=rows, length=length)
    return _compile(lower, mesh, held)


def _compile(lower: Any, mesh: Mesh, held: dict[str, int]) -> Compiled:
    options = SPARSE_CORE if mesh.devices.flat[0].platform == "tpu" else None
    start = time.process_time()
    with jax.set_mesh(mesh):
        executable = lower().compile(compiler_options=options)
    return Compiled(executable, mesh, held, time.process_time() - start)


def _bytes(tree: Any) -> int:
    """That one device holds of placed shapes."""
    shard = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return sum(shard(x) for x in jax.tree.leaves(tree))
