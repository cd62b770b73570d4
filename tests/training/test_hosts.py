"""Several processes train one model: they share its batches, evaluation and checkpoints, stop
together, fail together, and go on in another number."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = """
import os
from ml_collections import ConfigDict
from tests.tiny import DATA, MODEL

MESHES = {
    "rows": {"data": 2, "fsdp": 2},
    "tensor": {"data": 1, "tensor": 4},
    "sequence": {"data": 1, "sequence": 4},
    "both": {"data": 1, "sequence": 2, "tensor": 2},
}

def get_config(arg=None):
    config = ConfigDict({"model": MODEL, "data": DATA})
    config.optimizer = ConfigDict({"name": "sgd", "lr": 0.1, "schedule": "constant"})
    config.log_every, config.save_every, config.total = "1 steps", "10 steps", "80 steps"
    config.eval_every = "1000 steps"
    if arg not in MESHES:
        config.data = ConfigDict({**DATA, "eval_splits": {}})
    if arg == "lacking" and os.environ["ZOO_HOST"] == "1":
        config.data.name, config.data.dir = "mnist", "/none"
    if arg in MESHES:
        config.model.pool = "gap"  # four tokens, which an axis may split
        config.model.dropout = 0.1  # drawn by a row's place in the batch
        config.total, config.save_every, config.eval_every = "4 steps", "2 steps", "2 steps"
        config.ema_decay, config.mesh = 0.9, MESHES[arg]
    return config
"""
CHECKPOINT_EVERY = 10


class Hosts:
    """`zoo train` as so many processes, under a supervisor where they are several."""

    def __init__(self, folder, hosts, *flags, arg="", devices=1):
        self.workdir, self.log = folder / "run", folder / f"log{time.monotonic_ns()}"
        config = folder / "config.py"
        config.write_text(CONFIG)
        train = [sys.executable, "-m", "zoo.cli", "train", "--config", f"{config}{arg}"]
        launcher = [sys.executable, "-m", "zoo.launching.local", str(hosts), *flags]
        launcher += ["--devices-per-host", str(devices), "--"]
        # Compiled once for all starts, quickly.
        quick = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": quick,
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
            "ZOO_HEARTBEAT_SECONDS": "10",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*launcher, *train, "--workdir", str(self.workdir)],
                env=environment, cwd=folder, stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in [*self.ranks().values()]:
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait(10)

    def ranks(self):
        """Process ids of the hosts that are there, by number."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = {}
        for pid in task.read_text().split() if task.exists() else []:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            number = [v.removeprefix(b"ZOO_HOST=") for v in environment if b"ZOO_HOST=" in v]
            found |= {int(number[0]) if number else 0: int(pid)}
        return found

    def said(self):
        return self.log.read_text()

    def losses(self):
        """Step -> loss."""
        path = self.workdir / "metrics.jsonl"
        lines = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )
        return {line["step"]: line["loss"] for line in lines if "loss" in line}

    def wait_until(self, is_so, timeout=240):
        deadline = time.monotonic() + timeout
        while not is_so():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def reach(self, step):
        self.wait_until(lambda: max(self.losses(), default=0) >= step)

    def ends_with(self, code, timeout=240):
        try:
            assert self.process.wait(timeout) == code, self.said()
        except subprocess.TimeoutExpired:
            pytest.fail(self.said())

    def saved(self):
        """The newest whole checkpoint; 0: none yet."""
        found = (path.name for path in (self.workdir / "checkpoints").glob("[0-9]*"))
        return max((int(name) for name in found if name.isdigit()), default=0)


