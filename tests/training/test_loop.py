"""The loop: a run that is cut and resumed is the run that was not cut."""

import json
import os
import re
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.tiny import tiny_config
from zoo.config import UserError
from zoo.evaluation.evaluate import evaluate
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import init_params
from zoo.training import loop
from zoo.training.loop import Every, train
from zoo.training.metrics import MetricsWriter, profiler
from zoo.training.weights import open_weights, params_from
from zoo.training.workdir import write_config

AUGMENTED = {
    "model": {"dropout": 0.1},
    "data": {"train_ops": [{"op": "pad_crop", "pad": 1}], "mix": {"mixup": 0.5}, "threads": 1},
    "optimizer": {"name": "adamw", "lr": 1e-3, "warmup": "4 steps"},
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
def test_cut_and_resumed_equals_uncut_bit_for_bit(uncut, tmp_path, cuts, monkeypatch):
    trained = []
    monkeypatch.setattr(loop, "check_finite", lambda step, *_: trained.append(step))
    for stop_at in (*cuts, None):
        result = train(tiny_config(**AUGMENTED), tmp_path, stop_at=stop_at)
    for key in ("loss", "grad_norm", "eval/test/loss"):
        ours, theirs = logged(tmp_path, key), logged(uncut[0], key)
        assert {step: ours[step] for step in theirs} == theirs
    assert trained == [*logged(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8]
    for ours, theirs in zip(
        *(np.asarray(r.state.ema["head"]["kernel"]) for r in (result, uncut[1])), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_resumes_on_another_mesh_with_the_same_examples(uncut, tmp_path):
    train(tiny_config(**AUGMENTED), tmp_path, stop_at=4)
    train(tiny_config(**AUGMENTED, mesh={"slices": 2, "data": 1, "fsdp": 4}), tmp_path)
    ours, theirs = logged(tmp_path), logged(uncut[0])
    np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=1e-4)


def test_the_learning_rate_of_a_step_is_the_one_that_it_moved_by(uncut):
    expected = [0, 0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3, 1e-3]
    assert [*logged(uncut[0], "learning_rate").values()] == pytest.approx(expected)


def test_the_average_is_what_is_evaluated(uncut):
    workdir, result = uncut
    logged_loss = logged(workdir, "eval/test/loss")[8]
    for params, same in ((result.state.ema, True), (result.state.params, False)):
        found = evaluate(result.evaluator, params, result.run.config.data, "test")
        assert (found.metrics["loss"] == logged_loss) == same


def test_every_evaluation_counts_each_example_once(uncut):
    assert set(logged(uncut[0], "eval/test/count").values()) == {360}


def test_the_stored_config_runs_again(uncut):
    from zoo.config import load_config

    assert load_config(str(uncut[0] / "config.json")) == uncut[1].run.config


def test_a_finished_run_trains_no_further(uncut):
    result = train(tiny_config(**AUGMENTED), uncut[0])
    assert result.step == 8
    assert len(logged(uncut[0])) == 8


def test_a_run_that_is_past_its_new_end_trains_no_further(uncut):
    assert train(tiny_config(**AUGMENTED, total="4 steps"), uncut[0]).step == 8
    assert len(logged(uncut[0])) == 8


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"optimizer": {"name": "adamw", "lr": 2e-3}}, "optimizer.lr 0.001 there, 0.002 here"),
        ({"model": {"dropout": 0.2}}, "model.dropout 0.1 there, 0.2 here"),
    ],
)
def test_a_workdir_of_another_config_is_refused(uncut, change, expected):
    with pytest.raises(UserError, match=re.escape(expected)):
        train(tiny_config(**{**AUGMENTED, **change}), uncut[0])


def test_a_torn_config_is_named_and_writing_one_leaves_no_torn_one(uncut, tmp_path, monkeypatch):
    config = tiny_config(**AUGMENTED)
    write_config(tmp_path, config)
    before = (tmp_path / "config.json").read_text()
    monkeypatch.setattr(os, "replace", lambda *paths: pytest.fail("as if killed here"))
    with pytest.raises(pytest.fail.Exception):
        write_config(tmp_path, config.replace(seed=1))
    assert (tmp_path / "config.json").read_text() == before
    (tmp_path / "config.json").write_text(before[:50])
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    with pytest.raises(UserError, match=r"config.json.*is no JSON"):
        train(config, tmp_path)


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


def test_a_signal_during_an_evaluation_saves_too(tmp_path, monkeypatch):
    stop = lambda *_: (os.kill(os.getpid(), signal.SIGTERM), {})[1]
    monkeypatch.setattr(loop, "evaluate_splits", stop)
    result = train(tiny_config(**AUGMENTED, save_every="8 steps"), tmp_path)
    assert (result.step, result.stopped_by_signal) == (4, True)
    assert (tmp_path / "checkpoints" / "4").is_dir()


