"""`zoo plan`: a config's program compiled for a TPU pod that need not be there."""

import collections
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

import zoo
from zoo.config import UserError
from zoo.config.data import ImageData, TextData
from zoo.config.decoder import DecoderConfig, published_vocab_size, token_macs
from zoo.config.duration import Clock, parse_duration
from zoo.config.load import to_dict as config_dict
from zoo.config.places import cache_dir
from zoo.config.schema import Config, MeshConfig
from zoo.config.sizes import num_params, row_macs, row_tokens, target_tokens
from zoo.config.vit import ViTConfig
from zoo.planning.chips import CHIPS, Chip
from zoo.planning.program import Costs, Operation, axes_of, parse
from zoo.planning.topology import chip_of, describe

SHOWN = 60  # operations that a plan keeps, the longest


@dataclass(frozen=True)
class Traffic:
    """The collectives of one kind along one set of mesh axes, in a step."""

    kind: str  # all-reduce, all-gather, reduce-scatter, all-to-all or collective-permute
    axes: tuple[str, ...]  # () where the groups are no whole axes
    link: str  # "links" within a slice, "network" between slices
    times: int
    wire_bytes: float  # that one device sends
    seconds: float  # modelled


@dataclass(frozen=True)
class Plan:
    """What is known of a program before it runs; a device's share, in bytes and seconds.

    XLA says: the memory and the collectives. Modelled: all times, and the bytes of kernels, which
    are what their authors state.

    Attributes:
      program: train or evaluate: one step on a whole batch; decode: one token more of each row of
        an evaluation batch, whose cache holds `config.data.length` tokens.
      layout: the keys of the config that say how it is laid out; `layout_text`: in words.
      memory: by class; the last is what the peak has besides the others.
      parts: all operations, added up by phase and kind.
      operations: the longest ones.
      roofline_s: each operation's FLOPs or bytes, whichever takes longer.
      step_s: the least that a step can take: the roofline, or the links if they take longer.
      limit: compute, memory, links or network.
      mfu: of the model's FLOPs in `step_s`: no run can have more.
    """

    program: str
    topology: str
    slices: int
    num_chips: int
    mesh: dict[str, int]
    layout: dict[str, Any]
    layout_text: str
    num_params: int
    memory: dict[str, int]
    peak_bytes: int
    hbm_bytes: int
    model_flops: float
    executed_flops: int
    moved_bytes: int
    hbm_moved_bytes: int
    traffic: tuple[Traffic, ...]
    parts: tuple[Operation, ...]
    operations: tuple[Operation, ...]
    roofline_s: float
    links_s: float
    network_s: float
    step_s: float
    limit: str
    mfu: float
    examples_per_s: float
    tokens_per_s: float | None
    compile_s: float  # of CPU time
    total_steps: int | None = None
    hours: float | None = None
    chip_hours: float | None = None

    @property
    def fits(self) -> bool:
        """Whether a device's memory holds it."""
        return self.peak_bytes <= self.hbm_bytes


class DoesNotFit(UserError):
    """The compiler found no program that a device's memory holds; `needed`: bytes, at least."""

    def __init__(self, config: Config, topology: str, chip: Chip, needed: int):
        self.needed = needed
        super().__init__(
            f"{needed / 2**30:.1f} GiB are needed and {topology} has {chip.hbm / 2**30:.0f} a "
            f"device ({told(config)}): split more (--config.mesh.fsdp=-1), recompute more "
            "(--config.model.remat=full), take more microbatches (--config.accumulate=2), or let "
            "--mesh auto search"
        )


