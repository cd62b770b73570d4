"""Runs a command as one rank or several: one that fails ends all, and all start again.

    python -m zoo.launching.supervisor [--ranks N] [--restarts N] [--dry-run] -- COMMAND...

JAX cannot go on without a process that it started with, so whatever happens to one rank happens to
all, and the run continues from its checkpoint. With one rank, the default, nothing is added to the
command's environment: whoever starts a supervisor on each host says how the hosts find each other.
Several ranks are told by $ZOO_COORDINATOR, $ZOO_NUM_HOSTS and $ZOO_HOST, and each line that they
print begins with its rank.
"""

import argparse
import contextlib
import ctypes
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.config import UserError
from zoo.config.flags import positive

# Done, the user's input, and stopped on request: to start such a run again changes nothing.
DONE, USER, STOPPED = 0, 2, 75
PAUSE_S = 2.0  # before a restart
POLL_S = 0.1


def supervise(
    command: Sequence[str],
    *,
    ranks: int = 1,
    restarts: int = 0,
    grace_s: float = 30.0,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs a command to its end, through as many as `restarts` failures.

    SIGTERM and Ctrl-C are passed on, and end the restarts; a second Ctrl-C kills.

    Args:
      grace_s: once a rank has failed, what the others have between SIGTERM and SIGKILL.
      environment: of the ranks; default this process's own.

    Returns:
      0 where all ranks ended so; else the code of the first that did not, 128 + N for signal N.

    Raises:
      UserError: the command cannot be started.
    """
    environment = os.environ if environment is None else environment
    with passed_on_signals() as received:
        for left in reversed(range(restarts + 1)):
            code = run_ranks(command, ranks_environments(ranks, environment), grace_s, received)
            if code in (DONE, USER, STOPPED) or not left or received:
                break
            say(f"starting again; restarts left after that: {left - 1}")
            time.sleep(PAUSE_S)
            if received:
                break
    return code


def ranks_environments(ranks: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """What each rank finds in its environment; several meet at a free port of this machine."""
    # Output must not wait in a buffer that a killed process takes along.
    common = {**environment, "PYTHONUNBUFFERED": "1"}
    if ranks == 1:
        return [common]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"ZOO_COORDINATOR": f"localhost:{free.getsockname()[1]}"}
    meeting["ZOO_NUM_HOSTS"] = str(ranks)
    return [{**common, **meeting, "ZOO_HOST": str(rank)} for rank in range(ranks)]


def run_ranks(
    command: Sequence[str],
    environments: Sequence[dict[str, str]],
    grace_s: float,
    received: Sequence[int],
) -> int:
    """Starts all ranks once, and returns when all have ended; see `supervise`."""
    several = len(environments) > 1
    processes: list[subprocess.Popen] = []
    codes: dict[int, int] = {}  # by rank, in the order of their ends
    first_failure = passed_on = 0
    deadline = float("inf")
    with selectors.DefaultSelector() as pipes:
        try:
            for rank, environment in enumerate(environments):
                processes.append(start(command, environment, piped=several))
                if several:
                    watch_output(pipes, rank, processes[rank])
            while len(codes) < len(processes):
                copy_output(pipes, POLL_S)
                for rank, process in enumerate(processes):
                    if rank not in codes and process.poll() is not None:
                        codes[rank] = exit_code(process)
                        if codes[rank] and not first_failure:
                            first_failure = codes[rank]
                            deadline = time.monotonic() + grace_s
                            if first_failure == STOPPED:
                                continue  # the others are about to end in the same way
                            name = f"rank {rank}" if several else "the command"
                            say(f"{name} ended with {first_failure}")
                            send(processes, codes, signal.SIGTERM)
                for number in received[passed_on:]:
                    again = number == signal.SIGINT and signal.SIGINT in received[:passed_on]
                    send(processes, codes, signal.SIGKILL if again else number)
                    passed_on += 1
                if time.monotonic() > deadline:
                    send(processes, codes, signal.SIGKILL)
        finally:
            # Data workers may outlive the rank that they belong to.
            send(processes, {}, signal.SIGKILL)
            flush_output(pipes)
    return USER if USER in codes.values() else first_failure


def start(command: Sequence[str], environment: dict[str, str], *, piped: bool) -> subprocess.Popen:
    """Starts a process in a session of its own: a terminal's Ctrl-C comes through us alone."""
    pipe = subprocess.PIPE if piped else None
    try:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL if piped else None,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    except OSError as error:
        raise UserError(f"cannot start {shlex.join(command)}: {error.strerror}") from error


def _end_with_parent() -> None:
    """On Linux: SIGTERM where the supervisor is killed, so that no rank is left behind."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def exit_code(process: subprocess.Popen) -> int:
    """As a shell counts: 128 + N for signal N."""
    code = process.returncode
    return code if code >= 0 else 128 - code


def send(processes: Sequence[subprocess.Popen], ended: Mapping[int, int], number: int) -> None:
    """Sends a signal to the ranks that have not ended, and to what they started."""
    for rank, process in enumerate(processes):
        if rank not in ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)


def watch_output(pipes: selectors.BaseSelector, rank: int, process: subprocess.Popen) -> None:
    """Has the lines of a rank's two streams copied to our own."""
    for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        assert source is not None
        os.set_blocking(source.fileno(), False)
        pipes.register(source, selectors.EVENT_READ, (f"[{rank}] ", target, bytearray()))


def copy_output(pipes: selectors.BaseSelector, wait_s: float) -> None:
    """Copies whole lines, each behind its rank, as they come within `wait_s` seconds."""
    if not pipes.get_map():
        time.sleep(wait_s)
        return
    for key, _ in pipes.select(wait_s):
        prefix, target, waiting = key.data
        source: Any = key.fileobj
        chunk = source.read1(65536)
        if not chunk:
            pipes.unregister(source)
            source.close()
        waiting += chunk or (b"\n" if waiting else b"")  # the last line may not have an end
        *lines, rest = waiting.split(b"\n")
        waiting[:] = rest
        print_lines(prefix, target, lines)


def flush_output(pipes: selectors.BaseSelector) -> None:
    """Copies what ranks that have ended left in their pipes."""
    deadline = time.monotonic() + 2  # a pipe has no end where somebody took it to another session
    while pipes.get_map() and time.monotonic() < deadline:
        copy_output(pipes, POLL_S)
    for key in list(pipes.get_map().values()):
        source: Any = key.fileobj
        source.close()


def print_lines(prefix: str, target: Any, lines: Sequence[bytes]) -> None:
    """At once, so that no other stream's line comes between."""
    text = "".join(f"{prefix}{line.decode(errors='replace')}\n" for line in lines)
    target.write(text)
    target.flush()


def say(text: str) -> None:
    """A line of our own on stderr."""
    print(f"zoo: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def passed_on_signals() -> Iterator[list[int]]:
    """A list that fills with the signals that ask us to stop."""
    received: list[int] = []
    note = lambda number, frame: received.append(number)
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the head of this file."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.launching.supervisor",
        description="Run a command as one or several processes; end and restart them together.",
    )
    parser.add_argument("--ranks", type=positive, default=1, help="processes to start here (1)")
    supervisor_flags(parser)
    args = parser.parse_args(argv)
    return run_command(args, os.environ)


def supervisor_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of every command that supervises, and the command itself."""
    parser.add_argument(
        "--restarts", type=int, default=0, metavar="N", help="start again after a failure (0 times)"
    )
    text = "seconds from SIGTERM to SIGKILL for the others, once one failed (30)"
    parser.add_argument("--grace", type=float, default=30.0, metavar="S", help=text)
    parser.add_argument("--dry-run", action="store_true", help="print what would be run")
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="such as zoo train ...")


def run_command(args: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Supervises what the arguments say, or prints it; returns the exit code."""
    if args.dry_run:
        for rank in ranks_environments(args.ranks, environment):
            added = (f"{k}={shlex.quote(v)}" for k, v in rank.items() if os.environ.get(k) != v)
            print(" ".join([*added, shlex.join(args.command)]))
        return DONE
    try:
        return supervise(
            args.command,
            ranks=args.ranks,
            restarts=args.restarts,
            grace_s=args.grace,
            environment=environment,
        )
    except UserError as error:
        say(str(error))
        return USER


if __name__ == "__main__":
    sys.exit(main())
