"""Cloud TPU VMs, from the request to the deletion, against a stand-in for gcloud."""

import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launching import fake_gcloud
from zoo.launching import tpu

FLAGS = ["--topology=v5e:4x4", "--zone=us-west4-a", "--restarts=1"]
# Ctrl-C is ignored by what was started in the background, as these tests may have been.
MAIN = """
import signal
from zoo.launching import job, tpu
signal.signal(signal.SIGINT, signal.default_int_handler)
job.run_main(lambda argv: tpu.main(argv, poll_s=0.02))
"""
# What a machine's setup calls that is not to happen here: uv installs a Python that is ours.
PROGRAMS = {
    "gcloud": f'exec {sys.executable} {fake_gcloud.__file__} "$@"',
    "python3": """mkdir -p ~/.local/bin && ln -sf "$FAKE_GCLOUD/bin/uv" ~/.local/bin/uv""",
    "uv": """if [ "$1" = venv ]; then mkdir -p zoo/.venv/bin
      ln -sf "$FAKE_GCLOUD/bin/python" zoo/.venv/bin/python; fi""",
    "python": f'exec {sys.executable} "$@"',
    "sudo": 'echo "sudo $*" >>~/done',
    "gcsfuse": 'echo "gcsfuse $*" >>~/done',
    "mount.nfs": "exit 1",
}


@pytest.fixture
def cloud(tmp_path):
    """The environment of a launcher that finds the stand-in."""
    (tmp_path / "bin").mkdir()
    for name, text in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "FAKE_GCLOUD": str(tmp_path),
        "FAKE_STATES": "WAITING_FOR_RESOURCES,PROVISIONING,ACTIVE",
    }