def plan(
    config: Config,
    topology: str,
    *,
    slices: int | None = None,
    program: str = "train",
    examples: int | None = None,
) -> Plan:
    """Compiles a program of a config for a topology; nothing is run or allocated.

    What was compiled is kept in the cache (`$ZOO_CACHE`, else `~/.cache/zoo`) until Zoo's own code,
    JAX or libtpu changes.

    Args:
      topology: such as `v5e:4x4`, of one slice; its generation is one of `CHIPS`.
      slices: of the pod; default: `config.mesh.slices`.
      program: train, evaluate or decode, see `Plan`.
      examples: of the training split, where the config's `total` is in epochs.

    Raises:
      UserError: an unknown topology, a mesh or a batch that does not fit it, a model whose sizes
        only its data tells, no libtpu, or decoding that is not by a decoder on one chip.
      DoesNotFit: it takes more memory than a device has.
    """
    chip = chip_of(topology)
    slices = slices or config.mesh.slices
    if slices < 1:
        raise UserError("config.mesh.slices -1 takes what is left: say how many, with --slices N")
    if slices > 1 and chip.network_rate is None:
        known = ", ".join(name for name, one in CHIPS.items() if one.network_rate)
        raise UserError(
            f"the network between slices of {topology} has no published rate: plan one slice, or "
            f"slices of {known}"
        )
    config = filled(config.replace(mesh=config.mesh.replace(slices=slices)))
    place = _place(config, topology, program)
    try:
        found = msgspec.json.decode(place.read_bytes(), type=Plan)
    except (OSError, msgspec.DecodeError):
        found = _compile(config, topology, chip, program)
        place.parent.mkdir(parents=True, exist_ok=True)
        whole = place.with_suffix(f".{os.getpid()}")
        whole.write_bytes(msgspec.json.encode(found))
        whole.rename(place)
    total = total_steps(config, examples) if program == "train" else None
    if total is None:
        return found
    hours = total * found.step_s / 3600
    return dataclasses.replace(
        found, total_steps=total, hours=hours, chip_hours=hours * found.num_chips
    )


def _place(config: Config, topology: str, program: str) -> Path:
    """The file of the cache that holds this plan, named by all that it depends on."""
    versions = [importlib.metadata.version(name) for name in ("jax", "flax", "optax")]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # `describe` says so
        versions.append(importlib.metadata.version("libtpu"))
    key = json.dumps([config_dict(config), topology, program, versions, _own_code()])
    return cache_dir() / "plans" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


@cache
def _own_code() -> str:
    """A checksum of Zoo's own files, but for those above the planner: it imports none of them."""
    root = Path(zoo.__file__).parent
    rooms = ("commands", "experiment", "reproduction")
    above = {root / "cli.py", *(file for room in rooms for file in (root / room).rglob("*.py"))}
    found = hashlib.sha256()
    for file in sorted({*root.rglob("*.py")} - above):
        found.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return found.hexdigest()


