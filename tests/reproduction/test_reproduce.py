"""A rung from its data to a line of results, small and at length, in one stage and in two."""

import dataclasses
import json
import math

import pytest

from tests.reproduction.small_data import write_all
from zoo.cli import main
from zoo.config import UserError, load_config
from zoo.config.load import CONFIG_DIR
from zoo.experiment.evaluate import evaluate_weights
from zoo.reproduction import inputs, page, reproduce
from zoo.reproduction.ladder import LADDER, by_name
from zoo.reproduction.reproduce import Place, passed, verdict
from zoo.reproduction.results import RESULTS, Result, read
from zoo.reproduction.small import SIZES, small

STEPS = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    write_all(path)
    return path


@pytest.fixture
def place(root, tmp_path_factory, monkeypatch):
    """All rungs put their runs in one place, so that one may start from another."""
    base = root.parent / "runs"
    monkeypatch.setenv("ZOO_DATA_DIR", str(root))
    monkeypatch.setattr(inputs, "TOKENS", 500)
    monkeypatch.setattr(reproduce, "by_name", short)
    return Place(base, tmp_path_factory.mktemp("results") / "results.jsonl")


def short(name):
    rung = by_name(name)
    return dataclasses.replace(rung, cut=rung.cut._replace(steps=STEPS))


def result(**changes):
    default = {
        "rung": "s16_90", "scale": "full", "seed": 0, "changes": {}, "metric": "val/accuracy",
        "value": 0.765, "metrics": {}, "steps": 10, "hours": 1.5, "device": "8 x TPU v5e",
        "versions": {}, "date": "2026-01-02", "command": "zoo reproduce s16_90",
    }  # fmt: skip
    return Result(**{**default, **changes})


def test_a_small_run_is_evaluated_at_its_last_step_and_recorded(place):
    said = []
    found = reproduce.reproduce(short("digits"), place, scale="small", seeds=2, say=said.append)
    assert [one.seed for one in found] == [0, 1]
    assert read(place.results) == found
    checkpoint = place.workdir / "small" / "digits" / "seed1" / "checkpoints" / str(STEPS)
    again = evaluate_weights(str(checkpoint), None)
    assert found[1].value == again["test/accuracy"]
    assert found[1].metrics == again
    assert found[0].steps == STEPS
    assert any("360" in str(one.metrics["test/count"]) for one in found)
    assert [line.split()[0] for line in said[1:5]] != []
    # The same command finds the run at its end, and says the same.
    more = reproduce.reproduce(short("digits"), place, scale="small", say=said.append)
    assert more[0].value == found[0].value