def start(env, command, *flags):
    # As `launch/tpu` does, but asking every fiftieth of a second.
    command = [sys.executable, "-c", MAIN, *FLAGS, *flags, "--", "bash", "-c", command]
    return subprocess.Popen(
        command,
        env={**env, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(env, command, *flags):
    """The exit code, and what was printed to stdout and stderr."""
    process = start(env, command, *flags)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def calls(env):
    text = (Path(env["FAKE_GCLOUD"]) / "calls").read_text()
    return [json.loads(line) for line in text.splitlines()]


def verbs(env):
    """The calls by their verbs, without those that only ask."""
    return [verb for verb, *_ in calls(env) if verb != "describe"]


def is_given_back(env):
    return not (Path(env["FAKE_GCLOUD"]) / "state").exists()


def test_a_command_runs_on_all_machines_which_are_given_back(cloud):
    code, out, err = run(cloud, 'echo "on $WORKER in $(basename $PWD) with $A"', "--env=A=a b")
    assert code == 0, err
    host = os.uname().nodename
    expected = [f"{host}: on {worker} in zoo with a b" for worker in fake_gcloud.WORKERS]
    assert sorted(out.splitlines()) == expected
    assert verbs(cloud) == ["create", "scp", "ssh", "ssh", "delete"]
    assert is_given_back(cloud)
    assert "zoo: zoo: PROVISIONING" in err


def test_the_machines_have_the_code_of_this_checkout(cloud):
    code, _, err = run(
        cloud, "test -f setup.cfg && test -f configs/digits_vit.py && ! test -e .git"
    )
    assert code == 0, err


def test_machines_that_are_taken_away_are_asked_for_again(cloud):
    first = 'test -e "$FAKE_GCLOUD/was" && exit 0; sleep 1; touch "$FAKE_GCLOUD/was"'
    lost = f'{first}; echo SUSPENDING,SUSPENDED >"$FAKE_GCLOUD/state"; exit 255'
    code, _, err = run(cloud, lost, "--restarts=0")
    assert code == 0, err
    again = ["create", "scp", "ssh", "ssh", "delete"]
    assert verbs(cloud) == again * 2
    assert "was taken away (SUSPENDED)" in err


def test_a_lost_connection_is_no_lost_machine(cloud):
    lost = 'mkdir "$FAKE_GCLOUD/$WORKER/was" 2>/dev/null && exit 255; exit 0'
    code, _, err = run(cloud, lost, "--restarts=1")
    assert code == 0, err
    assert verbs(cloud).count("create") == 1


@pytest.mark.parametrize("code", [2, 134])
def test_the_commands_exit_code_comes_back_and_the_machines_go(cloud, code):
    assert run(cloud, f"exit {code}", "--restarts=0")[0] == code
    assert verbs(cloud) == ["create", "scp", "ssh", "ssh", "delete"]


def test_ctrl_c_lets_the_run_save_and_gives_the_machines_back(cloud):
    saving = "trap 'sleep 0.5; touch \"$FAKE_GCLOUD/$WORKER.saved\"; exit 75' TERM"
    process = start(cloud, f"{saving}; touch ~/running; for _ in $(seq 1200); do sleep 0.1; done")
    running = [Path(cloud["FAKE_GCLOUD"]) / worker / "running" for worker in fake_gcloud.WORKERS]
    try:
        wait_until(lambda: all(path.exists() for path in running))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    for worker in fake_gcloud.WORKERS:
        assert (Path(cloud["FAKE_GCLOUD"]) / f"{worker}.saved").exists(), err
    assert is_given_back(cloud)


def test_sigterm_while_waiting_gives_the_request_back(cloud):
    process = start({**cloud, "FAKE_STATES": "WAITING_FOR_RESOURCES"}, "true")
    try:
        wait_until(lambda: not is_given_back(cloud))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert is_given_back(cloud)


def wait_until(holds):
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_kept_machines_are_used_again(cloud):
    assert run(cloud, "true", "--keep")[0] == 0
    assert not is_given_back(cloud)
    assert run(cloud, "true", "--keep")[0] == 0
    assert verbs(cloud) == ["create", "scp", "ssh", "ssh", "scp", "ssh", "ssh"]


def test_machines_of_that_name_are_left_alone(cloud):
    assert run(cloud, "true", "--keep")[0] == 0
    code, _, err = run(cloud, "true")
    assert code == 2
    assert "zoo is there already" in err
    assert not is_given_back(cloud)


def test_a_request_that_fails_is_not_repeated(cloud):
    code, _, err = run({**cloud, "FAKE_STATES": "PROVISIONING,FAILED"}, "true")
    assert code == 2
    assert "the request for zoo failed" in err
    assert verbs(cloud) == ["create", "delete"]


def test_a_request_that_gcloud_refuses_is_not_repeated(cloud):
    code, _, err = run({**cloud, "FAKE_FAILS": "create"}, "true")
    assert code == 2
    assert "gcloud refused the request for zoo" in err
    assert verbs(cloud).count("create") == 1


def test_a_gcloud_that_does_not_answer_is_given_up(cloud):
    code, _, err = run({**cloud, "FAKE_FAILS": "describe"}, "true")
    assert code == 2
    assert "gcloud cannot say what there is" in err
    assert verbs(cloud) == []


def test_a_bucket_is_mounted_before_the_command_runs(cloud):
    command = "cat ~/done; true --workdir /mnt/zoo/run"
    code, out, err = run(cloud, command, "--bucket=mine", "--setup=echo set up >>~/done", "--keep")
    assert code == 0, err
    assert "gcsfuse --implicit-dirs --rename-dir-limit=200000 mine /mnt/zoo" in out
    assert out.count("set up") == 2
    assert "sudo apt-get" not in out


def test_without_gcloud_there_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(tpu.UserError, match="gcloud is not installed here"):
        tpu.main([*FLAGS, "--", "true"])


VARIANTS = (
    ["--topology=v5e:4x4"],
    ["--topology=v4:2x2x4", "--slices=2", "--spot", "--project=mine"],
    ["--topology=v6e:16x16", "--bucket=mine", "--runtime=other"],
    ["--topology=v5p:4x4x8", "--nfs=10.0.0.2:/share", "--setup=echo 'a b'"],
)


def dry_run(capsys, flags):
    """The commands that a dry run prints."""
    assert tpu.main([*flags, "--zone=us-west4-a", "--dry-run", "--", "zoo", "train"]) == 0
    words = shlex.split(capsys.readouterr().out, comments=True)
    starts = [i for i, word in enumerate(words) if word == "gcloud"] + [len(words)]
    return [words[a:b] for a, b in itertools.pairwise(starts)]


@pytest.mark.parametrize("flags", VARIANTS)
def test_a_dry_run_prints_commands_that_gcloud_takes(capsys, flags):
    parsed = [fake_gcloud.parse(command[1:])[0] for command in dry_run(capsys, flags)]
    assert parsed == ["create", "describe", "scp", "ssh", "ssh", "ssh", "delete"]


def test_the_type_of_machine_follows_from_the_topology(capsys):
    create = dry_run(capsys, ["--topology=v4:2x2x4", "--slices=2", "--spot"])[0]
    wanted = {
        "--accelerator-type=v4-32",
        "--runtime-version=tpu-ubuntu2204-base",
        "--node-count=2",
        "--node-prefix=zoo",
        "--spot",
    }
    assert wanted <= set(create)


@pytest.mark.slow
def test_the_real_gcloud_takes_the_commands(capsys, tmp_path):
    if not shutil.which("gcloud"):
        pytest.skip("no gcloud here")
    # Without an account it stops (1) after reading its flags, of which it refuses (2) wrong ones.
    env = os.environ | {
        "CLOUDSDK_CONFIG": str(tmp_path),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_PROJECT": "none",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }
    for command in [*dry_run(capsys, VARIANTS[1]), dry_run(capsys, VARIANTS[2])[0]]:
        shown = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert shown.returncode == 1, shown.stderr
        assert "active account" in shown.stderr