@pytest.mark.parametrize("allowed", [0, 3])
def test_the_host_runs_no_further_ahead_than_allowed(tmp_path, monkeypatch, allowed):
    dispatched, ahead = [], []
    make = loop.make_runner

    def counting(*args):
        runner = make(*args)
        step = lambda *inputs: (dispatched.append(1), runner.step(*inputs))[1]
        return replace(runner, step=step)

    monkeypatch.setattr(loop, "make_runner", counting)
    monkeypatch.setattr(loop, "check_finite", lambda at, *_: ahead.append(len(dispatched) - at))
    every = {"eval_every": "8 steps", "save_every": "8 steps"}
    train(tiny_config(**AUGMENTED, **every, max_in_flight=allowed), tmp_path)
    assert len(ahead) == 8
    assert max(ahead) == allowed


def test_the_first_step_compiles_and_counts_for_no_rate(uncut):
    assert [*logged(uncut[0], "examples_per_second")] == [2, 3, 4, 5, 6, 7, 8]


def test_the_best_checkpoint_is_kept_and_used(tmp_path, monkeypatch):
    accuracy = {4: 0.9, 8: 0.5}
    measure = lambda *args: {"test/accuracy": accuracy[args[3]]}
    monkeypatch.setattr(loop, "evaluate_splits", measure)
    train(tiny_config(**AUGMENTED, keep_last=1, save_every="2 steps"), tmp_path)
    assert open_weights(tmp_path).checkpoints.steps() == [4, 8]
    assert open_weights(tmp_path).step == 4


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 8, ["start", 5, "stop"]),
        (0, 5, ["start", "stop"]),  # the run ends within the window
        (4, 8, ["start", 5, "stop"]),  # it resumes within the window
        (5, 8, []),
    ],
)
def test_the_profiler_runs_in_its_window_only(tmp_path, monkeypatch, first, last, expected):
    calls = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))
    with profiler(tmp_path, tiny_config(profile_at=3, profile_steps=2)) as profile:
        for step in range(first, last):
            if step == 5 and "start" in calls:
                calls.append(step)
            profile(step)
    assert calls == expected


def test_metrics_of_steps_that_are_done_again_are_dropped(tmp_path):
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4)), (4, ())):
        writer = MetricsWriter(tmp_path, start)
        for step in steps:
            writer.write(step, {"loss": start + step / 10})
        writer.close()
    assert logged(tmp_path) == {1: 0.1, 2: 0.2, 3: 2.3, 4: 2.4}
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4
    MetricsWriter(tmp_path, 0).close()
    assert logged(tmp_path) == {}


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
        ema_decay=0.9,
    )
    before = loop.resolve(config)
    assert before.config.model.image_size == 16
    result = train(config, tmp_path, stop_at=0)
    ours, theirs = result.state.params, uncut[1].state.ema
    kernel = lambda params: np.asarray(params["blocks"]["mlp"]["up"]["kernel"])
    np.testing.assert_array_equal(kernel(ours), kernel(theirs))
    assert ours["pos_embed"].shape[0] == 16 + theirs["pos_embed"].shape[0] - 4
    jax.tree.map(np.testing.assert_array_equal, ours, result.state.ema)


def test_a_head_for_other_classes_starts_fresh(uncut, capsys):
    config = tiny_config(model={"num_classes": 7})
    fresh = init_params(config, jax.random.key(5))
    found = params_from(str(uncut[0] / "checkpoints" / "8"), config, fresh, make_mesh(config.mesh))
    jax.tree.map(np.testing.assert_array_equal, found["head"], fresh["head"])
    theirs = uncut[1].state.ema["blocks"]
    jax.tree.map(np.testing.assert_array_equal, found["blocks"], theirs)
    assert "has no head of this kind: it starts fresh" in capsys.readouterr().err


def test_positions_of_a_grid_given_by_hand_are_taken_over(uncut, tmp_path):
    """The grid that the config gives is of its own positions, not of the other run's."""
    path = str(uncut[0] / "checkpoints" / "8")
    sections = {"init_from": path, "model": {"position_grid": (4, 4)}}
    state = train(tiny_config(**sections), tmp_path, stop_at=0).state
    theirs = uncut[1].state.ema["pos_embed"]
    assert state.params["pos_embed"].shape[0] == 16 + theirs.shape[0] - 4
    np.testing.assert_array_equal(state.params["cls"], uncut[1].state.ema["cls"])


RESIZE = [{"op": "resize", "method": "bilinear"}]


def test_cadence_is_every_so_many_steps_and_at_the_end():
    assert [step for step in range(1, 11) if Every(4, 10).due(step)] == [4, 8, 10]
