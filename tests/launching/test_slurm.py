"""A job on SLURM: the script that is submitted, and what a real SLURM of two nodes does with it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launching import local_slurm
from zoo.launching import slurm

TRAIN = ["zoo", "train", "--config", "digits_vit", "--workdir", "runs/a b"]
# A rank that saves when it is told to stop, and is done once that has happened before.
RANK = """
import os, signal, sys, time
print("rank", os.environ["SLURM_PROCID"], "of", os.environ["SLURM_NTASKS"], flush=True)
if "SLURM_RESTART_COUNT" in os.environ:
    sys.exit(0)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
end = time.monotonic() + 60
while not stopped and time.monotonic() < end:
    time.sleep(0.1)
time.sleep(1)
print("saved", flush=True)
sys.exit(75 if stopped else 1)
"""


def script(*flags, command=TRAIN):
    return slurm.render(slurm.parse(slurm.flags(), [*flags, "--", *command]))


def directives(text):
    return {line.removeprefix("#SBATCH ") for line in text.splitlines() if line[:7] == "#SBATCH"}


def test_whole_nodes_have_one_rank_each():
    found = directives(script("--nodes", "3"))
    assert {"--nodes=3", "--ntasks-per-node=1", "--exclusive", "--mem=0"} <= found


def test_each_gpu_has_a_rank():
    found = directives(script("--nodes", "2", "--gpus-per-node", "8"))
    assert {"--ntasks-per-node=8", "--gpus-per-node=8"} <= found


def test_ranks_that_share_a_node_say_so_to_sbatch_and_to_srun():
    text = script("--nodes", "2", "--cpus-per-task", "4")
    assert "--cpus-per-task=4" in directives(text)
    assert "--exclusive" not in directives(text)
    assert any("--cpus-per-task=4" in line for line in text.splitlines() if line[:5] == "srun ")


def test_flags_for_the_cluster_reach_sbatch():
    flags = ("--partition=gpu", "--time=1-0", "--sbatch=--account=vision", "--sbatch=--qos=low")
    found = directives(script("--nodes=1", "--name=s16", *flags))
    assert {"--partition=gpu", "--time=1-0", "--account=vision", "--qos=low"} <= found
    assert {"--job-name=s16", "--output=s16-%j.log"} <= found


def test_words_and_variables_survive_the_shell(tmp_path):
    odd = "a 'b' $HOME"
    text = script("--nodes=1", f"--env=ODD={odd}", command=["echo", odd])
    shown = run_with_srun(text, tmp_path, 'printf "%s\\n" "$ODD" "$@"')
    assert shown.stdout.splitlines().count(odd) == 2


def test_a_workdir_that_not_all_nodes_see_stops_the_job(tmp_path):
    shown = run_with_srun(script("--nodes=2"), tmp_path, "exit 1")
    assert shown.returncode == 2
    assert "--workdir runs/a b is not on a file system that all nodes share" in shown.stderr


def run_with_srun(text, folder, srun):
    """Runs a job's script with a stand-in for srun."""
    (folder / "srun").write_text(f"#!/bin/bash\n{srun}\n")
    (folder / "srun").chmod(0o755)
    env = os.environ | {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2"}
    text = text.replace("export PATH=", f"export PATH={folder}:")
    command = ["bash", "-c", text]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=30)


def test_a_dry_run_prints_what_would_be_submitted(capsys):
    assert slurm.main(["--nodes=2", "--dry-run", "--", *TRAIN]) == 0
    assert capsys.readouterr().out == script("--nodes=2")


def test_without_slurm_there_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(slurm.UserError, match="sbatch is not installed here"):
        slurm.main(["--nodes=2", "--", *TRAIN])


@pytest.fixture(scope="module")
def cluster():
    try:
        with local_slurm.cluster() as env:
            # A device a rank, and programs that compile quickly.
            flags = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
            yield env | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path(__file__).parents[2])}
    except local_slurm.Unavailable as reason:
        pytest.skip(str(reason))


def submit(env, folder, command, *flags):
    """The number of a job that `launch/slurm` submits, and the file of its log."""
    launcher = [sys.executable, "-m", "zoo.launching.slurm", "--nodes=2", "--cpus-per-task=1"]
    command = [*launcher, *flags, "--", *command]
    shown = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    job = shown.stdout.split()[-1]
    return job, folder / f"zoo-{job}.log"


def wait_for(holds, log, timeout=900.0):
    """Waits until the log holds what it should."""
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, log.read_text() if log.exists() else "no log"
        time.sleep(0.5)


def says(log, text):
    return lambda: log.exists() and text in log.read_text()


def ended(env, job):
    """Whether a job neither runs nor waits."""
    return lambda: not local_slurm.output(env, "squeue", "-h", "-j", job, "-o", "%i").strip()


def facts(env, job):
    """What SLURM has on record of a job."""
    text = local_slurm.output(env, "scontrol", "show", "job", job)
    return dict(pair.split("=", 1) for pair in text.split() if "=" in pair)


@pytest.mark.cluster
def test_a_job_that_has_to_stop_saves_and_queues_again(cluster, tmp_path):
    job, log = submit(cluster, tmp_path, [sys.executable, "-c", RANK])
    wait_for(says(log, "1: rank 1 of 2"), log)
    local_slurm.output(cluster, "scancel", "--signal=TERM", job)  # as SLURM does near the limit
    wait_for(ended(cluster, job), log)
    assert facts(cluster, job)["Restarts"] == "1"
    assert facts(cluster, job)["JobState"] == "COMPLETED"
    text = log.read_text()
    assert text.count("saved") == 2
    assert text.count("0: rank 0 of 2") == text.count("1: rank 1 of 2") == 2


@pytest.mark.cluster
def test_a_job_that_is_cancelled_saves_and_stays_cancelled(cluster, tmp_path):
    job, log = submit(cluster, tmp_path, [sys.executable, "-c", RANK])
    wait_for(says(log, "1: rank 1 of 2"), log)
    local_slurm.output(cluster, "scancel", job)
    wait_for(ended(cluster, job), log)
    assert facts(cluster, job)["Restarts"] == "0"
    assert facts(cluster, job)["JobState"] == "CANCELLED"
    assert log.read_text().count("saved") == 2


@pytest.mark.cluster
def test_a_users_mistake_ends_the_job_with_2_and_no_restart(cluster, tmp_path):
    command = [sys.executable, "-m", "zoo.cli", "train", "--config=digits_wit", "--workdir=runs"]
    job, log = submit(cluster, tmp_path, command)
    wait_for(ended(cluster, job), log)
    assert facts(cluster, job)["ExitCode"] == "2:0"
    assert log.read_text().count("did you mean") == 2


@pytest.mark.cluster
def test_two_nodes_train_one_run_through_a_stop(cluster, tmp_path):
    words = ["train", "--config=digits_vit", "--workdir=run", "--steps=40"]
    train = [
        sys.executable,
        "-m",
        "zoo.cli",
        *words,
        "--config.log_every=10 steps",
        "--config.model.depth=1",
    ]
    job, log = submit(cluster, tmp_path, train)
    wait_for(says(log, "step 10/"), log)
    local_slurm.output(cluster, "scancel", "--signal=TERM", job)
    wait_for(ended(cluster, job), log)
    text = log.read_text()
    assert (facts(cluster, job)["JobState"], facts(cluster, job)["Restarts"]) == ("COMPLETED", "1")
    assert "of 2 x cpu" in text.lower(), text
    assert "stopped by a signal after step" in text, text
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [one["step"] for one in lines if "loss" in one] == list(range(10, 41, 10))
