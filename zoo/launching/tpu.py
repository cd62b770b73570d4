"""`launch/tpu`: a command on Cloud TPU VMs, which are asked for, set up, and given back.

    launch/tpu --topology v5e:4x4 --zone us-west4-a --spot --bucket BUCKET -- \\
        zoo train --config s16_in1k --workdir /mnt/zoo/s16

It stays until the command ends, with the lines of all machines. Machines that are taken away are
asked for again, and the command goes on from its last checkpoint. Ctrl-C lets the run save, and
gives the machines back.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.config import UserError
from zoo.launching.job import (
    MOUNT,
    add_tpu_flags,
    call,
    check_tpu_job,
    exports,
    make_parser,
    not_installed,
    parse,
    run_main,
    supervised,
)
from zoo.launching.slices import Slice, parse_slice
from zoo.launching.supervisor import DONE, STOPPED, USER, say

ARCHIVE = "zoo.tar.gz"
INTERRUPTED = 130
# Exit codes that may end well another time, as STOPPED: a host lost, ssh's connection lost.
HOST_LOST, LOST = 69, 255
# Seconds that a run gets to save in, after Ctrl-C.
PATIENCE_S = 300.0
# Failures to learn of the machines' state, one after the other, until it is given up.
MAX_UNKNOWN = 10
STOP = "kill -TERM $(cat zoo.pid)"


def flags() -> ArgumentParser:
    """The flags before `--`."""
    parser = make_parser("tpu", "Run a command on Cloud TPU VMs, by queued resources.")
    add_tpu_flags(parser)
    parser.add_argument("--zone", required=True, help="such as us-west4-a")
    parser.add_argument("--project", help="gcloud's current one")
    parser.add_argument("--runtime", help="the machines' software; the usual one of the generation")
    text = "shell to run on each machine once it is set up"
    parser.add_argument("--setup", metavar="COMMAND", help=text)
    text = "leave the machines when the command ends, and use them if they are there"
    parser.add_argument("--keep", action="store_true", help=text)
    return parser


def gcloud(args: Namespace, verb: str, *words: str) -> list[str]:
    """A command of gcloud about the machines."""
    where = [f"--zone={args.zone}", *([f"--project={args.project}"] if args.project else [])]
    return ["gcloud", "compute", "tpus", "queued-resources", verb, *words, *where]


def create(args: Namespace, machines: Slice) -> list[str]:
    """Asks for the machines."""
    nodes = [f"--node-id={args.name}"]
    if args.slices > 1:
        nodes = [f"--node-count={args.slices}", f"--node-prefix={args.name}"]
    kind = [
        f"--accelerator-type={machines.accelerator_type}",
        f"--runtime-version={args.runtime or machines.generation.runtime}",
    ]
    return gcloud(args, "create", args.name, *nodes, *kind, *(["--spot"] if args.spot else []))


def describe(args: Namespace) -> list[str]:
    """Prints the state of the request."""
    return gcloud(args, "describe", args.name, "--format=value(state.state)")


def delete(args: Namespace) -> list[str]:
    """Gives the machines back."""
    return gcloud(args, "delete", args.name, "--force", "--quiet")


def copy(args: Namespace, archive: str = ARCHIVE) -> list[str]:
    """Brings the code to all machines."""
    return gcloud(args, "scp", archive, f"{args.name}:{ARCHIVE}", "--worker=all", "--node=all")


def ssh(args: Namespace, text: str) -> list[str]:
    """Runs shell on all machines at once; gcloud would take them 64 at a time."""
    everywhere = ["--worker=all", "--node=all", "--batch-size=all"]
    return gcloud(args, "ssh", args.name, *everywhere, f"--command={text}")


def setup_text(args: Namespace) -> str:
    """Shell that installs the code and mounts the workdirs; does no harm a second time."""
    uv = "~/.local/bin/uv"
    install = f"{uv} pip install --quiet --python zoo/.venv/bin/python"
    lines = [
        "set -e",
        f"mkdir -p zoo && tar -xzf {ARCHIVE} -C zoo",
        "python3 -m pip install --quiet --user uv",  # the machines' own Python is too old
        f"{uv} venv --quiet --allow-existing --python 3.12 zoo/.venv",
        f'{install} --constraint zoo/requirements.lock --editable "zoo[tpu]"',
    ]
    if args.bucket:
        mount = f"gcsfuse --implicit-dirs --rename-dir-limit=200000 {args.bucket} {MOUNT}"
        lines += _mount("gcsfuse", "gcsfuse", f"sudo chown $(id -u) {MOUNT} && {mount}")
    elif args.nfs:
        lines += _mount("mount.nfs", "nfs-common", f"sudo mount -t nfs {args.nfs} {MOUNT}")
    return "\n".join([*lines, *([args.setup] if args.setup else [])])


def _mount(program: str, package: str, command: str) -> list[str]:
    return [
        f"command -v {program} >/dev/null || sudo apt-get install --yes --quiet {package}",
        f"mountpoint --quiet {MOUNT} || {{ sudo mkdir -p {MOUNT} && {command}; }}",
    ]


def run_text(args: Namespace) -> str:
    """Shell that runs the command, after one that a lost connection may have left behind."""
    command = shlex.join(supervised(".venv/bin/python", args))
    return "\n".join(
        [
            "set -o pipefail",
            "old=$(cat zoo.pid 2>/dev/null)",
            'if [ -n "$old" ] && ps -p $old -o args= | grep -q zoo.launching; then',
            "  kill -TERM $old; timeout 300 tail --pid=$old -f /dev/null || kill -KILL $old",
            "fi",
            "cd zoo",
            "export PATH=$PWD/.venv/bin:$PATH",
            *exports(args.env),
            f"{{ echo $BASHPID >~/zoo.pid; exec {command}; }} 2>&1 |",
            '  sed --unbuffered "s/^/$(hostname): /"',
        ]
    )


def write_archive(path: Path) -> None:
    """The files of this checkout, changes included, but for what git ignores.

    Raises:
      UserError: this is no checkout.
    """
    root = Path(__file__).parents[2]
    listing = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others"]
    found = subprocess.run([*listing, "--exclude-standard"], capture_output=True, text=True)
    if found.returncode:
        reason = found.stderr.strip()
        raise UserError(
            f"{root}: launch/tpu sends the files that git knows, and git says: {reason}"
        )
    with tarfile.open(path, "w:gz") as archive:
        for name in filter(None, found.stdout.split("\0")):
            if (root / name).exists():
                archive.add(root / name, arcname=name)


def state_of(args: Namespace) -> str | None:
    """The state of the request in Google's words; "" where there is none; None: not to be had."""
    try:
        found = subprocess.run(describe(args), capture_output=True, text=True)
    except FileNotFoundError:
        raise not_installed("gcloud") from None
    if found.returncode == 0:
        return found.stdout.strip() or None
    if "NOT_FOUND" in found.stderr:
        return ""
    sys.stderr.write(found.stderr)
    return None


