"""Weights for use: which checkpoint of a run is taken, and what is said where one is damaged."""

import shutil

import pytest

from tests.tiny import tiny_config
from zoo.cli import main
from zoo.config import UserError
from zoo.sharding.mesh import make_mesh
from zoo.training.loop import train
from zoo.training.weights import open_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    train(tiny_config(best_metric="test/accuracy", keep_last=3, save_every="2 steps"), workdir)
    return workdir


@pytest.fixture
def workdir(run, tmp_path):
    """A copy of a run with checkpoints of the steps 4, 6 and 8; 6 was not evaluated."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def damage(workdir, step, item="meta"):
    """Cuts every file of a checkpoint's item short."""
    for path in (workdir / "checkpoints" / str(step) / item).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])


def test_where_the_newest_meta_is_damaged_an_older_checkpoint_is_used_and_said(workdir, capsys):
    damage(workdir, 8)
    weights = open_weights(workdir)
    assert weights.step == 4  # the best of those that are left
    assert "the checkpoint of step 8 is damaged" in capsys.readouterr().err
    assert weights.load(make_mesh(weights.config.mesh))
    damage(workdir, 4)
    assert open_weights(workdir).step == 6
    damage(workdir, 6)
    with pytest.raises(UserError, match=r"none of the checkpoints in .* can be read"):
        open_weights(workdir)


def test_a_checkpoint_that_was_asked_for_needs_no_other(workdir, capsys):
    damage(workdir, 8)
    assert open_weights(workdir / "checkpoints" / "6").step == 6
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("command", "item"),
    [(("eval", "--weights"), "meta"), (("eval", "--weights"), "params"), (("inspect",), "meta")],
)
def test_one_that_was_asked_for_is_not_replaced_but_others_are_named(
    workdir, capsys, command, item
):
    damage(workdir, 6, item)
    expect_others_named(workdir, capsys, command)


def test_missing_files_are_damage_to_inspect(workdir, capsys):
    shutil.rmtree(workdir / "checkpoints" / "6" / "params")
    expect_others_named(workdir, capsys, ["inspect"])


def expect_others_named(workdir, capsys, command):
    path = workdir / "checkpoints" / "6"
    assert main([*command, str(path)]) == 2
    message = capsys.readouterr().err
    assert f"checkpoint {path} is damaged" in message
    assert str(workdir / "checkpoints" / "4") in message
