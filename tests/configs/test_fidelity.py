"""Every published recipe against its source, by rows that were typed from it."""

import pytest

from tests.configs import rungs_text, rungs_vision
from tests.configs.fidelity import CHECKS
from zoo.config import load_config

RUNGS = {**rungs_vision.RUNGS, **rungs_text.RUNGS}


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("case", RUNGS)
def test_config_is_as_its_source_says(case, name):
    CHECKS[name](load_config(case), RUNGS[case])
