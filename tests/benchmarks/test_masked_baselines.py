"""The yardsticks for masked tokens: discounts, both neighbours, and the very rows of a config."""

import importlib.util
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.config import UserError, load_config

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "masked_baselines.py"
V = 7
MASK, SEP = 0, 1


@pytest.fixture
def baselines(monkeypatch):
    spec = importlib.util.spec_from_file_location("masked_baselines", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "masked_baselines", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def text():
    """Three documents, -1 between them; some tokens never come, some pairs come often."""
    rng = np.random.default_rng(0)
    documents = [rng.choice([2, 3, 4, 5], n, p=[0.5, 0.3, 0.15, 0.05]) for n in (60, 1, 40)]
    return np.concatenate([part for document in documents for part in (document, [-1])])


def pairs_of(text):
    return [(a, b) for a, b in itertools.pairwise(text) if a >= 0 and b >= 0]


def by_hand(pairs, context, lower):
    """P(y | context), one token at a time."""
    counts = {pair: pairs.count(pair) for pair in pairs}
    once, twice = ([*counts.values()].count(n) for n in (1, 2))
    discount = once / (once + 2 * twice)
    here = {y: n for (c, y), n in counts.items() if c == context}
    if not here:
        return lower
    total = sum(here.values())
    freed = discount * len(here) / total
    return [max(here.get(y, 0) - discount, 0) / total + freed * lower[y] for y in range(V)]


def test_discounts_are_those_of_the_formula(baselines, text):
    models, pairs = baselines.Counted(text, V), pairs_of(text)
    counts = np.array([1 + np.sum(text == y) for y in range(V)])
    np.testing.assert_allclose(models.unigram, counts / counts.sum())
    contexts = np.array([2, 3, 5, 6, MASK])
    lower = np.broadcast_to(models.unigram, (5, V))
    found = baselines.smooth(models._after, contexts, lower)
    expected = [by_hand(pairs, context, models.unigram) for context in contexts]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found.sum(1), 1)


def test_both_neighbours_are_a_markov_chains_posterior(baselines, text):
    models, pairs = baselines.Counted(text, V), pairs_of(text)
    found = models.predict(np.array([3]), np.array([2]))
    after = by_hand(pairs, 3, models.unigram)
    before = by_hand([(b, a) for a, b in pairs], 2, models.unigram)
    expected = np.array(after) * before / models.unigram
    expected /= expected.sum()
    np.testing.assert_allclose(found["bigram"][0], expected)
    middle = [(a, b, c) for a, b, c in zip(text, text[1:], text[2:], strict=False)]
    trios = [((a, c), b) for a, b, c in middle if min(a, b, c) >= 0]
    np.testing.assert_allclose(found["trigram"][0], by_hand(trios, (3, 2), expected))


def test_a_special_neighbour_is_as_none(baselines, text):
    models = baselines.Counted(text, V)
    lower = models.unigram[None]
    only_right = models.predict(np.array([MASK]), np.array([2]))
    only_left = models.predict(np.array([3]), np.array([SEP]))
    neither = models.predict(np.array([SEP]), np.array([MASK]))
    for name in ("bigram", "trigram"):
        expected = baselines.smooth(models._before, np.array([2]), lower)
        np.testing.assert_allclose(only_right[name], expected)
        expected = baselines.smooth(models._after, np.array([3]), lower)
        np.testing.assert_allclose(only_left[name], expected)
        np.testing.assert_allclose(neither[name], lower)


def test_a_token_that_stands_there_is_weighed_by_bayes(baselines):
    probs = np.random.default_rng(0).dirichlet(np.ones(V), 2)
    found = baselines.see_own(probs, np.array([4, MASK]), MASK)
    joint = np.array([p * (0.1 * (y == 4) + 0.1 / V) for y, p in enumerate(probs[0])])
    np.testing.assert_allclose(found[0], joint / joint.sum())
    np.testing.assert_allclose(found[1], probs[1])


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Words that always follow each other in the same order: either neighbour says them."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, "unused"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    for split, count in (("train", 50), ("valid", 20)):
        lines = [" ".join((words * 5)[i % 8 :]) for i in range(count)]
        records = "".join(json.dumps({"text": line}) + "\n" for line in lines)
        (tmp_path / f"{split}.jsonl").write_text(records)
    overrides = {
        "data.dir": str(tmp_path),
        "data.tokenizer": str(tmp_path / "vocab.txt"),
        "data.train_split": "train",
        "data.eval_splits": "{'valid': 'valid'}",
        "data.next_sentence": "False",
        "data.length": "24",
        "data.max_predictions": "2",
        "model.head": "masked_lm",
    }
    return load_config("bert_imdb", {**overrides, "best_metric": "valid/masked_lm_accuracy"})


def test_the_rows_are_those_of_the_evaluation(baselines, config):
    found = baselines.measure(config)["valid"]
    rows = baselines.eval_batches(config.data, "valid")
    assert found["masked_tokens"] == sum(int(batch["mask"].sum()) for batch in rows)
    # A neighbour that was masked or replaced too is all that can mislead.
    assert found["bigram"]["masked_lm_accuracy"] > 0.85
    assert found["unigram"]["masked_lm_accuracy"] < 0.3
    assert 1.9 < found["unigram"]["masked_lm_loss"] < 2.4  # ln 8 is 2.08
    own = found["unigram_own"]["masked_lm_accuracy"] - found["unigram"]["masked_lm_accuracy"]
    assert 0 < own < 0.3


def test_no_token_follows_the_one_before_its_document(baselines, config):
    models = baselines.count(config.data, baselines.load_tokenizer(config.data.tokenizer))
    lengths = [40 - i % 8 for i in range(50)]
    assert models._after.counts.sum() == sum(length - 1 for length in lengths)
    assert models._between.counts.sum() == sum(length - 2 for length in lengths)
    assert len(models._before.keys) == 8


def test_a_config_that_masks_nothing_is_refused(baselines):
    with pytest.raises(UserError, match="not 'masked_lm'"):
        baselines.measure(load_config("digits_vit"))
