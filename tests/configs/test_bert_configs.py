"""The configs of BERT: sizes, lengths and rates as their sources say, and the tasks of GLUE."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.configs.test_configs import ALL_CASES
from zoo.config import load_config
from zoo.config.bert import BertConfig, num_params
from zoo.config.data import LabelledData
from zoo.config.duration import Clock
from zoo.config.sizes import row_tokens
from zoo.tasks.build import abstract_model, check_model, make_task
from zoo.training.optimizer import describe_optimizer, make_optimizer
from zoo.training.schedules import make_schedule

CASES = [case for case in ALL_CASES if isinstance(load_config(case).model, BertConfig)]
OWN = (
    "bert_imdb:phase1",
    "bert_imdb:phase2",
    "bert_imdb:adamw",
    "bert_imdb_gpu",
    "sentiment_imdb:pretrained",
    "sentiment_imdb:scratch",
    "sentiment_imdb:minilm",
)  # made for this project: nothing published
# dataset of TFDS: rows of its training split (of SQuAD: questions), classes
TFDS = {
    "tfds:glue/cola": (8_551, 2),
    "tfds:glue/sst2": (67_349, 2),
    "tfds:glue/mrpc": (3_668, 2),
    "tfds:glue/stsb": (5_749, 1),
    "tfds:glue/qqp": (363_849, 2),
    "tfds:glue/mnli": (392_702, 3),
    "tfds:glue/qnli": (104_743, 2),
    "tfds:glue/rte": (2_490, 2),
    "tfds:glue/wnli": (635, 2),
    "tfds:squad/v1.1": (87_599, 0),
    "tfds:squad/v2.0": (130_319, 0),
}
BASE_CASED, BASE, LARGE = 108_310_272, 109_482_240, 336_226_108
# config: (parameters, steps of the whole run)
PINS = {
    "glue:cola": (BASE_CASED + 2 * 769, 802),
    "glue:sst2": (BASE_CASED + 2 * 769, 6_314),
    "glue:mrpc": (BASE_CASED + 2 * 769, 573),
    "glue:stsb": (BASE_CASED + 769, 539),
    "glue:qqp": (BASE_CASED + 2 * 769, 34_111),
    "glue:mnli": (BASE_CASED + 3 * 769, 36_816),
    "glue:qnli": (BASE_CASED + 2 * 769, 9_820),
    "glue:rte": (BASE_CASED + 2 * 769, 233),
    "glue:wnli": (BASE_CASED + 2 * 769, 99),
    "squad:1.1": (BASE - 768 * 769 + 2 * 769, 14_599),
    "squad:2.0": (BASE - 768 * 769 + 2 * 769, 21_719),
    "bert_pretrain:base": (110_106_428, 900_000),
    "bert_pretrain:large": (LARGE, 900_000),
    "bert_pretrain:base,phase2": (110_106_428, 100_000),
    "bert_pretrain:large,phase2": (LARGE, 100_000),
    "bert_mlperf:256": (LARGE, 13_700),
    "bert_mlperf:448": (LARGE, 6_700),
    "bert_mlperf:1536": (LARGE, 2_254),
    "bert_mlperf:3072": (LARGE, 1_141),
    "bert_mlperf:4096": (LARGE, 855),
}


def filled(case):
    """The config with what its data and tokenizer would fill in, and the clock of its run."""
    config = load_config(case)
    model, data = config.model, config.data
    count, classes = TFDS.get(data.name, (10**6, 2))
    vocab_size = 28_996 if case.startswith("glue") else 30_522
    changes = {"vocab_size": model.vocab_size or vocab_size}
    if model.has_classes:
        changes["num_classes"] = classes
    config = config.replace(model=model.replace(**changes))
    return config, Clock(data.batch_size, count, row_tokens(config) * data.batch_size)


@pytest.mark.parametrize("case", CASES)
def test_config_builds(case):
    config, clock = filled(case)
    total, warmup = clock.steps(config.total), clock.steps(config.optimizer.warmup)
    if case not in OWN:
        assert (num_params(config.model), total) == PINS[case]
    check_model(config)
    names = make_task(config).metric_names
    split, _, metric = config.best_metric.partition("/")
    assert split in config.data.eval_splits
    assert metric in names
    _, state = abstract_model(config)
    params = nnx.to_pure_dict(state)
    assert sum(np.prod(p.shape, dtype=int) for p in jax.tree.leaves(params)) == num_params(
        config.model
    )
    schedule = make_schedule(
        config.optimizer, total_steps=total, warmup_steps=warmup, cooldown_steps=0
    )
    assert float(schedule(warmup)) == pytest.approx(config.optimizer.lr)
    tx = make_optimizer(config.optimizer, params, schedule)
    jax.eval_shape(tx.update, params, jax.eval_shape(tx.init, params), params)


@pytest.mark.parametrize("case", [case for case in PINS if not case.startswith("glue")])
def test_norms_and_biases_are_not_decayed(case):
    config, _ = filled(case)
    for row in describe_optimizer(config.optimizer, abstract_model(config)[1]):
        name = row.path.split("/")
        left_out = name[-1] == "bias" or any(part.endswith("norm") for part in name)
        assert row.decay == (not left_out), row.path


def test_the_phases_of_pretraining_are_one_line():
    rates = []
    for case in ("bert_pretrain:base", "bert_pretrain:base,phase2"):
        config, clock = filled(case)
        total, warmup = clock.steps(config.total), clock.steps(config.optimizer.warmup)
        schedule = make_schedule(
            config.optimizer, total_steps=total, warmup_steps=warmup, cooldown_steps=0
        )
        rates += [float(schedule(step)) for step in (warmup, total // 2, total)]
    at = [10_000, 450_000, 900_000, 900_000, 950_000, 1_000_000]
    expected = [1e-4 * (1_000_000 - step) / 990_000 for step in at]
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-12)


def test_mlperf_evaluates_as_often_as_its_rule_says():
    every = {case: load_config(f"bert_mlperf:{case}").eval_every for case in ("256", "3072")}
    assert every == {"256": "150000 examples", "3072": "175000 examples"}


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("glue")])
def test_glue_ranks_by_its_own_metrics(case):
    config = load_config(case)
    assert isinstance(config.data, LabelledData)
    task = case.partition(":")[2]
    own = {"cola": "matthews_correlation", "mrpc": "f1", "stsb": "pearson"}
    split = "matched" if task == "mnli" else "validation"
    assert config.best_metric == f"{split}/{own.get(task, 'accuracy')}"
    assert config.data.pair == (task not in ("cola", "sst2"))
    assert ("text_pair" in config.data.fields) == config.data.pair