def damage(checkpoint):
    """Cuts the largest file of a checkpoint's parameters short."""
    files = [path for path in (checkpoint / "params").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def test_a_run_that_is_killed_and_stopped_goes_on_with_4_4_2_and_1_hosts_as_an_uncut_one(tmp_path):
    (tmp_path / "uncut").mkdir()
    (tmp_path / "cut").mkdir()
    with Hosts(tmp_path / "cut", 4, "--restarts", "1") as four:
        # One dies: the others end soon, and all start again from a checkpoint.
        four.reach(2 * CHECKPOINT_EVERY + 5)
        killed = time.monotonic()
        os.kill(four.ranks()[2], signal.SIGKILL)
        four.wait_until(lambda: "starting again" in four.said(), 60)
        assert time.monotonic() - killed < 45  # ten for the heartbeat, thirty of grace at most
        assert "rank 2 ended with 137" in four.said()
        # One is asked to stop: all do, after one step, and that is saved.
        at = max(four.losses())
        four.reach(at + CHECKPOINT_EVERY)
        assert min(four.losses()) == 1
        os.kill(four.ranks()[3], signal.SIGTERM)
        four.ends_with(75)
        assert four.said().count("stopped by a signal after step") == 1
        stopped = four.saved()
        assert max(four.losses()) == stopped
        assert f"stopped by a signal after step {stopped}, saved" in four.said()
    damage(four.workdir / "checkpoints" / str(stopped))
    with Hosts(tmp_path / "cut", 2) as two:
        # They go back to the checkpoint before. All are asked to stop, by way of who started them
        # and as early as they can listen.
        before = (stopped - 1) // CHECKPOINT_EVERY * CHECKPOINT_EVERY
        two.wait_until(lambda: "MFU = " in two.said())
        two.process.send_signal(signal.SIGTERM)
        two.ends_with(75)
        assert two.said().count(f"the checkpoint of step {stopped} is damaged") == 1
        assert (two.workdir / "damaged_checkpoints" / str(stopped)).is_dir()
        assert before < two.saved() == max(two.losses()) < before + CHECKPOINT_EVERY
    with Hosts(tmp_path / "cut", 1) as one:
        one.ends_with(0)
    with Hosts(tmp_path / "uncut", 1) as uncut:
        uncut.ends_with(0)
    losses, expected = one.losses(), uncut.losses()
    assert list(losses) == list(expected) == list(range(1, 81))
    # Sums of other groups of rows round otherwise, and steps carry that on.
    assert list(losses.values()) == pytest.approx(list(expected.values()), rel=1e-3)


def test_a_host_that_hangs_brings_the_others_down_with_their_stack_traces(tmp_path):
    with Hosts(tmp_path, 2, "--grace", "3") as two:
        two.wait_until(two.saved)  # it is written beside the steps that follow
        saved, hanging = two.saved(), two.ranks()[1]
        began = time.monotonic()
        os.kill(hanging, signal.SIGSTOP)
        two.ends_with(134, 60)  # the hanging one cannot say anything, the other is aborted by JAX
        assert time.monotonic() - began < 40
        assert not Path(f"/proc/{hanging}").exists()
        assert "Current thread" in two.said() or "most recent call first" in two.said()
        assert 'zoo/training/loop.py", line' in two.said()
        assert two.saved() >= saved


def test_a_host_that_is_missing_is_named(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"ZOO_COORDINATOR": f"localhost:{free.getsockname()[1]}", "ZOO_NUM_HOSTS": "4"}
    (tmp_path / "config.py").write_text(CONFIG)
    command = [sys.executable, "-m", "zoo.cli", "train", "--config", str(tmp_path / "config.py")]
    hosts = [
        subprocess.Popen(
            [*command, "--workdir", str(tmp_path / "run")],
            env={**os.environ, **meeting, "PYTHONPATH": str(ROOT), "ZOO_HOST": str(host),
                 "ZOO_JOIN_SECONDS": "20"},
            stderr=subprocess.PIPE, text=True,
        )
        for host in (0, 1, 3)
    ]  # fmt: skip
    try:
        for process in hosts:
            _, said = process.communicate(timeout=100)
            assert process.returncode == 69
            assert re.fullmatch(r"zoo: host 2 of 4 did not come within 20 s: see there .*\n", said)
    finally:
        for process in hosts:
            process.kill()
    assert not (tmp_path / "run").exists()


def test_a_mistake_on_one_host_ends_all_and_is_what_counts(tmp_path):
    with Hosts(tmp_path, 2, "--restarts", "3", arg=":lacking") as two:
        two.ends_with(2, 120)
        assert re.search(r"^\[1\] zoo: .*mnist", two.said(), re.MULTILINE)
        assert "Traceback" not in two.said()
        assert "starting again" not in two.said()


@pytest.mark.parametrize("mesh", ["rows", "tensor", "sequence", "both"])
def test_two_hosts_with_two_devices_each_train_and_evaluate_as_one_does(tmp_path, mesh):
    logged = []
    for hosts in (2, 1):
        folder = tmp_path / str(hosts)
        folder.mkdir()
        with Hosts(folder, hosts, arg=f":{mesh}", devices=4 // hosts) as run:
            run.ends_with(0, 480)
        assert (run.workdir / "report.html").is_file()
        assert sum(line.endswith("report.html") for line in run.said().splitlines()) == 1
        lines = (run.workdir / "metrics.jsonl").read_text().splitlines()
        logged.append((list(run.losses().values()), json.loads(lines[-1])))
    (losses, evaluated), (expected, evaluated_by_one) = logged
    assert len(losses) == 4
    assert losses == pytest.approx(expected, rel=1e-5)
    assert evaluated == pytest.approx(evaluated_by_one, rel=1e-5)
    assert evaluated["eval/test/count"] == 360
