"""`launch/slurm`: a command on the nodes of a SLURM cluster, as one job.

    launch/slurm --nodes 2 --gpus-per-node 8 -- zoo train --config s16_in1k --workdir runs/s16

A rank for each GPU, or for each node without GPUs. JAX finds the others by SLURM's own variables.
A rank that is told to stop (the time limit comes near, or the job has to make way) saves and
exits with 75; the job then puts itself back into the queue, and goes on from its checkpoint.
"""

import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from zoo.config import UserError
from zoo.launching.job import call, exports, make_parser, parse, run_main, supervised, workdir_of

# Seconds that a run gets to save in before its time is over.
NOTICE_S = 120
# Seconds that the others get after the first rank has ended: to save, or to write the report.
PATIENCE_S = 600


def flags() -> ArgumentParser:
    """The flags before `--`."""
    parser = make_parser("slurm", "Submit a command as one job on several nodes of SLURM.")
    parser.add_argument("--nodes", type=int, required=True, metavar="N")
    parser.add_argument("--gpus-per-node", type=int, default=0, metavar="N", help="(0)")
    text = "of a rank; without it the job takes whole nodes"
    parser.add_argument("--cpus-per-task", type=int, metavar="N", help=text)
    parser.add_argument("--partition", help="the cluster's default")
    text = "a limit, as sbatch has it: minutes, or 1-12:00:00; the run goes on in the next job"
    parser.add_argument("--time", help=text)
    text = "another flag of sbatch, such as --sbatch=--account=vision; may be repeated"
    parser.add_argument("--sbatch", action="append", default=[], metavar="FLAG", help=text)
    return parser


def options(args: Namespace) -> list[str]:
    """The flags of sbatch."""
    found = [
        f"--job-name={args.name}",
        f"--nodes={args.nodes}",
        f"--ntasks-per-node={args.gpus_per_node or 1}",
        f"--output={args.name}-%j.log",
        "--open-mode=append",
        "--requeue",
        f"--signal=TERM@{NOTICE_S}",
    ]
    if args.gpus_per_node:
        found.append(f"--gpus-per-node={args.gpus_per_node}")
    if args.cpus_per_task:
        found.append(f"--cpus-per-task={args.cpus_per_task}")
    else:
        found += ["--exclusive", "--mem=0"]
    found += [f"--{key}={value}" for key in ("partition", "time") if (value := getattr(args, key))]
    return found + args.sbatch


def render(args: Namespace) -> str:
    """The batch script; it runs on the first node, in the directory that it was submitted from."""
    command = ["srun", "--label", "--kill-on-bad-exit=0", f"--wait={PATIENCE_S}"]
    if args.cpus_per_task:  # which srun does not take over from sbatch
        command.append(f"--cpus-per-task={args.cpus_per_task}")
    command += supervised(sys.executable, args)
    lines = ["#!/bin/bash", *(f"#SBATCH {flag}" for flag in options(args))]
    lines += ["", f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]
    lines += exports(args.env)
    workdir = workdir_of(args.command)
    if workdir and args.nodes > 1:
        lines += _probe(workdir)
    return (
        "\n".join([*lines, "", "trap : TERM  # scancel's: wait for what the ranks save"])
        + f"""
{shlex.join(command)} &
wait $!; code=$?
while kill -0 $! 2>/dev/null; do wait $!; code=$?; done
# Stopped and saved, and not by scancel: go on later.
if [ $code = 75 ] && [ "$(squeue --noheader --job "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
  scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit $code
"""
    )


def _probe(workdir: str) -> list[str]:
    """Shell that stops a job whose nodes do not share the workdir."""
    where = shlex.quote(workdir)
    return [
        "",
        f"probe={where}/.job-$SLURM_JOB_ID",
        f'mkdir -p {where} && touch "$probe" || exit 2',
        'if ! srun --ntasks-per-node=1 --ntasks="$SLURM_NNODES" test -e "$probe"; then',
        f"  echo zoo: --workdir {where} is not on a file system that all nodes share >&2",
        "  exit 2",
        "fi",
        'rm "$probe"',
    ]


def main(argv: Sequence[str]) -> int:
    """Submits; returns sbatch's exit code."""
    args = parse(flags(), argv)
    if args.nodes < 1:
        raise UserError(f"--nodes {args.nodes}: a job has at least one")
    script = render(args)
    if args.dry_run:
        print(script, end="")
        return 0
    return call(["sbatch"], stdin=script)


if __name__ == "__main__":
    run_main(main)
