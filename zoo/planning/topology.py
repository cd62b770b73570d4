"""TPU pods that need not be there: what they are called, and what libtpu says of them."""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.config import UserError
from zoo.planning.chips import CHIPS, Chip

# libtpu looks for a TPU's host, and tells at length that there is none.
_WITHOUT_TPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
_GOOGLE = "0x1ae0"  # as a maker of PCI devices
TOPOLOGY = re.compile(r"(\w+):[1-9]\d*x[1-9]\d*(?:x[1-9]\d*)?")


def quiet_without_tpu() -> None:
    """Before JAX is imported: where no TPU is, a libtpu that is installed for plans says nothing.

    A machine of Google's without a TPU may look as if it had one; there it goes on talking.
    """
    vendors = Path("/sys/bus/pci/devices").glob("*/vendor")
    if not any(vendor.read_text().strip() == _GOOGLE for vendor in vendors):
        for name, value in _WITHOUT_TPU.items():
            os.environ.setdefault(name, value)


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
    os.environ |= {**_WITHOUT_TPU, "JAX_PLATFORMS": "cpu"}
    import jax
    from jax.experimental import topologies

    if find_spec("libtpu") is None:
        raise UserError("the TPU compiler is not installed: pip install '.[tpu]'")
    # On v4 a chip has two cores, which work as one device.
    options: dict[str, Any] = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    if slices > 1:
        options["num_slices"] = slices
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--topology {topology!r}: libtpu knows no such pod ({reason})") from None
    return found.devices
