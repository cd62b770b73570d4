"""Runs side by side."""

import json
import math
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

import zoo
from tests.tiny import tiny_config
from zoo.config import UserError
from zoo.config.load import to_dict as config_dict
from zoo.experiment.compare import compare, judge, make_row, to_dict, welch
from zoo.experiment.compare_lines import CURVE, WIDTH, compare_lines, shorten, sparkline
from zoo.experiment.compare_page import curves, look, write_page

STEPS = (2, 4, 6, 8)


def write_run(path, accuracy, *, seed=0, last=8, total=8, count=360, **sections):
    """A run as `zoo train` leaves it: `accuracy` at its end, and loss 1 - accuracy."""
    path.mkdir(parents=True)
    sections = {"best_metric": "test/accuracy", **sections}
    config = config_dict(tiny_config(seed=seed, **sections))
    (path / "config.json").write_text(json.dumps(config))
    if total:
        (path / "run.json").write_text(json.dumps({"total_steps": total}))
    lines = []
    for step in [step for step in STEPS if step <= last]:
        value = accuracy * step / 8
        lines.append({"step": step, "loss": 1 - value, "examples_per_second": 100.0 + step})
        lines.append({"step": step, "eval/test/accuracy": value, "eval/test/count": count})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_groups(path, groups):
    """Runs NAME-s0, NAME-s1, ... of a group of accuracies each; the rate tells groups apart."""
    for i, (name, accuracies) in enumerate(groups.items()):
        for seed, accuracy in enumerate(accuracies):
            write_run(path / f"{name}-s{seed}", accuracy, seed=seed, optimizer={"lr": 0.1 + i})
    return path


def row_of(found, metric):
    return next(row for row in found.rows if row.metric == metric)


def test_runs_that_differ_in_the_seed_alone_are_a_group(tmp_path):
    write_groups(tmp_path, {"low": (0.5, 0.6), "high": (0.7, 0.8, 0.9)})
    found = compare([tmp_path])
    assert {g.name: [run.seed for run in g.runs] for g in found.groups} == {
        "high": [0, 1, 2],
        "low": [0, 1],
    }
    assert found.differences == {"optimizer.lr": (1.1, 0.1)}


def test_the_spread_is_that_of_the_last_steps(tmp_path):
    accuracies = (0.7, 0.8, 0.875)
    write_groups(tmp_path, {"a": accuracies, "b": (0.5,)})
    cell, alone = row_of(compare([tmp_path]), "eval/test/accuracy").cells
    assert cell.values == accuracies
    assert cell.mean == pytest.approx(np.mean(accuracies), rel=1e-12)
    assert cell.std == pytest.approx(np.std(accuracies, ddof=1), rel=1e-12)
    assert cell.std == pytest.approx(statistics.stdev(accuracies), rel=1e-12)
    assert (cell.low, cell.high) == (0.7, 0.875)
    assert alone.std is None


def test_the_last_value_counts_and_not_the_best(tmp_path):
    for seed in (0, 1):
        path = write_run(tmp_path / str(seed), 0.9, seed=seed)
        with (path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 8, "eval/test/accuracy": 0.25}\n')
    assert row_of(compare([tmp_path]), "eval/test/accuracy").cells[0].mean == 0.25


@pytest.mark.parametrize("seed", range(5))
def test_the_test_is_welchs(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 1, 2 + seed).tolist(), rng.normal(1, 3, 3).tolist()
    expected = scipy.stats.ttest_ind(a, b, equal_var=False).pvalue
    assert welch(a, b) == pytest.approx(expected, rel=1e-9)


def test_better_is_what_the_spread_does_not_explain(tmp_path):
    write_groups(tmp_path / "far", {"a": (0.50, 0.51, 0.49), "b": (0.80, 0.81, 0.79)})
    write_groups(tmp_path / "near", {"a": (0.50, 0.70, 0.60), "b": (0.55, 0.75, 0.65)})
    far, near = compare([tmp_path / "far"]), compare([tmp_path / "near"])
    for metric in ("eval/test/accuracy", "loss"):  # of the loss, less is better
        assert row_of(far, metric).better == 1
        assert row_of(far, metric).p < 0.001
        assert row_of(near, metric).better is None
        assert "not told apart" in row_of(near, metric).verdict
    assert sum("  better" in line for line in compare_lines(far)) == 2


