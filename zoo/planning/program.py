"""What a program that XLA compiled for a TPU says about itself, read from its HLO text.

XLA's own `cost_analysis()` counts a loop's body once, and its `optimal_seconds` gives every
ConcatBitcast -1 s; here loops are multiplied by their trip counts. Times are the compiler's
models, never measured: compare programs by them, do not quote them as speeds.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from zoo.planning.chips import Chip

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4}
_BYTES |= {"s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
# They move nothing by themselves, or what they move is counted where it is used.
_FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "call"}
_FREE |= {"after-all", "iota", "conditional", "send", "recv"}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    rest: str  # operands and attributes

    @property
    def operands(self) -> list[str]:
        """Names of the operands: what stands before the first attribute."""
        return re.findall(r"%([\w.\-]+)", self.rest.split("), ")[0])

    def attribute(self, name: str) -> str | None:
        """The computation that an attribute such as `body` names."""
        found = re.search(rf"\b{name}=%([\w.\-]+)", self.rest)
        return found[1] if found else None

    def number(self, name: str) -> int:
        """A number of the backend's configuration, such as `estimated_cycles`; 0 without it."""
        found = re.search(rf'"?{name}"?:"(\d+)"', self.rest)
        return int(found[1]) if found else 0

    @property
    def phase(self) -> str:
        """Forward, recomputed, backward or update, by the name that JAX's tracing gave it.

        What the compiler added by itself, such as a copy, is unnamed.
        """
        found = re.search(r'op_name="(jit\([^"]*)"', self.rest)
        if found is None:
            return "unnamed"
        name = found[1]
        if "rematted_computation" in name:
            return "recomputed"
        if "transpose(" in name:
            return "backward"
        return "forward" if "jvp(" in name else "update"

    @property
    def collective(self) -> str | None:
        """Which of COLLECTIVES it is, or starts; None if it is none.

        What slices of TPUs send each other is handed to the host, which does the rest.
        """
        kind = self.opcode.removesuffix("-start")
        if kind == "send":
            between = re.search(r'_xla_megascale_transfer_type="(\w+)"', self.rest)
            kind = between[1].lower().replace("_", "-") if between else kind
        return kind if kind in COLLECTIVES else None

    @property
    def is_kernel(self) -> bool:
        """Whether it is a Pallas kernel, which knows of itself what its author wrote down."""
        return 'custom_call_target="tpu_custom_call"' in self.rest


@dataclass
class Program:
    """A parsed module."""

    computations: dict[str, list[Instruction]] = field(default_factory=dict)
    entry: str = ""

    def walk(self, name: str | None = None, times: int = 1) -> Iterator[tuple[Instruction, int]]:
        """Every instruction that runs, and how often; the insides of fusions are left out."""
        for instruction in self.computations[name or self.entry]:
            yield instruction, times
            if instruction.opcode == "while":
                condition = instruction.attribute("condition") or ""
                yield from self.walk(instruction.attribute("body"), times * self.trips(condition))
            elif instruction.opcode == "call":
                yield from self.walk(instruction.attribute("to_apply"), times)

    def trips(self, condition: str) -> int:
        """A loop's length: the constant that its condition compares the counter with."""
        text = " ".join(f"{i.opcode}({i.rest}" for i in self.computations[condition])
        return max((int(n) for n in re.findall(r"constant\((\d+)\)", text)), default=1)

    def inside(self, instruction: Instruction) -> list[Instruction]:
        """The instructions of a fusion or of an asynchronous operation; else none."""
        if instruction.opcode not in ("fusion", "async-start"):
            return []
        return self.computations.get(instruction.attribute("calls") or "", [])


def parse(text: str) -> Program:
    """Reads `compiled.as_text()`."""
    program, current = Program(), []
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        match = _INSTRUCTION.match(line)
        if start:
            current = program.computations.setdefault(start[2], [])
            program.entry = start[2] if start[1] else program.entry
        elif match:
            current.append(Instruction(*match.groups()))
    return program


def dims(shape: str) -> list[int]:
    """Extents of an array's shape, unpadded."""
    found = _SHAPE.search(shape)
    return [int(d) for d in found[2].split(",") if d] if found else []


