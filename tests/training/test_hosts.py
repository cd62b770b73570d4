"""Two processes train one model: they share batches, evaluation and checkpoints."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, jax
from pathlib import Path
address, num_hosts, host, workdir = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if num_hosts > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_hosts, host)
from tests.tiny import tiny_config
from zoo.experiment.run import run
mesh = {"data": 2, "fsdp": 2}
config = tiny_config(ema_decay=0.9, mesh=mesh, total="4 steps", save_every="2 steps")
for stop_at in (2, None):
    run(config, Path(workdir), stop_at=stop_at)
"""


def train_on(num_hosts, workdir):
    """Trains on four devices, shared by so many processes; step -> loss, and the last metrics."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    devices = f"--xla_force_host_platform_device_count={4 // num_hosts}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": devices}
    command = [sys.executable, "-c", SCRIPT, address, str(num_hosts)]
    hosts = [
        subprocess.Popen([*command, str(host), str(workdir)], env=environment, cwd=ROOT)
        for host in range(num_hosts)
    ]
    try:
        assert [process.wait(300) for process in hosts] == [0] * num_hosts
    finally:
        for process in hosts:
            process.kill()
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert (workdir / "report.html").is_file()
    return [line["loss"] for line in lines if "loss" in line], lines[-1]


ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_hosts_train_evaluate_and_resume_as_one_does(tmp_path):
    losses, evaluated = train_on(2, tmp_path / "two")
    expected, evaluated_by_one = train_on(1, tmp_path / "one")
    assert len(losses) == 4
    assert losses == pytest.approx(expected, rel=1e-5)
    assert evaluated == pytest.approx(evaluated_by_one, rel=1e-5)
    assert evaluated["eval/test/count"] == 360