def test_the_better_one_must_beat_every_other(tmp_path):
    write_groups(tmp_path, {"a": (0.1, 0.11), "b": (0.80, 0.82), "c": (0.81, 0.83)})
    row = row_of(compare([tmp_path]), "eval/test/accuracy")
    assert row.better is None
    assert row.p == pytest.approx(welch((0.80, 0.82), (0.81, 0.83)))


def test_one_seed_is_no_verdict(tmp_path):
    write_groups(tmp_path, {"a": (0.1,), "b": (0.9,)})
    row = row_of(compare([tmp_path]), "eval/test/accuracy")
    assert (row.better, row.p) == (None, None)
    assert row.verdict == "no verdict (one seed each)"


def test_a_group_of_one_seed_is_left_out_of_the_verdict_by_name(tmp_path):
    write_groups(tmp_path, {"a": (0.1, 0.11), "b": (0.80, 0.81), "c": (0.99,)})
    row = row_of(compare([tmp_path]), "eval/test/accuracy")
    assert row.better == 1
    assert row.verdict.endswith("(without one seed: c-s0)")


def test_seeds_without_any_spread_are_no_verdict(tmp_path):
    write_groups(tmp_path, {"a": (0.5, 0.5), "b": (0.75, 0.75)})
    row = row_of(compare([tmp_path]), "eval/test/accuracy")
    assert row.better is None
    assert "no spread" in row.verdict


def test_a_seed_that_ran_twice_counts_once(tmp_path):
    for name, last in (("first", 4), ("again", 8)):
        write_run(tmp_path / name, 0.8, last=last)
    write_run(tmp_path / "other", 0.6, seed=1)
    found = compare([tmp_path / name for name in ("first", "again", "other")])
    assert row_of(found, "eval/test/accuracy").cells[0].values == (0.8, 0.6)
    assert "first has the config and the seed of again, so only that counts" in found.notes
    assert [run.name for run in found.runs] == ["first", "again", "other"]
    write_run(tmp_path / "third", 0.7)
    found = compare([tmp_path / name for name in ("again", "third", "other")])
    assert row_of(found, "eval/test/accuracy").cells[0].values == (0.8, 0.6)  # the first of equals
    assert [run["counted"] for run in to_dict(found)["groups"][0]["runs"]] == [True, False, True]


def test_an_unfinished_run_is_marked_and_does_not_join_the_mean(tmp_path):
    write_run(tmp_path / "a-0", 0.8)
    write_run(tmp_path / "a-1", 0.9, seed=1, last=4)
    write_run(tmp_path / "b-0", 0.7, last=6, optimizer={"lr": 1.0})
    found = compare([tmp_path])
    done, cut = row_of(found, "eval/test/accuracy").cells
    assert (done.values, done.final) == ((0.8,), True)
    assert (cut.steps, cut.final) == ((6,), False)
    text = "\n".join(compare_lines(found))
    assert "a-1 is unfinished: step 4 of 8" in text
    assert re.search(r"b-0 +1 +0\.525 .* step 6 of 8$", text, re.MULTILINE)
    assert "one seed: a; unfinished: b-0" in text


@pytest.mark.parametrize(
    ("total", "known"),
    [("8 steps", 8), ("128 examples", 8), ("1 epochs", 90), ("100 tokens", None)],
)
def test_the_total_of_an_older_run_follows_from_its_config(tmp_path, total, known):
    """The digits' 1,437 examples in batches of 16."""
    for seed in (0, 1):
        write_run(tmp_path / str(seed), 0.5, seed=seed, total=None)
        path = tmp_path / str(seed) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"total": total}))
    found = compare([tmp_path])
    assert [run.total_steps for run in found.runs] == [known, known]
    assert [run.finished for run in found.runs] == [known != 90] * 2
    assert ("1 may be unfinished" in " ".join(found.notes)) == (known is None)


