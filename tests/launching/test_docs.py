"""docs/launching.md shows what the launchers print."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from zoo.launching import gke, slurm, tpu

TEXT = (Path(__file__).parents[2] / "docs" / "launching.md").read_text()
SHOWN = re.findall(r"^```console\n\$ ./launch/(\w+) (.*)\n((?:.*\n)*?)```", TEXT, re.MULTILINE)
MAINS = {"slurm": slurm.main, "gke": gke.main, "tpu": tpu.main}


@pytest.mark.parametrize("launcher", MAINS)
def test_a_dry_run_prints_what_the_page_shows(capsys, launcher):
    [(flags, shown)] = [(flags, out) for name, flags, out in SHOWN if name == launcher and out]
    assert MAINS[launcher](shlex.split(flags)) == 0
    printed = capsys.readouterr().out
    assert (
        printed.replace(str(Path(sys.executable).parents[1]), "/home/you/zoo/.venv-3.11") == shown
    )


@pytest.mark.parametrize("launcher", MAINS)
def test_the_command_of_a_dry_run_is_the_one_that_the_page_explains(launcher):
    flags = [flags.replace(" --dry-run", "") for name, flags, _ in SHOWN if name == launcher]
    assert len(flags) == 2
    assert flags[0] == flags[1]
