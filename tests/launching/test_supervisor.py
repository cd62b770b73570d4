"""Ranks run, end and start again together."""

import os
import signal
import subprocess
import sys
import time

import pytest

from zoo.launching import local


def start(tmp_path, script, *flags, module="supervisor"):
    """A supervisor of a Python script, whose working directory is the test's own."""
    path = tmp_path / "rank.py"
    head = "import os, pathlib, signal, sys, time\nhost = os.environ.get('ZOO_HOST')\n"
    path.write_text(head + script)
    command = [sys.executable, "-m", f"zoo.launching.{module}", *flags]
    return subprocess.Popen(
        [*command, "--", sys.executable, str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, timeout=30):
    """Exit code, stdout, stderr."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err


def appear(path, timeout=20):
    """Returns when a file is there."""
    deadline = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)


def test_each_line_carries_its_rank_in_the_order_that_it_was_printed(tmp_path):
    script = "for i in range(200): print('line', i)\nprint('unended', end='')"
    code, out, err = finish(start(tmp_path, script, "--ranks", "3"))
    assert (code, err) == (0, "")
    for rank in range(3):
        lines = [line for line in out.splitlines() if line.startswith(f"[{rank}] ")]
        expected = [f"[{rank}] line {i}" for i in range(200)] + [f"[{rank}] unended"]
        assert lines == expected


def test_ranks_are_told_of_each_other_and_a_single_one_is_not(tmp_path):
    script = "print([os.environ.get(f'ZOO_{k}') for k in ('COORDINATOR', 'NUM_HOSTS', 'HOST')])"
    _, out, _ = finish(start(tmp_path, script, "--ranks", "2"))
    first, second = sorted(line[4:] for line in out.splitlines())
    assert first.startswith("['localhost:")
    assert first.endswith("'2', '0']")
    assert second == first.replace("'0']", "'1']")
    assert finish(start(tmp_path, script))[1] == "[None, None, None]\n"


def test_a_rank_that_is_killed_takes_the_others_along_and_all_start_again(tmp_path):
    script = """
open(f'starts{host}', 'a').write('x')
if not os.path.exists('crashed'):
    while host == '1':
        if all(os.path.exists(f'starts{i}') for i in range(3)):
            open('crashed', 'w')
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
"""
    code, _, err = finish(start(tmp_path, script, "--ranks", "3", "--restarts", "2"))
    assert code == 0
    assert [(tmp_path / f"starts{rank}").read_text() for rank in range(3)] == ["xx"] * 3
    assert "rank 1 ended with 137" in err
    assert err.count("starting again") == 1


def test_who_ignores_sigterm_or_is_stopped_is_killed_after_the_grace(tmp_path):
    script = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if host == '0': os.kill(os.getpid(), signal.SIGSTOP)
if host == '1': time.sleep(1); sys.exit(3)
time.sleep(60)
"""
    began = time.monotonic()
    code, _, _ = finish(start(tmp_path, script, "--ranks", "3", "--grace", "1"))
    assert code == 3
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(("code", "starts"), [(0, 1), (2, 1), (75, 1), (1, 3), (69, 3)])
def test_what_a_restart_would_not_change_is_not_restarted(tmp_path, code, starts):
    script = f"open('starts', 'a').write('x')\nsys.exit({code})"
    # The pause is for machines, not for tests.
    supervisor_code = (
        "from zoo.launching import supervisor; supervisor.PAUSE_S = 0.0; import sys; "
        "sys.exit(supervisor.main(sys.argv[1:]))"
    )
    path = tmp_path / "rank.py"
    path.write_text("import sys\n" + script)
    command = [sys.executable, "-c", supervisor_code, "--restarts", "2", "--", sys.executable]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [*command, str(path)], cwd=tmp_path, env=environment, timeout=30, check=False
    )
    assert done.returncode == code
    assert (tmp_path / "starts").read_text() == "x" * starts


def test_the_users_mistake_on_one_rank_counts_whatever_became_of_the_others(tmp_path):
    script = """
ready = pathlib.Path('ready')
if host == '1':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.touch()
    time.sleep(0.5)
    sys.exit(2)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if host == '0':
    while not ready.exists(): time.sleep(0.02)
    sys.exit(1)
time.sleep(60)
"""
    code, _, err = finish(start(tmp_path, script, "--ranks", "3", "--restarts", "5"))
    assert code == 2
    assert "starting again" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_is_passed_on_and_ends_the_restarts(tmp_path, number):
    script = """
def leave(number, frame):
    print('got', number)
    sys.exit(1)
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, leave)
open(f'ready{host}', 'w')
time.sleep(60)
"""
    process = start(tmp_path, script, "--ranks", "2", "--restarts", "5")
    for rank in range(2):
        appear(tmp_path / f"ready{rank}")
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 1
    assert sum(line.endswith(f"got {int(number)}") for line in out.splitlines()) >= 1
    assert "starting again" not in err


def test_a_second_interrupt_kills(tmp_path):
    script = """
signal.signal(signal.SIGINT, lambda *_: open(f'asked{host}', 'w'))
open(f'ready{host}', 'w')
while True: time.sleep(1)
"""
    process = start(tmp_path, script, "--ranks", "2")
    for event in ("ready", "asked"):
        for rank in range(2):
            appear(tmp_path / f"{event}{rank}")
        process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 137


def test_ranks_do_not_outlive_a_supervisor_that_is_killed(tmp_path):
    script = "open('pid', 'w').write(str(os.getpid()))\nos.rename('pid', 'ready')\ntime.sleep(60)"
    process = start(tmp_path, script)
    appear(tmp_path / "ready")
    process.kill()
    process.wait(10)
    process.communicate(timeout=20)  # the rank held our pipes open until it ended


def test_a_dry_run_prints_what_would_be_run(capsys):
    argv = ["2", "--devices-per-host", "4", "--dry-run", "--", "zoo", "train", "--workdir", "a b"]
    assert local.main(argv) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("ZOO_NUM_HOSTS=2 ZOO_HOST=0 zoo train --workdir 'a b'")
    assert "--xla_force_host_platform_device_count=4" in first
    assert second == first.replace("ZOO_HOST=0", "ZOO_HOST=1")


def test_a_command_that_there_is_not_is_named():
    command = [sys.executable, "-m", "zoo.launching.supervisor", "--", "no-such-command"]
    # A process of its own: it forks, and this one may have loaded JAX, which warns of that.
    found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert found.returncode == 2
    assert found.stderr == "zoo: cannot start no-such-command: No such file or directory\n"
