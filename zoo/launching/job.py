"""What the launchers share: `FLAGS -- COMMAND`, where a workdir may lie, calling programs."""

import argparse
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from zoo.config import UserError
from zoo.launching.supervisor import USER, say

# Where a bucket or an NFS share appears on machines that come and go.
MOUNT = "/mnt/zoo"


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser with the flags that all launchers have."""
    parser = argparse.ArgumentParser(
        prog=f"launch/{program}",
        usage=f"launch/{program} [FLAGS] -- COMMAND...",
        description=description,
        allow_abbrev=False,
    )
    parser.add_argument("--name", default="zoo", help="of the job (zoo)")
    text = "set for the command; may be repeated"
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE", help=text)
    text = "how often a machine starts a crashed command again by itself (3)"
    parser.add_argument("--restarts", type=int, default=3, metavar="N", help=text)
    parser.add_argument("--dry-run", action="store_true", help="print it all, start nothing")
    return parser


def add_tpu_flags(parser: argparse.ArgumentParser) -> None:
    """The flags for slices of TPUs, whose machines' own disks go with them."""
    parser.add_argument("--topology", required=True, help="such as v5e:4x4, v6e:16x16, v5p:4x4x8")
    parser.add_argument("--slices", type=int, default=1, metavar="N", help="(1)")
    parser.add_argument("--spot", action="store_true", help="cheaper, and taken back at any time")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--bucket", help=f"a Cloud Storage bucket to mount at {MOUNT}")
    group.add_argument("--nfs", metavar="SERVER:/SHARE", help=f"an NFS share to mount at {MOUNT}")


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The flags before `--`, with `env` as a dict, and `command`: what stands after it.

    Raises:
      UserError: no `--`, or nothing after it; an --env or an --nfs without its parts.
    """
    argv = [*argv, "--"]
    at = argv.index("--")
    args, command = parser.parse_args(argv[:at]), argv[at + 1 : -1]
    if not command:
        raise UserError(
            f"there is no command: {parser.prog} [FLAGS] -- zoo train --config FILE --workdir DIR"
        )
    pairs = [text.partition("=") for text in args.env]
    for key, equals, _ in pairs:
        if not equals or not key.isidentifier():
            raise UserError(f"--env {key}: write KEY=VALUE")
    if ":/" not in (getattr(args, "nfs", None) or ":/"):
        raise UserError(f"--nfs {args.nfs}: write SERVER:/SHARE")
    args.env = {key: value for key, _, value in pairs}
    args.command = command
    return args


def workdir_of(command: Sequence[str]) -> str | None:
    """The --workdir of a command; None where it has none.

    Raises:
      UserError: one that is no path.
    """
    words = [*command, ""]
    found = None
    for word, following in itertools.pairwise(words):
        if word == "--workdir":
            found = following
        elif word.startswith("--workdir="):
            found = word.partition("=")[2]
    if found and "://" in found:
        raise UserError(
            f"--workdir {found}: Zoo writes to a directory, and knows no buckets: mount it "
            f"(launch/gke and launch/tpu do, with --bucket; then --workdir {MOUNT}/NAME)"
        )
    return found


def check_tpu_job(args: argparse.Namespace) -> None:
    """Raises a UserError for a name that Google Cloud refuses, or a workdir that would vanish."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", args.name):
        raise UserError(f"--name {args.name}: at most 40 of a-z, 0-9 and -, a letter first")
    if args.slices < 1:
        raise UserError(f"--slices {args.slices}: a job has at least one")
    workdir = workdir_of(args.command)
    if workdir is None:
        return
    if not workdir.startswith(f"{MOUNT}/"):
        raise UserError(
            f"--workdir {workdir} would be another directory on each machine, and gone with it: "
            f"give --bucket NAME or --nfs SERVER:/SHARE, and --workdir {MOUNT}/NAME"
        )
    if not (args.bucket or args.nfs):
        raise UserError(f"nothing is mounted at {MOUNT}: give --bucket NAME or --nfs SERVER:/SHARE")


def supervised(python: str, args: argparse.Namespace) -> list[str]:
    """The command, started again where it crashes."""
    restarts = ["--restarts", str(args.restarts)]
    return [python, "-m", "zoo.launching.supervisor", *restarts, "--", *args.command]


def exports(env: Mapping[str, str]) -> list[str]:
    """Lines of shell that set variables."""
    return [f"export {key}={shlex.quote(value)}" for key, value in env.items()]


def call(command: Sequence[str], *, stdin: str | None = None) -> int:
    """Runs a program that may not be installed; returns its exit code."""
    try:
        return subprocess.run(command, input=stdin, text=True).returncode
    except FileNotFoundError:
        raise not_installed(command[0]) from None


def not_installed(program: str) -> UserError:
    """The complaint about a program that is not there."""
    return UserError(
        f"{program} is not installed here, or not on PATH; --dry-run shows what it would do"
    )


def run_main(main: Callable[[Sequence[str]], int]) -> None:
    """Ends the program with what `main` returns; the user's mistakes are one line, and a 2."""
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        say(str(error))
        code = USER
    sys.exit(code)