@pytest.mark.parametrize("name", ["glue_mnli", "augreg_s16_evaluate"])
def test_a_rung_starts_from_the_small_run_of_another(place, name):
    found = reproduce.reproduce(short(name), place, scale="small", say=lambda _: None)
    start = by_name(name).start
    assert [one.rung for one in read(place.results)] in ([start, name], [name])
    assert (place.workdir / "small" / start / "seed0" / "report.html").exists()
    if name == "augreg_s16_evaluate":  # the very weights, by way of the published format
        ours = place.workdir / "small" / start / "seed0" / "checkpoints" / str(STEPS)
        whole = load_config("finetune:in1k", by_name(name).changes)
        data = small(short(name), whole, inputs.Inputs(place.workdir)).data
        config = load_config(str(ours.parents[1])).replace(data=data, task=whole.task)
        same = evaluate_weights(str(ours), config)
        assert found[0].metrics["val/loss"] == pytest.approx(same["val/loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [rung.name for rung in LADDER])
def test_every_rung_runs_small(place, name):
    rung = short(name)
    found = reproduce.reproduce(rung, place, scale="small", say=lambda _: None)[0]
    assert math.isfinite(found.value)
    assert found.metric in found.metrics
    assert set(rung.scores) <= {key.partition("/")[2] for key in found.metrics}
    folder = place.workdir / "small" / rung.name / "seed0"
    if not rung.evaluate_only:
        config = load_config(str(folder / "config.json"))
        if rung.cut.shrink:
            assert config.model.width == SIZES[type(config.model)]["width"]
        # What makes the recipe is as it was.
        whole = load_config(rung.config, rung.changes)
        assert config.optimizer.name == whole.optimizer.name
        assert config.optimizer.decay_rules == whole.optimizer.decay_rules
        assert config.optimizer.weight_decay == whole.optimizer.weight_decay
        assert config.task == whole.task
        for key in ("train_ops", "eval_ops", "mix", "pack", "mask_rate", "pair"):
            assert getattr(config.data, key, None) == getattr(whole.data, key, None)


def test_what_is_not_the_published_recipe_is_partial(place, monkeypatch):
    monkeypatch.setattr(reproduce, "_start", lambda *_: None)
    changes = {
        "total": "2 steps",
        "optimizer.warmup": "1 steps",
        "save_every": "2 steps",
        "eval_every": "2 steps",
    }
    found = reproduce.reproduce(by_name("digits"), place, changes=changes, say=lambda _: None)
    assert found[0].scale == "partial"
    assert found[0].changes == changes
    assert passed(by_name("digits"), found)  # no verdict on another recipe
    assert "not the published recipe: --config.total='2 steps' --config.opt" in verdict(
        by_name("digits"), found
    )


@pytest.mark.parametrize(
    ("values", "word"),
    [((0.765,), "reproduced"), ((0.75,), "NOT reproduced"), ((0.76, 0.77), "2 seeds): published"),
     ((0.5, 0.6), "NOT reproduced (a band of 76.2 % to 77.3 %)")],
)  # fmt: skip
def test_a_full_run_is_held_to_its_band(values, word):
    rung = by_name("s16_90")
    found = [result(value=value, seed=seed) for seed, value in enumerate(values)]
    assert passed(rung, found) != ("NOT" in word)
    if "NOT" in word:
        assert word in verdict(rung, found)
    else:
        assert "NOT" not in verdict(rung, found)


def test_a_loss_is_better_where_it_is_less():
    rung = by_name("lm1b")
    assert passed(rung, [result(rung="lm1b", metric="test/loss", value=3.1)])
    assert not passed(rung, [result(rung="lm1b", metric="test/loss", value=3.3)])
    small = {"rung": "lm1b", "scale": "small", "metric": "test/loss"}
    assert passed(rung, [result(**small, value=7.0)])
    assert not passed(rung, [result(**small, value=9.0)])


def test_the_small_scale_takes_no_changes(place):
    with pytest.raises(UserError, match=r"leave --config\.seed out"):
        reproduce.reproduce(short("digits"), place, scale="small", changes={"seed": "1"})


def test_data_that_is_not_there_is_named_with_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path))
    argv = ["reproduce", "lm1b", "--scale", "small", "--workdir", str(tmp_path / "runs")]
    assert main([*argv, "--results", str(tmp_path / "r.jsonl")]) == 2
    assert "python benchmarks/fetch_data.py imdb" in capsys.readouterr().err
    assert not (tmp_path / "r.jsonl").exists()


def test_of_several_rungs_one_that_cannot_run_stops_none(place, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("zoo.reproduction.ladder.LADDER", (short("lm1b"), short("digits")))
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path))
    flags = ["--scale", "small", "--workdir", str(place.workdir), "--json"]
    assert main(["reproduce", *flags, "--results", str(place.results)]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [one["rung"] for one in found] == ["digits"]


def test_the_ladder_is_listed_with_what_was_reached(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    reproduce.append(path, result())
    assert main(["reproduce", "--results", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(LADDER)
    assert any("s16_90" in line and "here 76.5 %" in line for line in lines)
    path.write_text("{}\n")
    assert main(["reproduce", "--results", str(path)]) == 2
    assert "line 1 is no result" in capsys.readouterr().err


def test_the_page_has_a_row_a_rung_and_no_number_without_a_run():
    text = page.ladder_page([result(), result(seed=1, value=0.767), result(scale="small")])
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(LADDER)
    row = next(line for line in rows if line.startswith("| `s16_90`"))
    assert "**76.6 %** (76.5, 76.7)" in row
    assert "cut small: val/accuracy 76.5 % (guessing: 13.0 %)" in row
    assert "8 x TPU v5e, 1.5 h" in row
    others = [line for line in rows if line is not row]
    assert all("not run: needs" in line and "**" not in line for line in others)


def test_the_docs_are_what_the_file_of_results_says():
    results, root = read(RESULTS), CONFIG_DIR.parent
    again = "run zoo reproduce --docs"
    assert (root / "docs" / "ladder.md").read_text() == page.ladder_page(results), again
    table = (root / "README.md").read_text().partition(page.BEGIN)[2].partition(page.END)[0]
    assert table.strip() == page.short_table(results), again


def test_the_newest_of_two_runs_of_the_same_counts(tmp_path):
    path = tmp_path / "results.jsonl"
    for value in (0.1, 0.2):
        reproduce.append(path, result(value=value))
    assert [one.value for one in read(path)] == [0.2]
