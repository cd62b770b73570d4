"""Several hosts on this machine's CPU: to try out, and to test, what a cluster would do.

./launch/local HOSTS [--devices-per-host K] [--restarts N] [--dry-run] -- zoo train ...
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from zoo.config.flags import positive
from zoo.launching.supervisor import run_command, supervisor_flags


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the head of this file."""
    parser = argparse.ArgumentParser(
        prog="launch/local",
        description="Run a command as several hosts on this machine's CPU, which find each other.",
    )
    parser.add_argument("ranks", type=positive, metavar="HOSTS", help="processes to start")
    text = "CPU devices that each host shows to JAX (1)"
    parser.add_argument("--devices-per-host", type=positive, default=1, metavar="K", help=text)
    supervisor_flags(parser)
    args = parser.parse_args(argv)
    return run_command(args, cpu_environment(os.environ, args.devices_per_host))


def cpu_environment(environment: Mapping[str, str], devices: int) -> dict[str, str]:
    """An environment in which JAX shows so many CPU devices, and nothing else."""
    flag = f"--xla_force_host_platform_device_count={devices}"
    flags = f"{environment.get('XLA_FLAGS', '')} {flag}".strip()
    return {**environment, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


if __name__ == "__main__":
    sys.exit(main())
