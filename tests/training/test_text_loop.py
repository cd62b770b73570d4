"""The loop on text: exact resumption, exact evaluation, and a tokenizer that goes with the run."""

import json
import math
import re
import shutil

import numpy as np
import pytest

from tests.corpus import text_dir, tokenizer_dir
from zoo.config import UserError, parse_config
from zoo.data.rows import open_rows
from zoo.data.text.tokenizers import load_tokenizer
from zoo.training.loop import train
from zoo.training.resolve import resolve
from zoo.training.weights import open_weights


def base():
    """A tiny language model on this project's documents."""
    return {
        "model": {"family": "decoder", "width": 16, "depth": 2, "mlp_dim": 32, "num_heads": 2,
                  "dropout": 0.1},
        "data": {"kind": "lm", "name": "text", "dir": str(text_dir()), "length": 16,
                 "tokenizer": str(tokenizer_dir("bpe")), "batch_size": 16, "threads": 1},
        "optimizer": {"name": "adamw", "lr": 1e-2, "warmup": "2 steps"},
        "total": "6 steps", "log_every": "1 steps", "eval_every": "3 steps",
        "save_every": "3 steps",
    }  # fmt: skip


def lm_config(**sections):
    """That, with some keys of its sections changed."""
    tree = base()
    for name, value in sections.items():
        tree[name] = {**tree.get(name, {}), **value} if isinstance(value, dict) else value
    return parse_config(tree)


def lines(workdir, key):
    """Step -> value of every line of a run's metrics that has it."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in found if key in line}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uncut")
    return workdir, train(lm_config(), workdir)


def test_cut_and_resumed_equals_uncut_bit_for_bit(uncut, tmp_path):
    for stop_at in (2, None):
        train(lm_config(), tmp_path, stop_at=stop_at)
    for key in ("loss", "grad_norm", "eval/test/loss"):
        assert {s: lines(tmp_path, key)[s] for s in lines(uncut[0], key)} == lines(uncut[0], key)


def test_it_learns_and_evaluates_every_token_once(uncut):
    workdir, result = uncut
    assert lines(workdir, "loss")[6] < lines(workdir, "loss")[1] - 0.2
    metrics, tokenizer = result.metrics, load_tokenizer(tokenizer_dir("bpe"))
    documents = (text_dir() / "test.txt").read_text().split("\n\n")
    encoded = [tokenizer.encode(text.strip()) for text in documents]
    # Each document's tokens and its end; the first token of all is BOS.
    assert metrics["test/tokens"] == sum(len(ids) + 1 for ids in encoded)
    num_bytes = sum(len(tokenizer.decode(ids).encode()) for ids in encoded)
    nats = metrics["test/loss"] * metrics["test/tokens"]
    assert metrics["test/bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes)
    assert metrics["test/perplexity"] == pytest.approx(math.exp(metrics["test/loss"]))


def test_the_smallest_loss_chooses_the_checkpoint(uncut):
    assert uncut[1].run.config.best_metric == "test/loss"
    losses = lines(uncut[0], "eval/test/loss")
    assert open_weights(uncut[0]).step == min(losses, key=losses.get)


def test_durations_and_rates_count_tokens(uncut):
    assert resolve(lm_config(total="2560 tokens")).total_steps == 2560 // (16 * 16)
    rates = lines(uncut[0], "tokens_per_second")
    examples = lines(uncut[0], "examples_per_second")
    np.testing.assert_allclose([*rates.values()], [16 * rate for rate in examples.values()])


def test_the_tokenizer_goes_with_the_run(uncut, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(uncut[0], moved)
    weights = open_weights(moved)
    assert weights.tokenizer.path == moved.absolute() / "tokenizer"
    assert weights.tokenizer.fingerprint == load_tokenizer(tokenizer_dir("bpe")).fingerprint
    assert open_rows(weights.config.data, "test", train=False)


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"model": {"vocab_size": 100}}, "vocab_size is 100, but the tokenizer .* has 300 tokens"),
        ({"model": {"max_length": 8}}, "rows of 16 tokens, but config.model.max_length is 8"),
        ({"data": {"batch_size": 10**6}}, "batch_size 1000000 is more than the .* examples"),
        ({"data": {"eval_splits": {"dev": "dev"}}}, "dev"),
        ({"data": {"dir": "/nowhere"}}, "/nowhere"),
        ({"data": {"tokenizer": "/nowhere"}}, "/nowhere"),
        ({"task": {"loss": "sigmoid"}}, "config.task.loss .* for images"),
        ({"best_metric": "test/accurcy"}, "did you mean 'test/accuracy'"),
    ],
)
def test_what_does_not_fit_is_named(sections, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        train(lm_config(**sections), tmp_path)


def test_a_model_for_other_data_is_refused():
    model = {"family": "vit", "size": "Ti/16"}
    with pytest.raises(UserError, match="kind 'lm' is for a model of family 'decoder', not 'vit'"):
        resolve(parse_config({**base(), "model": model}))


def test_weights_of_another_tokenizer_are_refused(uncut, tmp_path):
    other = {"tokenizer": str(tokenizer_dir("bpe", 280))}
    with pytest.raises(UserError, match="was trained with another tokenizer"):
        resolve(lm_config(init_from=str(uncut[0]), data=other))
    shutil.copytree(uncut[0], tmp_path / "run")
    changed = lm_config(data=other, model={"vocab_size": 300})
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "run" / "tokenizer"))):
        train(changed, tmp_path / "run")