def _compile(config: Config, topology: str, chip: Chip, program: str) -> Plan:
    """A plan without the length of the run; the config has nothing left open."""
    devices = describe(topology, config.mesh.slices)
    # These import jax, which reads its environment once.
    import jax

    from zoo.evaluation.evaluate import eval_batch_size
    from zoo.planning import programs
    from zoo.tasks.build import check_model

    check_model(config)
    compile_it = {
        "train": programs.compile_training,
        "evaluate": programs.compile_evaluation,
        "decode": programs.compile_decoding,
    }[program]
    try:
        made = compile_it(config, devices)
    except jax.errors.JaxRuntimeError as error:
        needed = re.search(r"\(([\d.]+)([KMGT])\) exceeds available HBM", str(error))
        if needed is None:
            raise
        size = float(needed[1]) * 2.0 ** (10 * ("KMGT".index(needed[2]) + 1))
        raise DoesNotFit(config, topology, chip, int(size)) from None
    costs = Costs(parse(made.executable.as_text()), chip)
    peak = made.executable.memory_analysis().peak_memory_in_bytes
    memory = {**made.held, "activations and temporaries": peak - sum(made.held.values())}

    sizes = dict(made.mesh.shape)
    config = config.replace(mesh=MeshConfig(**sizes))  # what was -1 is known now
    sums: dict[tuple, list[float]] = collections.defaultdict(lambda: [0, 0.0])
    for one in costs.collectives:
        permuted = one.kind == "collective-permute"
        axes = axes_of(one.groups, sizes, pairs=permuted)
        entry = sums[one.kind, axes, "network" if "slices" in axes else "links"]
        entry[0] += one.times
        entry[1] += one.wire_bytes
    # A ring sends both ways at once.
    rates = {"links": 2 * chip.link_rate, "network": chip.network_rate or math.inf}
    traffic = tuple(
        Traffic(kind, axes, link, int(times), sent, sent / rates[link])
        for (kind, axes, link), (times, sent) in sorted(sums.items(), key=lambda item: -item[1][1])
    )
    waits = {link: sum([one.seconds for one in traffic if one.link == link], 0.0) for link in rates}
    step = max(costs.roofline_s, *waits.values())
    batch = config.data.batch_size if program == "train" else eval_batch_size(config)
    tokens, macs = row_tokens(config), row_macs(config)
    if program == "decode":
        assert isinstance(config.model, DecoderConfig)
        macs, tokens = token_macs(config.model, tokens or 0), 1
    model_flops = (6 if program == "train" else 2) * macs * batch / len(devices)
    return Plan(
        program=program,
        topology=topology,
        slices=config.mesh.slices,
        num_chips=len(devices) // chip.per_chip,
        mesh=sizes,
        layout=layout_of(config),
        layout_text=told(config),
        num_params=num_params(config),
        memory=memory,
        peak_bytes=peak,
        hbm_bytes=int(chip.hbm),
        model_flops=model_flops,
        executed_flops=costs.flops,
        moved_bytes=costs.bytes,
        hbm_moved_bytes=costs.hbm_bytes,
        traffic=traffic,
        parts=_sums(costs.operations),
        operations=tuple(sorted(costs.operations, key=lambda one: -one.seconds)[:SHOWN]),
        roofline_s=costs.roofline_s,
        links_s=waits["links"],
        network_s=waits["network"],
        step_s=step,
        limit=limit_of(chip, costs.flops, costs.roofline_s, waits),
        mfu=model_flops / chip.flops / step,
        examples_per_s=batch / step,
        tokens_per_s=None if tokens is None else batch * tokens / step,
        compile_s=made.seconds,
    )


def _sums(operations: list[Operation]) -> tuple[Operation, ...]:
    """Added up by phase and kind, the longest first."""
    sums: dict[tuple[str, str], list[Any]] = collections.defaultdict(lambda: [0, 0, 0.0])
    for one in operations:
        entry = sums[one.phase, one.kind]
        for i, value in enumerate((one.flops, one.bytes, one.seconds)):
            entry[i] += value
    parts = (Operation(phase, kind, *entry) for (phase, kind), entry in sums.items())
    return tuple(sorted(parts, key=lambda part: -part.seconds))


def told(config: Config) -> str:
    """How a config is laid out, in a few words."""
    sizes = msgspec.structs.asdict(config.mesh).items()
    mesh = ", ".join(f"{axis} {size}" for axis, size in sizes if size != 1) or "one device"
    micro = f", {config.accumulate} microbatches" if config.accumulate > 1 else ""
    return f"{mesh}; remat {config.model.remat}{micro}"


def layout_of(config: Config) -> dict[str, Any]:
    """The keys that say how a config is laid out, as `--config.KEY=VALUE` takes them."""
    mesh = {f"mesh.{axis}": size for axis, size in msgspec.structs.asdict(config.mesh).items()}
    return {**mesh, "model.remat": config.model.remat, "accumulate": config.accumulate}


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


def limit_of(chip: Chip, flops: int, roofline_s: float, waits: dict[str, float]) -> str:
    """What a step waits for most: links, the network, or what its roofline mostly is."""
    slowest = max(waits, key=lambda link: waits[link])
    if waits[slowest] > roofline_s:
        return slowest
    return "compute" if flops / chip.flops > roofline_s / 2 else "memory"


def to_dict(found: Plan) -> dict[str, Any]:
    """For JSON."""
    return {**dataclasses.asdict(found), "fits": found.fits}
