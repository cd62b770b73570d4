"""What TPUs can do, from their makers' public specifications; imports no jax."""

from typing import NamedTuple


class Chip(NamedTuple):
    """One JAX device: a chip, or half of one on TPU7x."""

    flops: float  # a second, dense bfloat16
    hbm: float  # bytes
    hbm_rate: float  # bytes a second, as XLA's own roofline has them: 1 / 1.11 of the specification
    link_rate: float  # bytes a second and direction, of one link to a neighbour
    clock: float | None = None  # of the compiler's `estimated_cycles`, a second; None: not known
    per_chip: int = 1  # devices
    dcn_rate: float | None = None  # bytes a second between slices; None: not published


def _chip(tflops: float, gib: float, gb_s: float, link_gb_s: float) -> Chip:
    return Chip(tflops * 1e12, gib * 2**30, gb_s * 1e9 / 1.11, link_gb_s * 1e9)


# By the name of a topology's generation. The links: Austin 2025, "How to Scale Your Model". Between
# slices: Google's specification of the network, of a v5p chip, or of a pod of 256 v5e or v6e.
CHIPS: dict[str, Chip] = {
    "v4": _chip(275.0, 32.0, 1228.0, 45.0),
    "v5e": _chip(197.0, 16.0, 819.0, 45.0)._replace(clock=1.503e9, dcn_rate=3.125e9),
    "v5p": _chip(459.0, 95.0, 2765.0, 90.0)._replace(dcn_rate=6.25e9),
    "v6e": _chip(918.0, 32.0, 1640.0, 90.0)._replace(dcn_rate=12.5e9),
    "tpu7x": _chip(1153.5, 96.0, 3690.0, 90.0)._replace(per_chip=2),
}
