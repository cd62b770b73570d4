"""The loop: a run that is cut and resumed is the run that was not cut."""

import json
import os
import re
import signal

import numpy as np
import pytest

from tests.tiny import tiny_config
from zoo.config import UserError
from zoo.training import loop
from zoo.training.loop import Every, train

AUGMENTED = {
    "model": {"dropout": 0.1},
    "data": {"train_ops": [{"op": "pad_crop", "pad": 1}], "mix": {"mixup": 0.5}, "threads": 1},
    "optimizer": {"name": "adamw", "lr": 1e-3},
    "ema_decay": 0.9,
}


def logged(workdir, key="loss"):
    """Step -> value of every training line of a run's metrics; the last line of a step wins."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in lines if key in line}


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uncut")
    result = train(tiny_config(**AUGMENTED), workdir)
    return workdir, result


@pytest.mark.parametrize("cuts", [(3,), (1, 4, 6)])
def test_cut_and_resumed_equals_uncut_bit_for_bit(uncut, tmp_path, cuts):
    for stop_at in (*cuts, None):
        result = train(tiny_config(**AUGMENTED), tmp_path, stop_at=stop_at)
    for key in ("loss", "grad_norm", "eval/test/loss"):
        ours, theirs = logged(tmp_path, key), logged(uncut[0], key)
        assert {step: ours[step] for step in theirs} == theirs
    assert [*logged(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8]
    for ours, theirs in zip(
        *(np.asarray(r.state.ema["head"]["kernel"]) for r in (result, uncut[1])), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_resumes_on_another_mesh_with_the_same_examples(uncut, tmp_path):
    train(tiny_config(**AUGMENTED), tmp_path, stop_at=4)
    train(tiny_config(**AUGMENTED, mesh={"data": 2, "fsdp": 4}), tmp_path)
    ours, theirs = logged(tmp_path), logged(uncut[0])
    np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=1e-4)


def test_every_evaluation_counts_each_example_once(uncut):
    assert set(logged(uncut[0], "eval/test/count").values()) == {360}


def test_the_stored_config_runs_again(uncut):
    from zoo.config import load_config

    assert load_config(str(uncut[0] / "config.json")) == uncut[1].run.config


def test_a_finished_run_trains_no_further(uncut):
    result = train(tiny_config(**AUGMENTED), uncut[0])
    assert result.step == 8
    assert len(logged(uncut[0])) == 8


def test_a_workdir_of_another_config_is_refused(uncut):
    other = tiny_config(**{**AUGMENTED, "optimizer": {"name": "adamw", "lr": 2e-3}})
    with pytest.raises(UserError, match=r"optimizer.lr 0.001 there, 0.002 here"):
        train(other, uncut[0])


def test_a_signal_saves_within_the_step_and_the_run_goes_on(uncut, tmp_path, monkeypatch):
    check = loop.check_finite

    def interrupt(step, metrics, saved):
        check(step, metrics, saved)
        if step == 3 and os.environ.pop("ZOO_TEST_SIGNAL", None):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setenv("ZOO_TEST_SIGNAL", "1")
    monkeypatch.setattr(loop, "check_finite", interrupt)
    result = train(tiny_config(**AUGMENTED), tmp_path)
    assert result.stopped_by_signal
    assert 3 <= result.step < 8
    assert (tmp_path / "checkpoints" / str(result.step)).is_dir()
    train(tiny_config(**AUGMENTED), tmp_path)
    assert logged(tmp_path) == logged(uncut[0])


@pytest.mark.parametrize("log_every", ["1 steps", "8 steps"])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(tmp_path, log_every):
    config = tiny_config(optimizer={"lr": 1e30}, log_every=log_every, save_every="1 steps")
    with pytest.raises(UserError, match=r"step \d") as error:
        train(config, tmp_path)
    bad = int(re.search(r"step (\d+)", str(error.value))[1])
    saved = [int(path.name) for path in (tmp_path / "checkpoints").glob("[0-9]*")]
    assert all(step < bad for step in saved)


def test_another_runs_weights_start_a_new_one_with_other_classes_and_resolution(uncut, tmp_path):
    config = tiny_config(
        init_from=str(uncut[0] / "checkpoints" / "8"),
        model={"num_classes": None, "image_size": None},
        data={"image_size": 16, "train_ops": RESIZE, "eval_ops": RESIZE},
    )
    before = loop.resolve(config)
    assert before.config.model.image_size == 16
    result = train(config, tmp_path, stop_at=0)
    ours, theirs = result.state.params, uncut[1].state.ema
    kernel = lambda params: np.asarray(params["blocks"]["mlp"]["up"]["kernel"])
    np.testing.assert_array_equal(kernel(ours), kernel(theirs))
    assert ours["pos_embed"].shape[0] == 16 + theirs["pos_embed"].shape[0] - 4


RESIZE = [{"op": "resize", "method": "bilinear"}]


def test_cadence_is_every_so_many_steps_and_at_the_end():
    assert [step for step in range(1, 11) if Every(4, 10).due(step)] == [4, 8, 10]