def test_keys_that_one_config_lacks_and_metrics_that_one_run_lacks_are_empty(tmp_path):
    write_run(tmp_path / "a", 0.5, model={"drop_path": 0.1})
    other = write_run(tmp_path / "b", 0.5)
    (other / "metrics.jsonl").write_text('{"step": 8, "loss": 1.0, "eval/new/f1": 0.5}\n')
    config = json.loads((other / "config.json").read_text())
    del config["model"]["drop_path"]
    config["model"]["droppath"] = 0.2
    (other / "config.json").write_text(json.dumps(config))
    found = compare([tmp_path / "a", other])
    assert row_of(found, "eval/new/f1").cells[0] is None
    assert any("no key config.model.droppath" in note for note in found.notes)
    text = "\n".join(compare_lines(found))
    assert re.search(r"model\.drop_path +0\.1 +-$", text, re.MULTILINE)
    assert re.search(r"model\.droppath +- +0\.2$", text, re.MULTILINE)
    assert re.search(r"^new/f1\n  a +- +- +- +-$", text, re.MULTILINE)


def test_splits_of_other_sizes_are_told(tmp_path):
    write_run(tmp_path / "a", 0.5)
    write_run(tmp_path / "b", 0.5, count=100, optimizer={"lr": 1.0})
    note = "test is not the same split everywhere: 360 examples in a, 100 examples in b"
    assert note in compare([tmp_path]).notes


