"""The n-gram yardstick: the same tokens as Zoo's evaluation, and a library that is not fooled."""

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.config import UserError, load_config
from zoo.data.text.tokenizers import train_tokenizer

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ngram.py"
TEXTS = ["the cat sat on the mat", "", "a naïve cat", "on and on and on"]


@pytest.fixture
def ngram(monkeypatch):
    spec = importlib.util.spec_from_file_location("ngram", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ngram", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    for split in ("train", "valid"):
        records = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
        (tmp_path / f"{split}.jsonl").write_text(records)
    train_tokenizer("bpe", TEXTS, 265, tmp_path / "bpe")
    overrides = {
        "data.dir": str(tmp_path),
        "data.tokenizer": str(tmp_path / "bpe"),
        "data.train_split": "train",
        "data.eval_splits": "{'valid': 'valid'}",
        "data.length": "8",
        "best_metric": "valid/loss",
    }
    return load_config("lm_imdb", overrides)


@pytest.fixture
def fake_tlm(ngram, tmp_path, monkeypatch):
    """A program that keeps what it is given, and says what it is told to."""

    def make(says):
        program = tmp_path / "bin" / "tlm"
        program.parent.mkdir(exist_ok=True)
        keep = f"""echo "$@" > {tmp_path}/seen_options
        for a; do case $a in
          -tr=*) cp "${{a#-tr=}}" {tmp_path}/seen_train ;;
          -te=*) cp "${{a#-te=}}" {tmp_path}/seen_test ;;
        esac; done"""
        program.write_text(f"#!/bin/sh\n{keep}\ncat <<END\n{says}\nEND\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return make


def test_bits_per_byte_are_over_the_texts_bytes(ngram, config, fake_tlm, tmp_path):
    tokenizer = ngram.load_tokenizer(config.data.tokenizer)
    ids = [tokenizer.encode(text) for text in TEXTS if text]
    total = sum(len(some) + 1 for some in ids)
    warning = "Warning: higher order count-of-counts cannot be estimated properly"
    line = f"TLM: test ...test text {tmp_path} ..n={total} LP=100.5 PP=54.06 OVVRate=0"
    fake_tlm(f"{warning}\n{line}")
    found = ngram.measure(config, 5)["valid"]
    assert found["tokens"] == total
    assert found["loss"] == pytest.approx(100.5 / total)
    bits = 100.5 / math.log(2) / sum(len(text.encode()) for text in TEXTS)
    assert found["bits_per_byte"] == pytest.approx(bits)
    lines = [f"<s> {' '.join(map(str, some))} </s>" for some in ids]
    assert (tmp_path / "seen_test").read_text().splitlines() == lines
    options = (tmp_path / "seen_options").read_text().split()
    assert {"-n=5", "-lm=ikn", "-ps=no"} < {*options}  # improved Kneser-Ney, nothing pruned
    closed = f"<s> {' '.join(map(str, range(265)))} </s>"
    assert (tmp_path / "seen_train").read_text().splitlines() == [*lines, closed]


@pytest.mark.parametrize(
    ("says", "error", "match"),
    [
        ("n=3 LP=9.0 PP=20 OVVRate=0", RuntimeError, "tlm counts 3 tokens of valid, Zoo"),
        ("n=3 LP=9.0 PP=20 OVVRate=1.5", RuntimeError, "unknown words, 1.5 %"),
        ("Error: lower order count-of-counts cannot be estimated properly", UserError, "more text"),
        ("nothing", RuntimeError, "tlm ended with 0: nothing"),
    ],
)
def test_what_is_wrong_is_said(ngram, config, fake_tlm, says, error, match):
    fake_tlm(says)
    with pytest.raises(error, match=match):
        ngram.measure(config, 5)


def test_a_missing_program_is_named_with_its_package(ngram, config, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ngram, "DEBIAN", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install irstlm"):
        ngram.measure(config, 5)


def test_other_data_is_refused(ngram, fake_tlm):
    fake_tlm("")
    with pytest.raises(UserError, match="not 'lm'"):
        ngram.measure(load_config("digits_vit"), 5)


@pytest.mark.skipif(
    not shutil.which("tlm", path="/usr/lib/irstlm/bin:/usr/bin"), reason="IRSTLM is not installed"
)
def test_the_library_learns_what_there_is_to_learn_and_no_more(ngram, tmp_path):
    """No model of random words has fewer nats than their entropy; a good one has few more."""
    rng, size, length = np.random.default_rng(0), 3000, 50
    weights = 1 / np.arange(1, size + 1) ** 1.5  # some words come never, others once or twice
    weights /= weights.sum()
    test = rng.choice(size, (200, length), p=weights)
    for path, words in (("train", rng.choice(size, (400, length), p=weights)), ("test", test)):
        with (tmp_path / path).open("w") as file:
            for line in words:
                ngram.write_line(file, line)
            if path == "train":
                ngram.write_line(file, range(size))
    train, held_out = tmp_path / "train", tmp_path / "test"
    tokens, nats = ngram.run_tlm(ngram.find_tlm(), train, held_out, order=3)
    assert tokens == 200 * (length + 1)
    least = -np.log(weights[test]).sum()
    assert least < nats < 1.2 * least
