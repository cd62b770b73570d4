"""Slices of TPUs, by the names that `zoo plan` has for them: `v5e:4x4`."""

import math
import re
from typing import NamedTuple

from zoo.config import UserError
from zoo.config.load import nearest


class Generation(NamedTuple):
    """What Google Cloud calls a generation, and which slices there are."""

    gke: str  # the node label cloud.google.com/gke-tpu-accelerator
    cloud_tpu: str | None  # before the number in an accelerator type; None: on GKE only
    runtime: str | None  # the software of a Cloud TPU VM
    cores: int  # that an accelerator type counts for a chip
    pod: int  # the largest slice, in chips


# "TPU versions" and "Plan TPUs in GKE" in the documentation of Google Cloud, 2026.
GENERATIONS = {
    "v4": Generation("tpu-v4-podslice", "v4", "tpu-ubuntu2204-base", 2, 4096),
    "v5e": Generation("tpu-v5-lite-podslice", "v5litepod", "v2-alpha-tpuv5-lite", 1, 256),
    "v5p": Generation("tpu-v5p-slice", "v5p", "v2-alpha-tpuv5", 2, 6144),
    "v6e": Generation("tpu-v6e-slice", "v6e", "v2-alpha-tpuv6e", 1, 256),
    "tpu7x": Generation("tpu7x", None, None, 2, 9216),
}
FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")  # all of v5e and v6e
SMALL = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")  # larger cuboids are of whole cubes of 4x4x4


class Slice(NamedTuple):
    """Chips that are wired together, and the machines that hold them."""

    generation: Generation
    topology: str
    chips: int
    hosts: int

    @property
    def chips_per_host(self) -> int:
        """The same on all hosts of a slice."""
        return self.chips // self.hosts

    @property
    def accelerator_type(self) -> str:
        """Its name for Cloud TPU VMs, such as v5litepod-16.

        Raises:
          UserError: there are no such VMs.
        """
        name, cores = self.generation.cloud_tpu, self.generation.cores
        if name is None:
            raise UserError("there are no Cloud TPU VMs of that generation: use launch/gke")
        usual = _most_cubic(self.chips)
        if self.topology not in (*FLAT, *SMALL, usual):
            raise UserError(
                f"--topology {self.topology}: {self.chips} chips come as {usual} in Cloud TPU VMs; "
                "take that, or use launch/gke"
            )
        return f"{name}-{self.chips * cores}"


def parse_slice(text: str) -> Slice:
    """A slice by its name.

    Raises:
      UserError: no such generation, or no such slice of it.
    """
    name, _, topology = text.partition(":")
    if name not in GENERATIONS:
        known = [*GENERATIONS]
        raise UserError(f"--topology {text!r}: no such generation of TPUs{nearest(name, known)}")
    generation = GENERATIONS[name]
    if generation.pod == 256:
        if topology not in FLAT:
            raise UserError(f"--topology {text!r}: {name} comes as {', '.join(FLAT)}")
        chips = math.prod(map(int, topology.split("x")))
        return Slice(generation, topology, chips, 1 if chips <= 8 else chips // 4)
    sides = [int(side) for side in re.findall(r"\d+", topology)]
    chips = math.prod(sides)
    cubes = sides == sorted(sides) and not any(side % 4 for side in sides)
    if topology not in SMALL and not (
        re.fullmatch(r"\d+x\d+x\d+", topology) and cubes and 0 < chips <= generation.pod
    ):
        raise UserError(
            f"--topology {text!r}: {name} comes as {', '.join(SMALL)}, or AxBxC in multiples of 4 "
            f"with A <= B <= C, up to {generation.pod} chips"
        )
    return Slice(generation, topology, chips, chips // 4)


def _most_cubic(chips: int) -> str:
    """Of the cuboids of whole cubes with so many chips, the one with the shortest sides."""
    cubes = chips // 64
    divisors = [n for n in range(1, cubes + 1) if cubes % n == 0]
    cuboids = [
        (a + b + cubes // (a * b), (4 * a, 4 * b, 4 * cubes // (a * b)))
        for a in divisors
        for b in divisors
        if cubes % (a * b) == 0
    ]
    return "x".join(str(side) for side in sorted(min(cuboids)[1])) if cuboids else ""