def shape_bytes(shape: str, *, hbm_only: bool = False) -> int:
    """Bytes of an array or tuple, padded to its tiles; `hbm_only` skips what lies in VMEM."""
    total = 0
    for kind, extents, layout, tiling in _SHAPE.findall(shape):
        if kind not in _BYTES or (hbm_only and "S(" in tiling):
            continue
        sizes = [int(d) for d in extents.split(",") if d]
        order = [int(d) for d in layout.split(",") if d]
        tile = re.search(r"T\(([\d,]+)\)", tiling)
        if tile and order:
            for extent, dim in zip(reversed(tile[1].split(",")), order, strict=False):
                sizes[dim] = -(-sizes[dim] // int(extent)) * int(extent)
        total += math.prod(sizes) * _BYTES[kind]
    return total


@dataclass(frozen=True)
class Collective:
    """One collective operation of the program."""

    kind: str  # of COLLECTIVES
    groups: tuple[tuple[int, ...], ...]  # devices that talk to each other, by place in the mesh
    sent: int  # bytes of its operands on one device
    times: int  # that a step runs it

    @property
    def wire_bytes(self) -> float:
        """What one device sends in a step, by the ring algorithm."""
        n = max(len(group) for group in self.groups)
        share = {
            "all-gather": n - 1,
            "all-reduce": 2 * (n - 1) / n,
            "reduce-scatter": (n - 1) / n,
            "all-to-all": (n - 1) / n,
            "collective-permute": 1,
        }[self.kind]
        return float(self.times * self.sent * share)


def groups_of(attributes: str) -> tuple[tuple[int, ...], ...]:
    """The groups of devices that an operation names in one of XLA's five ways."""
    if listed := re.search(
        r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}", attributes
    ):
        groups = re.findall(r"\{([\d,]+)\}", listed[1])
        return tuple(tuple(_numbers(group)) for group in groups)
    # [groups, size]<=[dimensions]T(order): the numbers from 0 laid out so, transposed, and cut.
    if made := re.search(r"groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        shape, sizes, order = (_numbers(part) for part in made.groups())
        laid = np.arange(math.prod(sizes)).reshape(sizes).transpose(order or None)
        return tuple(map(tuple, laid.reshape(shape).tolist()))
    # mesh['a'=2,'b'=8] {'b'}: along axes of a mesh, or along a part of one, 'b':(before)size. Its
    # devices may be in another order, device_ids=([sizes]T(order)) or (numbers).
    if mesh := re.search(r"groups=mesh\[([^\]]*)\]([^{]*)\{([^}]*)\}", attributes):
        dimensions: list[tuple[int, bool]] = []
        for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1]):
            part = re.search(rf"'{name}'(?::\((\d+)\)(\d+))?", mesh[3])
            before, own = (part[1], part[2]) if part and part[2] else (1, size if part else 1)
            after = int(size) // (int(before) * int(own))
            dimensions += [(int(before), False), (int(own), True), (after, False)]
        laid = _device_ids(mesh[2], math.prod(size for size, _ in dimensions))
        laid = laid.reshape([size for size, _ in dimensions])
        along = [i for i, (_, grouped) in enumerate(dimensions) if grouped]
        last = np.moveaxis(laid, along, range(-len(along), 0))
        return tuple(map(tuple, last.reshape(-1, math.prod(laid.shape[i] for i in along)).tolist()))
    # {1,2}x{0:3}: slices, and devices of each; a group has one device of every slice.
    if between := re.search(r'megascale_target="\{([\d,]+)\}x\{0:(\d+)\}"', attributes):
        laid = np.arange(len(_numbers(between[1])) * (int(between[2]) + 1))
        return tuple(map(tuple, laid.reshape(-1, int(between[2]) + 1).T.tolist()))
    return ((0,),)


def _device_ids(text: str, count: int) -> np.ndarray:
    if laid := re.search(r"device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)", text):
        ids = np.arange(count).reshape(_numbers(laid[1]))
        return ids.transpose(_numbers(laid[2]) or None).reshape(-1)
    listed = re.search(r"device_ids=\(([\d,]+)\)", text)
    return np.array(_numbers(listed[1])) if listed else np.arange(count)


def _numbers(text: str | None) -> list[int]:
    return [int(n) for n in text.split(",")] if text else []


def axes_of(
    groups: tuple[tuple[int, ...], ...], sizes: dict[str, int], *, pairs: bool = False
) -> tuple[str, ...]:
    """The mesh axes along which groups talk; () where they are no whole axes.

    Args:
      sizes: of the mesh's axes, in its order.
      pairs: whether groups are senders and receivers: then the axes along which they differ.
    """
    places = np.stack(np.unravel_index(np.concatenate(groups), [*sizes.values()]))
    parts = np.split(places, np.cumsum([len(group) for group in groups])[:-1], axis=1)
    moved = [{int(i) for i in np.flatnonzero(np.ptp(part, axis=1))} for part in parts]
    axes = tuple(axis for i, axis in enumerate(sizes) if any(i in some for some in moved))
    whole = math.prod(sizes[axis] for axis in axes)
    if pairs or all(len(group) == whole for group in groups):
        return axes
    return ()


@dataclass(frozen=True)
class Operation:
    """One instruction of the program, a fusion as a whole, or several of them added up.

    All numbers are of all the times that a step runs it.
    """

    phase: str  # forward, recomputed, backward, update or unnamed
    kind: str  # products, kernel or other
    flops: int
    bytes: int
    seconds: float  # modelled: FLOPs or bytes, whichever takes longer