def settled(args: Namespace, *, poll_s: float) -> str:
    """Waits while the request does; returns ACTIVE, or FAILED or SUSPENDED.

    Raises:
      UserError: the request cannot be found any more.
    """
    shown, unknown = "", 0
    while (state := state_of(args)) not in ("ACTIVE", "FAILED", "SUSPENDED"):
        unknown = 0 if state else unknown + 1
        if unknown == MAX_UNKNOWN:
            raise UserError(f"{args.name} cannot be found any more: {shlex.join(describe(args))}")
        if state and state != shown:
            say(f"{args.name}: {state}")
            shown = state
        time.sleep(poll_s)
    return state


def ask(args: Namespace, machines: Slice) -> None:
    """Raises a UserError where gcloud refuses."""
    if call(create(args, machines)):
        raise UserError(f"gcloud refused the request for {args.name}; it says why above")


def give_back(args: Namespace, *, poll_s: float) -> None:
    """Deletes the machines and their request; tries again, as one that is changing refuses."""
    for _ in range(MAX_UNKNOWN):
        if call(delete(args)) == 0 or state_of(args) == "":
            return
        time.sleep(poll_s)
    say(f"could not give {args.name} back, and it may cost: {shlex.join(delete(args))}")


def follow(args: Namespace) -> int:
    """Runs the command on all machines; after Ctrl-C lets it save, and returns INTERRUPTED."""
    # In a session of its own: a Ctrl-C would end ssh, and leave the run alone.
    process = subprocess.Popen(ssh(args, run_text(args)), start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        say("stopping: the run saves (Ctrl-C again does not wait for it)")
        call(ssh(args, STOP))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
        return INTERRUPTED
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def attempt(args: Namespace) -> int:
    """Brings the code, sets up and runs; returns the exit code of the first that fails, or 0."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / ARCHIVE
        write_archive(archive)
        say("copying and installing the code")
        code = call(copy(args, str(archive))) or call(ssh(args, setup_text(args)))
    return code or follow(args)


def run(args: Namespace, machines: Slice, *, poll_s: float) -> int:
    """Runs until the command has ended; returns its exit code."""
    if state_of(args) == "":
        ask(args, machines)
    retries, had, code = args.restarts, False, None
    while True:
        state = settled(args, poll_s=poll_s)
        if state != "ACTIVE":
            if state == "FAILED" and not had:
                reason = shlex.join(describe(args)[:-2])
                raise UserError(f"the request for {args.name} failed; see why: {reason}")
            say(f"{args.name} was taken away ({state}): asking for it again")
            give_back(args, poll_s=poll_s)
            ask(args, machines)
            code = None
            continue
        if code in (STOPPED, HOST_LOST, LOST) and retries:
            say(f"ended with {code}, but the machines are there: running it again")
            retries -= 1
        elif code is not None:
            return code
        had, code = True, attempt(args)
        if code in (DONE, USER, INTERRUPTED):
            return code


@contextlib.contextmanager
def given_back(args: Namespace, *, poll_s: float) -> Iterator[None]:
    """Gives the machines back on leaving, after SIGTERM and with a closed terminal too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        # A second Ctrl-C here would leave the machines, and a bill.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        if args.keep:
            say(f"{args.name} stays, and costs; to give it back: {shlex.join(delete(args))}")
        else:
            give_back(args, poll_s=poll_s)
        signal.signal(signal.SIGINT, before)


def plan(args: Namespace, machines: Slice) -> str:
    """All commands, in their order, as one would type them."""
    steps = {
        "ask for the machines": create(args, machines),
        "until it prints ACTIVE": describe(args),
        f"the code ({ARCHIVE}: the files of this checkout)": copy(args),
        "set up": ssh(args, setup_text(args)),
        "run": ssh(args, run_text(args)),
        "on Ctrl-C": ssh(args, STOP),
        "at the end, and before asking again for what was taken away": delete(args),
    }
    return "\n".join(f"# {step}\n{shlex.join(command)}" for step, command in steps.items())


def main(argv: Sequence[str], *, poll_s: float = 30.0) -> int:
    """Runs the command; returns its exit code, or 130 after Ctrl-C."""
    args = parse(flags(), argv)
    check_tpu_job(args)
    machines = parse_slice(args.topology)
    commands = plan(args, machines)
    if args.dry_run:
        print(commands)
        return 0
    state = state_of(args)
    if state is None:
        raise UserError("gcloud cannot say what there is; it says why above")
    if state and not args.keep:
        raise UserError(
            f"{args.name} is there already: give another --name, --keep to use it, or delete it: "
            f"{shlex.join(delete(args))}"
        )
    try:
        with given_back(args, poll_s=poll_s):
            return run(args, machines, poll_s=poll_s)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    run_main(main)
