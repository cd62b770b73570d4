"""`zoo plan --mesh auto`: which mesh, remat policy and microbatches are fastest and fit.

A cheap model guesses the memory and the time of every layout; the compiler judges those that it
puts first. What the guess leaves out is the same for all layouts, or small.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from zoo.config import UserError
from zoo.config.base import Remat
from zoo.config.schema import Config, MeshConfig
from zoo.config.sizes import model_tokens, num_params, row_macs
from zoo.planning.chips import Chip
from zoo.planning.plan import DoesNotFit, Plan, filled, plan, told
from zoo.planning.topology import chip_of, describe

TRIES = 4  # layouts that are compiled
SAME_MESH = 2  # of these with the same mesh
MICROBATCHES = (1, 2, 4, 8)
MAX_TENSOR = 16  # more would leave too little of a layer on a device
MIN_TOKENS = 512  # of a row, on each device of a sequence axis


class TooLarge(NamedTuple):
    """A layout that does not fit, in words, and the bytes that it would need at least."""

    layout: str
    needed: int


class Guess(NamedTuple):
    """What a layout may need: peak bytes of a device, and seconds of a step."""

    bytes: float
    seconds: float


@dataclass(frozen=True)
class Found:
    """What a search compiled.

    Attributes:
      plans: that fit, the fastest first.
      too_large: those that do not.
      considered: layouts that there were.
    """

    plans: tuple[Plan, ...]
    too_large: tuple[TooLarge, ...]
    considered: int


def search(
    config: Config,
    topology: str,
    *,
    slices: int | None = None,
    examples: int | None = None,
    tries: int = TRIES,
    say: Callable[[str], None] = lambda text: None,
) -> Found:
    """Compiles the most promising layouts of a config's training step.

    Args:
      say: told of each layout before it is compiled.

    Raises:
      UserError: as `plan`; no layout divides the batch; pmap, which has one layout.
    """
    if config.mode != "jit":
        raise UserError("--mesh auto searches layouts of config.mode 'jit'; 'pmap' has only one")
    chip, slices = chip_of(topology), slices or config.mesh.slices
    config = filled(config)
    num_devices = len(describe(topology, slices))
    every = [(guess(one, chip, num_devices), one) for one in layouts(config, num_devices, slices)]
    if not every:
        raise UserError(
            f"config.data.batch_size {config.data.batch_size} divides over no mesh of "
            f"{num_devices} devices: set it to a multiple of them"
        )
    plans: list[Plan] = []
    too_large: list[TooLarge] = []
    tried: list[tuple[Guess, Config]] = []
    wrong = 1.0  # how many times more than was guessed the compiler needed
    while len(tried) < (tries if plans else 2 * tries):
        promising = most_promising(every, chip.hbm / wrong, tried)
        if promising is None:
            break
        tried.append(promising)
        guessed, layout = promising
        say(told(layout))
        try:
            plans.append(plan(layout, topology, slices=slices, examples=examples))
        except DoesNotFit as error:
            too_large.append(TooLarge(told(layout), error.needed))
            wrong = max(wrong, error.needed / guessed.bytes)
    plans.sort(key=lambda one: one.step_s)
    return Found(tuple(plans), tuple(too_large), len(every))


def most_promising(
    every: Sequence[tuple[Guess, Config]], room: float, tried: Sequence[tuple[Guess, Config]]
) -> tuple[Guess, Config] | None:
    """The layout to compile next: of those that may fit in `room`, the one guessed fastest.

    A mesh is tried twice at most, and with more microbatches only where fewer do not fit.
    """
    meshes = Counter(one.mesh for _, one in tried)
    fitted = {(one.mesh, one.model.remat) for guessed, one in tried if guessed.bytes <= room}
    left = [pair for pair in every if pair not in tried]
    fits = [
        (guessed, one)
        for guessed, one in left
        if guessed.bytes <= room
        and meshes[one.mesh] < SAME_MESH
        and (one.mesh, one.model.remat) not in fitted
    ]
    if fits:
        return min(fits, key=lambda pair: (pair[0].seconds, pair[1].accumulate))
    return min(left, key=lambda pair: pair[0].bytes, default=None)


def layouts(config: Config, num_devices: int, slices: int) -> Iterator[Config]:
    """Every way to lay a config out that divides its batch, heads and tokens."""
    model, batch = config.model, config.data.batch_size
    heads = math.gcd(model.num_heads, getattr(model, "num_kv_heads", 0))
    tensors = [n for n in _divisors(math.gcd(heads, model.mlp_dim)) if n <= MAX_TENSOR]
    lengths = list(model_tokens(config).values())
    sequences = [n for n in _divisors(math.gcd(*lengths)) if min(lengths) // n >= MIN_TOKENS]
    per_slice = num_devices // slices
    for tensor in tensors:
        for sequence in sequences or [1]:
            if per_slice % (tensor * sequence):
                continue
            shards = per_slice // (tensor * sequence)
            for fsdp in _divisors(shards):
                mesh = MeshConfig(
                    slices=slices,
                    data=shards // fsdp,
                    fsdp=fsdp,
                    tensor=tensor,
                    sequence=sequence,
                )
                for accumulate in MICROBATCHES:
                    if batch % (slices * shards * accumulate):
                        continue
                    for remat in get_args(Remat):
                        changed: Any = model.replace(remat=remat)
                        yield config.replace(mesh=mesh, model=changed, accumulate=accumulate)


def guess(config: Config, chip: Chip, num_devices: int) -> Guess:
    """What a layout may need, from closed formulas alone."""
    model, mesh = config.model, config.mesh
    size = 2 if model.dtype == "bfloat16" else 4  # bytes of an activation
    D, F = model.width, model.mlp_dim
    depth = model.depth + getattr(model, "decoder_depth", 0)
    rows = config.data.batch_size / (mesh.slices * mesh.data * mesh.fsdp)
    tokens = rows * sum(model_tokens(config).values()) / mesh.sequence  # of a device

    # Numbers that a layer keeps of a token for its backward pass.
    kept = {"none": 8 * D + 2 * F, "attention": 7 * D + 2 * F, "dots": 5 * D + F, "full": 0}
    layer = tokens / config.accumulate * size
    stored = depth * layer * (D + kept[model.remat] / mesh.tensor)
    working = layer * (D + kept["none"] / mesh.tensor)
    params = num_params(config)
    split = params / (mesh.fsdp * mesh.tensor)
    state = 4 * split * (3 + (config.ema_decay is not None))
    gathered = params / mesh.tensor / max(depth, 1) * (2 * size + 4) if mesh.fsdp > 1 else 0.0
    peak = state + 4 * split + stored + working + gathered

    again = {"none": 1.0, "attention": 1.02, "dots": 1.05, "full": 4 / 3}[model.remat]
    compute = 6 * row_macs(config) * config.data.batch_size / num_devices * again / chip.flops
    moved = 3 * config.accumulate * (stored + depth * working) + 6 * state
    # Of a ring of n, each sends this share of what is gathered, and twice that of what is added.
    share = lambda n: (n - 1) / n
    micro = config.accumulate
    links = micro * share(mesh.fsdp) * params / mesh.tensor * (2 * size + 2 * size)
    links += micro * 2 * share(mesh.data) * split * 4
    reductions = 6 if model.remat == "full" else 4
    links += depth * reductions * 2 * share(mesh.tensor) * tokens * D * size
    kv = getattr(model, "num_kv_heads", model.num_heads) / model.num_heads
    passes = 3 if model.remat == "full" else 2
    links += depth * passes * 2 * (mesh.sequence - 1) * tokens * D * kv * size / mesh.tensor
    links += 2 * share(mesh.sequence) * split * 4 * micro
    network = micro * 2 * share(mesh.slices) * split * 4 / mesh.data
    waits = (links / (2 * chip.link_rate), network / (chip.network_rate or math.inf))
    return Guess(peak, max(compute + moved / chip.hbm_rate, *waits))


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
