"""Several processes as one run: they find each other, and leave together.

Whoever starts them says so in the environment: our own launchers, SLURM's srun, GKE or a Cloud TPU
pod. Nothing needs to be set by hand.
"""

import contextlib
import faulthandler
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
from jax._src import cloud_tpu_init
from jax._src.clusters import ClusterEnv
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from zoo.config import UserError
from zoo.sharding.roll_call import HostLost, call_roll


class Team(NamedTuple):
    """The processes of a run, and which of them this one is."""

    address: str  # HOST:PORT of JAX's coordinator, which host 0 is
    size: int
    host: int
    local_devices: Sequence[int] | None = None  # None: all of this machine's


@contextlib.contextmanager
def joined(complain: Callable[[BaseException], int | None]) -> Iterator[None]:
    """Joins the other processes, if there are any, for as long as this is open.

    An error ends this process at once, without `atexit`: there JAX would wait for the others, who
    wait for this one. They notice within $ZOO_HEARTBEAT_SECONDS (30).

    Args:
      complain: says what an error means and gives its exit code; None for a bug.

    Raises:
      HostLost: not all came within $ZOO_JOIN_SECONDS (50).
    """
    wait_s = seconds("ZOO_JOIN_SECONDS", 50)
    team = find_team(wait_s)
    if team is None:
        yield
        return
    faulthandler.enable()  # JAX aborts from C++ where another host is dead: then say where we were
    call_roll(team.address, team.size, team.host, wait_s)
    jax.distributed.initialize(
        team.address,
        team.size,
        team.host,
        local_device_ids=team.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=wait_s,
        heartbeat_timeout_seconds=seconds("ZOO_HEARTBEAT_SECONDS", 30),
    )
    try:
        yield
    except BaseException as error:
        code = _explain(error, complain)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def meet(mesh: Mesh) -> None:
    """Lets the hosts talk once along every set of the mesh's axes, before they compile anything.

    On CPUs, devices that talk for the first time must all come within 30 seconds (Gloo makes their
    connections then), and of hosts that compile a step one may be later than that.
    """
    if jax.process_count() == 1 or jax.default_backend() != "cpu":
        return
    axes = [axis for axis, size in mesh.shape.items() if size > 1]
    groups = [g for n in range(len(axes)) for g in itertools.combinations(axes, n + 1)]

    def talk():
        return [jax.lax.psum(jax.lax.axis_index(group), group) for group in groups]

    # The check would have to know that a sum over some axes does not differ along the others.
    sums = jax.shard_map(talk, mesh=mesh, in_specs=(), out_specs=P(), check_vma=False)
    jax.block_until_ready(jax.jit(sums)())


def find_team(wait_s: int) -> Team | None:
    """What the environment says of other processes; None where there are none.

    Args:
      wait_s: how long a name that is not known yet may take to be known.

    Raises:
      UserError: the variables of our own launchers contradict each other.
      HostLost: the coordinator's name cannot be looked up.
    """
    environ = os.environ
    if "ZOO_COORDINATOR" in environ:
        return _own_team()
    slurm = "SLURM_STEP_NODELIST" in environ and int(environ.get("SLURM_NTASKS", 1)) > 1
    # A TPU host's neighbours stand in the environment on GKE, and on a metadata server elsewhere.
    if not slurm and not cloud_tpu_init.running_in_cloud_tpu_vm:
        return None
    try:
        found = ClusterEnv.auto_detect_unset_distributed_params(
            environ.get("JAX_COORDINATOR_ADDRESS"), None, None, None, None, wait_s
        )
    except RuntimeError as error:
        raise HostLost(f"{error}: is host 0 running, and does its name resolve here?") from error
    except OSError:  # no metadata server: a TPU elsewhere than on a Cloud TPU VM, which is alone
        return None
    address, size, host, local_devices = found
    if address is None or host is None or (size or 1) == 1:
        return None
    return Team(address, size or 1, host, local_devices)


def _own_team() -> Team | None:
    try:
        size, host = int(os.environ["ZOO_NUM_HOSTS"]), int(os.environ["ZOO_HOST"])
        if not 0 <= host < size or ":" not in os.environ["ZOO_COORDINATOR"]:
            raise ValueError
    except (KeyError, ValueError):
        raise UserError(
            "$ZOO_COORDINATOR needs to be HOST:PORT, $ZOO_NUM_HOSTS a count, and $ZOO_HOST a "
            "number from 0 up to it; or unset all three"
        ) from None
    return Team(os.environ["ZOO_COORDINATOR"], size, host) if size > 1 else None


def seconds(variable: str, default: int) -> int:
    """A time limit from the environment, in whole seconds."""
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"${variable} is {text!r}: it is a number of seconds, such as {default}")
    return int(text)


def _explain(error: BaseException, complain: Callable[[BaseException], int | None]) -> int:
    """Says on stderr why this host leaves; returns the exit code."""
    code = complain(error)
    if code is not None:
        return code
    traceback.print_exception(error)
    if "Gloo" in str(error):  # a collective on CPUs; elsewhere JAX aborts
        lost = HostLost("another host left or cannot be reached; the last checkpoint is kept")
        return complain(lost) or HostLost.exit_code
    return 1