def test_what_cannot_be_read_is_counted_and_named(tmp_path):
    write_groups(tmp_path, {"a": (0.5, 0.6)})
    with (tmp_path / "a-s1/metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo\n{"step": 9}[]\n')
    found = compare([tmp_path])
    assert "a-s1: 2 lines of metrics.jsonl could not be read" in found.notes
    assert [run["unreadable_lines"] for run in to_dict(found)["groups"][0]["runs"]] == [0, 2]


def test_values_that_are_not_finite_are_no_verdict_and_null(tmp_path):
    write_groups(tmp_path, {"a": (0.5, 0.6), "b": (0.7, math.nan)})
    found = compare([tmp_path])
    row = row_of(found, "eval/test/accuracy")
    assert row.verdict == "no verdict (not finite: b)"
    assert "not finite" in "\n".join(compare_lines(found))
    text = json.dumps(to_dict(found), allow_nan=False)
    first = json.loads(text)["metrics"][0]["groups"]["b"]
    assert (first["mean"], first["values"]) == (None, [0.7, None])


def test_json_has_all_by_number(tmp_path):
    write_groups(tmp_path, {"a": (0.5, 0.6), "b": (0.875, 0.75)})
    found = json.loads(json.dumps(to_dict(zoo.compare([tmp_path]))))
    metric = found["metrics"][0]
    assert (metric["metric"], metric["better_is"]) == ("test/accuracy", "higher")
    assert metric["groups"]["b"]["values"] == [0.875, 0.75]
    assert metric["p"] == pytest.approx(welch((0.5, 0.6), (0.875, 0.75)))
    assert found["differences"] == {"optimizer.lr": {"a": 0.1, "b": 1.1}}
    run = found["groups"][1]["runs"][0]
    assert run["curves"]["test/accuracy"] == {
        "step": [*STEPS],
        "value": [0.21875, 0.4375, 0.65625, 0.875],
    }
    assert run["final"]["test/accuracy"] == {"value": 0.875, "step": 8}
    # 2 steps of 16 examples at each rate.
    seconds = sum(2 * 16 / (100 + step) for step in STEPS)
    assert run["final"]["seconds"]["value"] == pytest.approx(seconds)
    assert run["final"]["examples_per_second"]["value"] == 105.0  # the median


def test_metrics_are_chosen_by_name(tmp_path):
    write_groups(tmp_path, {"a": (0.5, 0.6)})
    found = compare([tmp_path], ["loss", "test/accuracy", "eval/test/accuracy"])
    assert [row.metric for row in found.rows] == ["loss", "eval/test/accuracy"]
    assert found.curves == ("loss", "eval/test/accuracy")
    with pytest.raises(UserError, match=r"--metric test/acc: .* did you mean 'test/accuracy'"):
        compare([tmp_path], ["test/acc"])


def test_a_directory_and_a_glob_stand_for_the_runs_in_them(tmp_path):
    write_groups(tmp_path, {"a": (0.5, 0.6), "b": (0.7,)})
    (tmp_path / "no_run").mkdir()
    (tmp_path / "b-s1").mkdir()
    (tmp_path / "b-s1" / "config.json").write_text((tmp_path / "b-s0/config.json").read_text())
    names = lambda *paths: [run.name for run in compare(paths).runs]
    assert names(tmp_path) == ["a-s0", "a-s1", "b-s0"]
    assert names(f"{tmp_path}/a*") == ["a-s0", "a-s1"]
    assert names(tmp_path / "b-s0", tmp_path / "a-s1", tmp_path) == ["b-s0", "a-s1", "a-s0"]
    assert any("b-s1 is left out" in note for note in compare([tmp_path]).notes)


def test_groups_without_a_common_name_get_letters(tmp_path):
    for i, name in enumerate(("one", "two", "three", "four")):
        write_run(tmp_path / name, 0.5, seed=i % 2, optimizer={"lr": 0.1 + i // 2})
    found = compare([tmp_path / name for name in ("one", "two", "three", "four")])
    assert [group.name for group in found.groups] == ["A", "B"]
    write_run(tmp_path / "A", 0.5, optimizer={"lr": 9.0})
    found = compare([tmp_path / name for name in ("A", "one", "two")])
    assert [group.name for group in found.groups] == ["A", "B"]  # a run's own name comes first


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for seed, folder in enumerate(("x", "y")):
        write_run(tmp_path / folder / "run", 0.5, seed=seed)
    found = compare([tmp_path / "x", tmp_path / "y/run"])
    assert [run.name for run in found.runs] == ["x/run", "y/run"]


def test_lines_fit_a_terminal_of_a_hundred_columns(tmp_path):
    long = {f"{'a_very_long_name_of_a_run_' * 3}{i}": (0.5 + i / 50, 0.6) for i in range(7)}
    write_groups(tmp_path, long)
    for seed in (0, 1):
        name = f"{'cut_short_' * 5}-s{seed}"
        write_run(tmp_path / name, 0.5, seed=seed, last=4, total=10**9, optimizer={"lr": 9.0})
    with next(tmp_path.glob("*")).joinpath("metrics.jsonl").open("a") as file:
        file.write("torn\n")
    lines = compare_lines(compare([tmp_path]))
    assert max(map(len, lines)) <= WIDTH, max(lines, key=len)
    assert sum(line.endswith("  step 4 of 1,000,000,000") for line in lines) == 4
    assert sum("optimizer.lr" in line for line in lines) > 1  # groups go below each other


def test_what_is_too_long_keeps_both_ends():
    assert shorten("abcdefgh", 5) == "ab…gh"
    assert shorten("abcde", 5) == "abcde"


def test_a_curve_rises_with_its_values_and_ends_where_the_run_does():
    rising = sparkline(range(1, 41), [float(v) for v in range(1, 41)], 40, 1.0, 40.0)
    assert len(rising) == CURVE
    assert [*rising] == sorted(rising)
    assert (rising[0], rising[-1]) == ("▁", "█")
    half = sparkline([10, 20], [1.0, 1.0], 40, 0.0, 1.0)
    assert (half.strip(), len(half.rstrip())) == ("█" * 11, 20)
    assert sparkline([40], [math.nan], 40, 0.0, 1.0)[-1] == "×"


class Page(HTMLParser):
    """A page's open tags, what it would fetch, its text, and the classes of its paths."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.words, self.paths = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href")]
        if tag == "path":
            self.paths.append(dict(attrs).get("class") or "")
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if tag == "path":
            self.paths.append(dict(attrs).get("class") or "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_one_whole_file_with_every_run(tmp_path):
    write_groups(tmp_path / "runs", {"a": (0.5, 0.51), "b": (0.8, 0.81), "c<&>": (0.7,)})
    found = compare([tmp_path / "runs"])
    write_page(tmp_path / "compare.html", found)
    page = Page((tmp_path / "compare.html").read_text())
    assert (page.open, page.fetched) == ([], [])
    text = " ".join(page.words)
    for run in found.runs:
        assert run.name in text
    assert "b is better" in text
    # Per chart two thin lines of a group of two seeds, and a thick one of each group.
    lines = [kind for kind in page.paths if "line" in kind and "dots" not in kind]
    charts = len(found.curves)
    assert sum("seed" in kind for kind in lines) == 4 * charts
    assert sum("mean" in kind for kind in lines) == 3 * charts
    assert all(sum(look(i) in kind for kind in lines) for i in range(3))


def test_the_page_marks_unfinished_runs_and_draws_their_mean_where_all_logged(tmp_path):
    write_run(tmp_path / "a-0", 0.8, last=6)
    write_run(tmp_path / "a-1", 0.9, seed=1, last=4)
    write_run(tmp_path / "b-0", 0.7, optimizer={"lr": 1.0})
    found = compare([tmp_path])
    write_page(tmp_path / "compare.html", found)
    words = Page((tmp_path / "compare.html").read_text()).words
    assert "step 4 to 6 of 8" in words
    drawn = {one["name"]: one for one in curves(found, "eval/test/accuracy")["data"]["series"]}
    assert drawn["a"]["x"] == [2, 4]
    assert drawn["a"]["y"] == pytest.approx([21.25, 42.5])  # percent
    assert drawn["b-0"]["x"] == [*STEPS]


def test_no_two_of_fifteen_groups_look_alike():
    assert len({look(i) for i in range(15)}) == 15


@pytest.mark.slow
def test_real_runs_are_compared(tmp_path):
    """Three of a few steps, one of them cut short."""
    for name, seed, lr in (("a-s0", 0, 0.1), ("a-s1", 1, 0.1), ("b-s0", 0, 0.01)):
        config = tiny_config(seed=seed, total="4 steps", optimizer={"lr": lr}, eval_every="2 steps")
        stop = 2 if name == "b-s0" else None
        metrics = zoo.train(config, tmp_path / name, stop_at=stop)
        if name == "a-s1":
            accuracy = metrics["test/accuracy"]
    found = compare([tmp_path])
    assert [group.name for group in found.groups] == ["a", "b-s0"]
    assert found.differences == {"optimizer.lr": (0.1, 0.01)}
    assert [(run.step, run.total_steps) for run in found.runs] == [(4, 4), (4, 4), (2, 4)]
    assert row_of(found, "eval/test/accuracy").cells[0].values[1] == accuracy
    assert row_of(found, "seconds").cells[0].low > 0
    assert "b-s0 is unfinished: step 2 of 4" in found.notes


@pytest.mark.parametrize("sign", [1, -1])
def test_the_better_end_follows_from_what_is_aimed_at(tmp_path, sign):
    write_groups(tmp_path, {"a": (0.1, 0.11), "b": (0.9, 0.91)})
    groups = compare([tmp_path]).groups
    cells = make_row("eval/test/accuracy", groups).cells
    assert judge(cells, sign, ["a", "b"])[0] == (1 if sign == 1 else 0)
    assert judge(cells, 0, ["a", "b"])[0] is None


def test_what_is_no_comparison_is_refused(tmp_path):
    write_run(tmp_path / "run", 0.5)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text((tmp_path / "run/config.json").read_text())
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    for paths, message in (
        ([tmp_path / "run"], "at least two runs with metrics: there is only .*run"),
        ([tmp_path / "run", tmp_path / "run"], "at least two runs"),
        ([tmp_path / "nowhere"], "nowhere is no run: .* does not exist"),
        ([Path(__file__).parent], "is no run: it holds no config.json, nor does a folder in it"),
        ([tmp_path / "run", empty], "empty holds no metrics"),
        ([tmp_path / "run", broken], "config.json is no JSON"),
    ):
        with pytest.raises(UserError, match=message):
            compare(paths)
