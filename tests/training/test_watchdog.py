"""A run that hangs ends, and says where."""

import subprocess
import sys

SCRIPT = """
import threading, time
from zoo.training.watchdog import watchdog

def wait_for_ever():
    threading.Lock().acquire()
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

with watchdog(0.01) as alive:  # 0.6 s
    for _ in range(10):
        alive()
        time.sleep(0.15)
    alive(slow=True)
    time.sleep(1.5)
    print("still here", flush=True)
    alive()
    wait_for_ever()
"""


def test_a_deadlock_ends_the_process_with_its_stack_traces():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.stdout == "still here\n"
    assert done.returncode == 69
    assert "in wait_for_ever" in done.stderr
    assert "longer than config.hang_minutes 0.01" in done.stderr


def test_an_end_in_time_leaves_the_process_alone():
    script = SCRIPT.replace("    wait_for_ever()\n", "time.sleep(1.5)\nprint('done')\n")
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "still here\ndone\n", "")
