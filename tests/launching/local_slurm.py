"""A real SLURM cluster of two nodes on this machine, for the tests and for trying a job by hand.

    python tests/launching/local_slurm.py COMMAND...      runs a command inside the cluster

Debian's packages are fetched with apt-get and unpacked into a cache; nothing is installed, no
daemon is left behind, and no root is needed. Both nodes are daemons on this machine, on ports of
their own; jobs ask for no munge key.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from getpass import getuser
from pathlib import Path

PACKAGES = (
    "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins",
    "libhwloc15", "libmunge2", "libjson-c5", "liblua5.1-0", "libnuma1", "libyaml-0-2",
)  # fmt: skip
# Names that resolve without a name server: the first one is where the ranks of a job meet.
NODES = ("127.0.0.1", "127.0.0.2")


class Unavailable(Exception):
    """SLURM cannot be had on this machine; the text says why."""


def unpacked() -> Path:
    """The directory that holds SLURM's files; fetched on first use.

    Raises:
      Unavailable: no apt-get, or it cannot fetch the packages.
    """
    cache = Path(os.environ.get("ZOO_CACHE", Path.home() / ".cache" / "zoo")) / "slurm"
    if cache.is_dir():
        return cache
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable("SLURM comes as Debian packages, and this machine has no apt-get")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
        fetch = ["apt-get", "download", *PACKAGES]
        found = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, timeout=300)
        if found.returncode:
            reason = (found.stderr.strip() or "no reason given").splitlines()[-1]
            raise Unavailable(f"apt-get download of SLURM's packages failed: {reason}")
        root = Path(folder) / "root"
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, root], check=True, timeout=60)
        with contextlib.suppress(OSError):  # another process was quicker
            root.rename(cache)
    return cache


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


def configuration(root: Path, folder: Path) -> str:
    """slurm.conf, for a controller and two nodes that all are this machine."""
    host = socket.gethostname()
    control, *ports = free_ports(1 + len(NODES))
    cpus = max(4, os.cpu_count() or 1)
    nodes = [
        f"NodeName={name} NodeAddr={name} NodeHostname={host} Port={port} CPUs={cpus} "
        f"RealMemory=1000 State=UNKNOWN"
        for name, port in zip(NODES, ports, strict=True)
    ]
    # Credentials that expire soon: a job that was requeued waits as long before it may start.
    return "\n".join(
        [
            "ClusterName=local",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={control}",
            f"SlurmUser={getuser()}",
            f"SlurmdUser={getuser()}",
            "AuthType=auth/none",
            "AuthInfo=cred_expire=5",
            "CredType=cred/none",
            f"PluginDir={root}/usr/lib/x86_64-linux-gnu/slurm-wlm",
            f"StateSaveLocation={folder}/state",
            f"SlurmdSpoolDir={folder}/spool-%n",
            f"SlurmdPidFile={folder}/slurmd-%n.pid",
            f"SlurmctldPidFile={folder}/slurmctld.pid",
            f"SlurmctldLogFile={folder}/slurmctld.log",
            f"SlurmdLogFile={folder}/slurmd-%n.log",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none",
            "SelectType=select/cons_tres",
            "SlurmdParameters=config_overrides",
            "ReturnToService=2",
            "SchedulerParameters=sched_interval=2,sched_min_interval=100000",
            "KillWait=30",
            "OverTimeLimit=0",
            *nodes,
            f"PartitionName=all Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP",
            "",
        ]
    )


@contextlib.contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Two nodes that are up; ended, with all that they run, on leaving.

    Yields:
      The environment in which sbatch, squeue and the others reach it.

    Raises:
      Unavailable: see `unpacked`; or the nodes did not come up.
    """
    root = unpacked()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm")))
        (folder / "state").mkdir()
        (folder / "slurm.conf").write_text(configuration(root, folder))
        libraries = root / "usr/lib/x86_64-linux-gnu"
        env = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{root}/usr/bin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{libraries}:{libraries}/slurm-wlm",
        }
        sbin = root / "usr/sbin"
        daemons = [[sbin / "slurmctld-wlm", "-D", "-i"]]
        daemons += [
            [sbin / "slurmd-wlm", "-D", "-N", n, "-d", sbin / "slurmstepd-wlm"] for n in NODES
        ]
        for number, command in enumerate(daemons):
            log = stack.enter_context((folder / f"daemon-{number}.log").open("w"))
            process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(process.wait, timeout=30)
            stack.callback(process.terminate)
        wait_until(lambda: output(env, "sinfo", "-h", "-N", "-o", "%T").split() == ["idle", "idle"])
        stack.callback(end_jobs, env)
        yield env


def output(env: dict[str, str], *command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60).stdout


def wait_until(holds: Callable[[], bool], timeout: float = 60.0) -> None:
    """Asks every half second; raises a TimeoutError."""
    end = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout:g} s: {holds}")
        time.sleep(0.5)


def end_jobs(env: dict[str, str]) -> None:
    """Kills whatever still runs or waits."""
    for job in output(env, "squeue", "-h", "-o", "%i").split():
        output(env, "scancel", "--signal=KILL", "--full", job)
        output(env, "scancel", job)
    wait_until(lambda: not output(env, "squeue", "-h", "-o", "%i").split(), timeout=90.0)


if __name__ == "__main__":
    with cluster() as environment:
        sys.exit(subprocess.run(sys.argv[1:], env=environment).returncode)
