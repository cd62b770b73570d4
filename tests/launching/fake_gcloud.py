"""Stands in for gcloud: knows the flags of Cloud TPU's queued resources, and keeps a state.

Machines are folders, `WORKER`, in $FAKE_GCLOUD; a command for a machine is run there. Its state is
in the file `state`, and goes on by one in $FAKE_STATES (words with commas) each time that somebody
asks, from the start again for a new request; the last word stays. All calls are in `calls`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

# From `gcloud compute tpus queued-resources VERB --help`; True: the flag has a value.
WHERE = {"--zone": True, "--project": True}
EVERYWHERE = {"--worker": True, "--node": True, "--batch-size": True}
KIND = {"--accelerator-type": True, "--runtime-version": True, "--spot": False}
NODES = {"--node-id": True, "--node-count": True, "--node-prefix": True}
FLAGS = {
    "create": WHERE | KIND | NODES,
    "describe": WHERE | {"--format": True},
    "delete": WHERE | {"--force": False, "--quiet": False},
    "scp": WHERE | EVERYWHERE,
    "ssh": WHERE | EVERYWHERE | {"--command": True},
}
NEEDED = {"create": {"--accelerator-type", "--runtime-version"}, "ssh": {"--command"}}
WORKERS = ("worker0", "worker1")
HOME = Path(os.environ.get("FAKE_GCLOUD", "."))


def fail(code: int, text: str) -> None:
    print(f"ERROR: (gcloud) {text}", file=sys.stderr)
    sys.exit(code)


def parse(argv: list[str]) -> tuple[str, list[str], dict[str, str]]:
    """A command's verb, its words, and its flags; ends with 2 where gcloud would."""
    if argv[:3] != ["compute", "tpus", "queued-resources"] or argv[3] not in FLAGS:
        fail(2, f"Invalid choice: {argv}")
    verb, words, flags = argv[3], [], {}
    for word in argv[4:]:
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            words.append(word)
        elif FLAGS[verb].get(name) is bool(equals):
            flags[name] = value
        else:
            fail(2, f"unrecognized arguments: {word}")
    for name in NEEDED.get(verb, set()) | {"--zone"}:
        if name not in flags:
            fail(2, f"argument {name}: Must be specified.")
    if verb == "create" and ("--node-id" in flags) is ("--node-count" in flags):
        fail(2, "Exactly one of (--node-id | --node-count) must be specified.")
    return verb, words, flags


def main() -> None:
    verb, words, flags = parse(sys.argv[1:])
    with (HOME / "calls").open("a") as calls:
        calls.write(json.dumps([verb, words, flags]) + "\n")
    if verb in os.environ.get("FAKE_FAILS", "").split(","):
        fail(1, f"{verb} is told to fail")
    state = HOME / "state"
    if verb == "create":
        if state.exists():
            fail(1, "ALREADY_EXISTS")
        state.write_text(os.environ["FAKE_STATES"])
        return
    if not state.exists():
        fail(1, "NOT_FOUND")
    if verb == "describe":
        first, _, rest = state.read_text().partition(",")
        state.write_text(rest or first)
        print(first)
    elif verb == "delete":
        state.unlink()
        for worker in WORKERS:
            shutil.rmtree(HOME / worker, ignore_errors=True)
    elif verb == "scp":
        for worker in WORKERS:
            (HOME / worker).mkdir(exist_ok=True)
            shutil.copy(words[0], HOME / worker / words[1].partition(":")[2])
    else:
        sys.exit(everywhere(flags["--command"]))


def everywhere(text: str) -> int:
    """Runs shell on all machines at once; the code of the first one that failed."""
    started = []
    for worker in WORKERS:
        home = HOME / worker
        env = os.environ | {
            "HOME": str(home),
            "WORKER": worker,
            "PATH": f"{HOME}/bin:/usr/bin:/bin",
        }
        started.append(subprocess.Popen(["bash", "-c", text], cwd=home, env=env))
    return next((code for process in started if (code := process.wait())), 0)


if __name__ == "__main__":
    main()
