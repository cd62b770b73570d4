"""`zoo plan`: a config's training step compiled for a TPU pod that need not be there."""

import collections
import dataclasses
import math
import os
import re
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from zoo.config import UserError
from zoo.config.data import ImageData, TextData
from zoo.config.decoder import DecoderConfig, published_vocab_size
from zoo.config.duration import Clock, parse_duration
from zoo.config.schema import Config
from zoo.config.sizes import num_params, row_macs, row_tokens, target_tokens
from zoo.config.vit import ViTConfig
from zoo.planning.chips import CHIPS, Chip

# libtpu looks for a TPU's host, and tells at length that there is none.
WITHOUT_TPU = {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
TOPOLOGY = re.compile(r"(\w+):\d+x\d+(?:x\d+)?")


@dataclass(frozen=True)
class Traffic:
    """The collectives of one kind along one set of mesh axes, in a step."""

    kind: str  # all-reduce, all-gather, reduce-scatter, all-to-all or collective-permute
    axes: tuple[str, ...]  # () where the groups are no whole axes
    times: int
    wire_bytes: float  # that one device sends
    seconds: float  # modelled


@dataclass(frozen=True)
class Plan:
    """What is known of a training step before it runs; a device's share, in bytes and seconds.

    XLA says: the memory and the collectives. Modelled: all times, and the bytes of kernels, which
    are what their authors state.

    Attributes:
      memory: by class; the last is what the peak has besides the others.
      roofline_s: each operation's FLOPs or bytes, whichever takes longer.
      step_s: the least that a step can take: the roofline, or the links if they take longer.
      limit: compute, memory or links.
      mfu: of the model's FLOPs in `step_s`: no run can have more.
    """

    topology: str
    num_chips: int
    mesh: dict[str, int]
    num_params: int
    memory: dict[str, int]
    peak_bytes: int
    hbm_bytes: int
    model_flops: float
    executed_flops: int
    moved_bytes: int
    hbm_moved_bytes: int
    traffic: tuple[Traffic, ...]
    roofline_s: float
    links_s: float
    step_s: float
    limit: str
    mfu: float
    examples_per_s: float
    tokens_per_s: float | None
    total_steps: int | None
    hours: float | None
    chip_hours: float | None
    compile_s: float  # of CPU time

    @property
    def fits(self) -> bool:
        """Whether a device's memory holds it."""
        return self.peak_bytes <= self.hbm_bytes


def plan(config: Config, topology: str, *, examples: int | None = None) -> Plan:
    """Compiles the training step of a config for a topology; nothing is run or allocated.

    Args:
      topology: such as `v5e:4x4`; its generation is one of `CHIPS`.
      examples: of the training split, where the config's `total` is in epochs.

    Raises:
      UserError: an unknown topology, a mesh or a batch that does not fit it, a model whose sizes
        only its data tells, or no libtpu.
    """
    chip = chip_of(topology)
    slices = config.mesh.slices
    if slices < 1:
        raise UserError("config.mesh.slices -1 takes what is left: say how many, with --slices N")
    if slices > 1 and chip.dcn_rate is None:
        known = ", ".join(name for name, other in CHIPS.items() if other.dcn_rate)
        raise UserError(
            f"--topology {topology!r}: how fast its slices talk to each other is not published; "
            f"plan one slice, or several of {known}"
        )
    devices = describe(topology, slices)
    # These import jax, which reads its environment once.
    import jax

    from zoo.planning.program import Costs, axes_of, parse
    from zoo.tasks.build import check_model

    check_model(config)
    config = filled(config)
    runner, compiled, seconds = compile_step(config, devices)
    analysis, costs = compiled.memory_analysis(), Costs(parse(compiled.as_text()), chip)
    peak = analysis.peak_memory_in_bytes

    def held(tree) -> int:
        shard = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        return sum(shard(x) for x in jax.tree.leaves(tree))

    state = runner.abstract_state
    memory = {"parameters": held(state.params), "optimizer": held(state.opt_state)}
    memory |= {"averages": held(state.ema)} if config.ema_decay else {}
    memory["activations and temporaries"] = peak - sum(memory.values())

    sizes = dict(runner.mesh.shape)
    sums: dict[tuple[str, tuple[str, ...]], list[float]] = collections.defaultdict(lambda: [0, 0.0])
    for one in costs.collectives:
        permuted = one.kind == "collective-permute"
        entry = sums[one.kind, axes_of(one.groups, sizes, pairs=permuted)]
        entry[0] += one.times
        entry[1] += one.wire_bytes
    # A ring sends both ways at once; between slices is a network.
    inside, between = 2 * chip.link_rate, chip.dcn_rate or math.inf
    traffic = tuple(
        Traffic(kind, axes, int(times), sent, sent / (between if "slices" in axes else inside))
        for (kind, axes), (times, sent) in sorted(sums.items(), key=lambda item: -item[1][1])
    )
    links = sum(one.seconds for one in traffic)
    step = max(costs.roofline_s, links)
    batch, tokens = config.data.batch_size, row_tokens(config)
    model_flops = 6 * row_macs(config) * batch / len(devices)
    total, num_chips = total_steps(config, examples), len(devices) // chip.per_chip
    hours = None if total is None else total * step / 3600
    return Plan(
        topology=topology,
        num_chips=num_chips,
        mesh=sizes,
        num_params=num_params(config),
        memory=memory,
        peak_bytes=peak,
        hbm_bytes=int(chip.hbm),
        model_flops=model_flops,
        executed_flops=costs.flops,
        moved_bytes=costs.bytes,
        hbm_moved_bytes=costs.hbm_bytes,
        traffic=traffic,
        roofline_s=costs.roofline_s,
        links_s=links,
        step_s=step,
        limit=limit_of(chip, costs.flops, costs.roofline_s, links),
        mfu=model_flops / chip.flops / step,
        examples_per_s=batch / step,
        tokens_per_s=None if tokens is None else batch * tokens / step,
        total_steps=total,
        hours=hours,
        chip_hours=None if hours is None else hours * num_chips,
        compile_s=seconds,
    )


def compile_step(config: Config, devices: Any) -> tuple[Any, Any, float]:
    """The runner of a config with nothing left open, its compiled step, and the CPU seconds."""
    import optax

    from zoo.sharding.mesh import make_mesh
    from zoo.tasks.build import abstract_params
    from zoo.training.optimizer import make_optimizer
    from zoo.training.runner import make_runner

    mesh = make_mesh(config.mesh, devices)
    # The learning rate is a number that a step computes: its schedule changes nothing that counts.
    schedule = optax.constant_schedule(config.optimizer.lr)
    tx = make_optimizer(config.optimizer, abstract_params(config, mesh), schedule)
    runner = make_runner(config, tx, mesh)
    start = time.process_time()
    compiled = runner.lower().compile()
    return runner, compiled, time.process_time() - start


def chip_of(topology: str) -> Chip:
    """The device of a topology.

    Raises:
      UserError: it is not written as one, or of no generation that there is.
    """
    match = TOPOLOGY.fullmatch(topology)
    if match is None or match[1] not in CHIPS:
        raise UserError(
            f"--topology {topology!r}: write a generation ({', '.join(CHIPS)}) and its chips by "
            "axis, such as v5e:4x4 or v5p:4x4x4"
        )
    return CHIPS[match[1]]


def describe(topology: str, slices: int = 1) -> Any:
    """The devices of so many slices of a topology, as libtpu describes them.

    Raises:
      UserError: libtpu is missing, or knows no such pod.
    """
    os.environ |= WITHOUT_TPU
    import jax
    from jax.experimental import topologies

    if find_spec("libtpu") is None:
        raise UserError("the TPU compiler is not installed: pip install '.[tpu]'")
    # On v4 a chip has two cores, which work as one device.
    options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
    options |= {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--topology {topology!r}: libtpu knows no such pod ({reason})") from None
    return found.devices


def filled(config: Config) -> Config:
    """What a run would take from its data, from the config alone.

    Raises:
      UserError: a number that only the data knows.
    """
    data, vit = config.data, config.model
    if isinstance(vit, ViTConfig):
        assert isinstance(data, ImageData)
        _known(vit.num_classes, "num_classes", "the data's classes")
        size = vit.image_size or data.image_size
        return config.replace(model=vit.replace(image_size=size, channels=data.channels))
    assert isinstance(data, TextData)
    model: Any = config.model
    vocab_size = model.vocab_size
    if isinstance(config.model, DecoderConfig) and config.model.size:
        vocab_size = vocab_size or published_vocab_size(config.model.size)
    changes = {"vocab_size": _known(vocab_size, "vocab_size", "the tokenizer")}
    if hasattr(model, "max_length"):
        changes["max_length"] = model.max_length or max(data.length, target_tokens(data))
    if getattr(model, "has_classes", False):
        _known(model.num_classes, "num_classes", "the data's classes")
    return config.replace(model=model.replace(**changes))


def _known(value: int | None, name: str, source: str) -> int:
    if not value:
        raise UserError(f"config.model.{name} comes from {source}, not read here: set it")
    return value


def total_steps(config: Config, examples: int | None) -> int | None:
    """Steps of the whole run; None where only the size of the data tells."""
    tokens, batch = row_tokens(config), config.data.batch_size
    if parse_duration(config.total)[1] == "epochs" and examples is None:
        return None
    clock = Clock(batch, examples or 0, None if tokens is None else tokens * batch)
    return clock.steps(config.total)


def limit_of(chip: Chip, flops: int, roofline_s: float, links_s: float) -> str:
    """What a step waits for most: links, else what more than half of its roofline is."""
    if links_s > roofline_s:
        return "links"
    return "compute" if flops / chip.flops > roofline_s / 2 else "memory"


def to_dict(found: Plan) -> dict[str, Any]:
    """For JSON."""
    return {**dataclasses.asdict(found), "fits": found.fits}


def lines(found: Plan) -> list[str]:
    """For people."""
    gib, gb = 2**30, 1e9
    axes = [f"{axis} {size}" for axis, size in found.mesh.items() if size > 1]
    mesh = ", ".join(axes) or "of one"
    slices = found.mesh["slices"]
    pod = found.topology if slices == 1 else f"{slices} slices of {found.topology}"
    fits = "fits" if found.fits else "does NOT fit"
    told = [
        f"{pod}: {found.num_chips} chips, mesh {mesh}; {found.num_params:,} parameters",
        "",
        f"memory of a device: {fits}",
        f"  {'peak':<34}{found.peak_bytes / gib:8.2f} GiB of {found.hbm_bytes / gib:.0f}",
        *(f"  {name:<34}{size / gib:8.2f} GiB" for name, size in found.memory.items()),
        "",
        "a step, by the compiler's program and a model of its time: never measured",
        f"  {'at least':<34}{1e3 * found.step_s:8.1f} ms, limited by {found.limit}",
        f"  {'operations, roofline':<34}{1e3 * found.roofline_s:8.1f} ms",
        f"  {'links':<34}{1e3 * found.links_s:8.1f} ms",
        f"  {'executed':<34}{found.executed_flops / 1e12:8.2f} TFLOP a device",
        f"  {'of the model':<34}{found.model_flops / 1e12:8.2f} TFLOP, MFU {found.mfu:.0%} at most",
        f"  {'moved':<34}{found.moved_bytes / gb:8.1f} GB, "
        f"{found.hbm_moved_bytes / gb:.1f} of them to HBM",
        f"  {'examples':<34}{found.examples_per_s:8,.0f} a second",
    ]
    if found.tokens_per_s is not None:
        told.append(f"  {'tokens':<34}{found.tokens_per_s:8,.0f} a second")
    if found.traffic:
        told += ["", "collectives of a step, bytes that a device sends"]
    for one in found.traffic:
        name = f"{one.kind} over {' and '.join(one.axes) or 'parts of axes'}"
        told.append(
            f"  {name:<34}{one.wire_bytes / gb:8.2f} GB, {one.times:,} times, "
            f"{1e3 * one.seconds:.1f} ms"
        )
    told.append("")
    if found.total_steps is None:
        return [*told, "the whole run: its total is in epochs, so give --examples N"]
    return [
        *told,
        f"the whole run: {found.total_steps:,} steps, {found.hours:,.1f} hours, "
        f"{found.chip_hours:,.0f} chip-hours at least",
    ]
