"""Every rung names what is there: configs, metrics, and the number that its config's record has."""

import ast
import re

import pytest

from tests.configs.test_fidelity import RUNGS
from zoo.config import UserError, load_config
from zoo.config.load import CONFIG_DIR
from zoo.inference.text_scores import SCORES
from zoo.reproduction.ladder import LADDER, by_name
from zoo.reproduction.results import shown
from zoo.tasks.build import make_task

# Configs without a rung: a plan's example, and a larger copy of bert_imdb.
NO_RUNG = {"llama_1b", "bert_imdb_gpu"}
OWN = {"digits", "bert_imdb", "sentiment_imdb", "sentiment_minilm", "lm_imdb", "translate_help"}


def test_names_are_told_apart_and_every_config_has_a_rung():
    assert len({rung.name for rung in LADDER}) == len(LADDER)
    used = {stage.partition(":")[0] for rung in LADDER for stage in rung.stages}
    assert used | NO_RUNG == {path.stem for path in CONFIG_DIR.glob("*.py")}
    assert not used & NO_RUNG


@pytest.mark.parametrize("rung", LADDER, ids=lambda rung: rung.name)
def test_a_rung_is_measured_by_what_its_config_evaluates(rung):
    config = load_config(rung.config, rung.changes)
    sizes = {"vocab_size": 1000}
    if getattr(config.model, "has_classes", True):
        sizes["num_classes"] = 1 if getattr(config.data, "regression", False) else 10
    known = {key: n for key, n in sizes.items() if getattr(config.model, key, n) is None}
    filled = config.replace(model=config.model.replace(**known))
    for metric in filter(None, (rung.metric, rung.cut.metric)):
        split, _, name = metric.partition("/")
        assert split in config.data.eval_splits
        assert name in (*make_task(filled).metric_names, *SCORES)
    assert set(rung.scores) <= set(SCORES)
    for stage in rung.stages[:-1]:
        load_config(stage, rung.changes)
    load_config(rung.config, {**rung.changes, **rung.judged_on})
    if rung.start:
        assert by_name(rung.start).start is None


@pytest.mark.parametrize("rung", LADDER, ids=lambda rung: rung.name)
def test_the_published_number_stands_in_the_record_of_the_config(rung):
    if rung.published is None or rung.band is None:
        assert rung.published is rung.band is None
        return
    assert rung.band[0] <= rung.published <= rung.band[1]
    if rung.name in OWN or rung.evaluate_only:
        return
    doc = ast.get_docstring(ast.parse((CONFIG_DIR / f"{rung.config.split(':')[0]}.py").read_text()))
    text = shown(rung.metric, rung.published, 2).removesuffix(" %").rstrip("0").rstrip(".")
    assert re.search(rf"(?<![\d.]){re.escape(text)}(?!\d)", doc or "") or round(
        100 * rung.published, 1
    ) in [float(n) for n in re.findall(r"\d+\.\d+", doc or "")], text


def test_every_published_recipe_is_pinned_to_its_source():
    published = [rung for rung in LADDER if rung.name not in OWN and not rung.evaluate_only]
    assert {stage for rung in published for stage in rung.stages} <= RUNGS.keys()


def test_an_unknown_rung_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="no rung 's16_9'; did you mean 's16_90'"):
        by_name("s16_9")