class Costs:
    """Bytes, FLOPs and modelled times of a program, loops multiplied by their length."""

    def __init__(self, program: Program, chip: Chip):
        self.program, self.chip = program, chip
        bodies = program.computations.values()
        self.shapes = {i.name: i.shape for body in bodies for i in body}
        self.bytes = self.hbm_bytes = self.flops = 0
        self.roofline_s = self.cycles_s = 0.0
        self.collectives: list[Collective] = []
        self.operations: list[Operation] = []
        for instruction, times in program.walk():
            self._add(instruction, times)

    def _add(self, instruction: Instruction, times: int) -> None:
        for inner in (instruction, *self.program.inside(instruction)):
            if inner.collective:
                sent = sum(shape_bytes(self.shapes.get(name, "")) for name in inner.operands)
                made = Collective(inner.collective, groups_of(inner.rest), sent, times)
                self.collectives.append(made)
        if instruction.opcode in _FREE or instruction.opcode.endswith("-done"):
            return
        moved, flops = self.traffic(instruction, hbm_only=False), self.dot_flops(instruction)
        seconds = max(moved / self.chip.hbm_rate, flops / self.chip.flops)
        self.bytes += times * moved
        self.hbm_bytes += times * self.traffic(instruction, hbm_only=True)
        self.flops += times * flops
        self.roofline_s += times * seconds
        kind = "kernel" if instruction.is_kernel else "products" if flops else "other"
        self.operations.append(
            Operation(instruction.phase, kind, times * flops, times * moved, times * seconds)
        )
        cycles = instruction.number("estimated_cycles")
        if self.chip.clock:
            kernel = instruction.is_kernel
            self.cycles_s += times * (seconds if kernel else cycles / self.chip.clock)

    def traffic(self, instruction: Instruction, *, hbm_only: bool) -> int:
        """Bytes read and written.

        A fusion that slices an operand reads the slice, and one that updates a slice in place
        writes the slice.
        """

        def size(shape: str) -> int:
            return shape_bytes(shape, hbm_only=hbm_only)

        operands = [size(self.shapes.get(name, "")) for name in instruction.operands]
        if instruction.opcode == "slice-start":  # its shape is ((source), destination, context)
            moved = instruction.shape.split("), ")[1].split("}")[0]
            return shape_bytes(moved) + size(moved)
        if instruction.opcode == "copy-start":  # its shape is (destination, source, context)
            return operands[0] + size(instruction.shape.split("}")[0])
        if instruction.opcode in ("dynamic-slice", "slice"):
            return 2 * size(instruction.shape)
        if instruction.opcode == "dynamic-update-slice":
            return 2 * operands[1]
        written = size(instruction.shape)
        if instruction.opcode != "fusion":
            return sum(operands) + written
        body = self.program.inside(instruction)
        names = {int(i.rest.split(")")[0]): i.name for i in body if i.opcode == "parameter"}
        read = 0
        for number, whole in enumerate(operands):
            uses = [i for i in body if names.get(number) in i.operands]
            opcodes = {i.opcode for i in uses}
            if opcodes and opcodes <= {"dynamic-slice", "slice"}:
                read += min(whole, sum(size(i.shape) for i in uses))
            elif opcodes == {"dynamic-update-slice"} and all(
                i.operands[0] == names[number] for i in uses
            ):
                # Whether the slice lies in HBM is the whole's affair: inside, memory has no name.
                parts = sum(shape_bytes(self.shapes[i.operands[1]]) for i in uses)
                written += (parts if whole else 0) - whole
            else:
                read += whole
        return read + max(written, 0)

    def dot_flops(self, instruction: Instruction) -> int:
        """FLOPs of matrix products, which on TPUs are written as convolutions; and of kernels."""
        if instruction.is_kernel:
            return instruction.number("flops")
        total = 0
        for inner in (instruction, *self.program.inside(instruction)):
            if inner.opcode != "convolution":
                continue
            labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", inner.rest)
            assert labels
            _, right, out = labels.groups()
            kernel, result = dims(self.shapes[inner.operands[1]]), dims(inner.shape)
            contracted = kernel[right.index("i")]
            for i, label in enumerate(right):
                # A spatial dimension that the output lacks is summed over; one that it has is a
                # batch dimension, of which each output sees one position.
                if label.isdigit() and result[out.index(label)] == 1:
                    contracted *= kernel[i]
            total += 2 * math.prod(result) * contracted
        return total


def largest_batch(text: str, width: int, tokens: int) -> int:
    """The batch of the largest activation [batch, tokens, width]: the local one, if all is well."""
    found = re.findall(rf"\b(?:bf16|f32)\[(?:1,)?(\d+),{tokens},{width}\]", text)
    return max((int(batch) for batch in found), default=0)
