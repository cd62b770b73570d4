"""A trained language model in use: texts go on from where they are."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.corpus import text_dir, tokenizer_dir
from tests.tiny import tiny_config
from zoo.cli import main
from zoo.config import UserError, parse_config
from zoo.data.text.tokenizers import load_tokenizer
from zoo.inference.decoding import PLAIN
from zoo.inference.generate import LanguageModel, load_language_model
from zoo.tasks.build import init_params
from zoo.training.loop import train

TEXTS = ["the model", "a mesh of devices, and ärger", "x"]
LONG = "word " * 60


MODEL = {"family": "decoder", "width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2}


def lm_config(kind="bpe", **model):
    data = {
        "kind": "lm",
        "name": "text",
        "dir": str(text_dir()),
        "tokenizer": str(tokenizer_dir(kind, 400)),
        "length": 48,
        "batch_size": 8,
        "threads": 1,
    }
    return parse_config({"model": {**MODEL, **model}, "data": data, "total": "1 steps"})


def make_model(kind):
    tokenizer = load_tokenizer(tokenizer_dir(kind, 400))
    config = lm_config(kind, vocab_size=tokenizer.size, max_length=48, tied=False)
    # Larger than fresh ones are, so that what comes is not all alike.
    params = jax.tree.map(lambda x: 5 * x, init_params(config, jax.random.key(1)))
    return LanguageModel(config, tokenizer, params)


@pytest.fixture(scope="module")
def model():
    return make_model("bpe")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        train(lm_config(), path)
    return path


def written(model, texts, seed):
    """The tokens themselves, ten a row."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), np.arange(len(texts)))
    prompts = [model._prompt(text) for text in texts]
    return model._writer.write(model.params, prompts, max_tokens=10, keys=keys, sampling=PLAIN)


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece"])
def test_text_and_what_follows_are_what_all_tokens_together_read(kind):
    model = make_model(kind)
    found = model.generate(TEXTS, max_tokens=10, seed=3)
    assert [one["prompt"] for one in found] == TEXTS
    assert all(one["ended"] or one["num_tokens"] == 10 for one in found)
    rows = written(model, TEXTS, seed=3)
    prompts = [model._prompt(text) for text in TEXTS]
    for one, prompt, row in zip(found, prompts, rows, strict=True):
        assert one["prompt"] + one["text"] == model.tokenizer.decode([*prompt, *row])


def test_a_text_stands_where_a_document_begins(model):
    ids = model.tokenizer.encode("the model").tolist()
    assert model._prompt("the model") == [model.tokenizer.bos, *ids]
    assert model._prompt("") == [model.tokenizer.bos]


def test_a_stream_gives_the_same_text(model):
    for seed in range(3):
        (whole,) = model.generate(TEXTS[:1], max_tokens=10, seed=seed)
        pieces = list(model.stream(TEXTS[0], max_tokens=10, seed=seed))
        assert "".join(pieces) == whole["text"]
        assert len([piece for piece in pieces if piece]) > 3


def test_seeds_and_places_give_other_texts_and_the_same_again(model):
    found = [model.generate([TEXTS[0]] * 2, max_tokens=10, seed=seed) for seed in (0, 1, 0)]
    texts = [one["text"] for pair in found[:2] for one in pair]
    assert len(set(texts)) == 4
    assert found[2] == found[0]


def test_a_text_ends_where_the_model_ends_it(model, monkeypatch):
    row = written(model, TEXTS[:1], seed=0)[0]
    monkeypatch.setattr(model.tokenizer, "eos", row[4])
    ending = LanguageModel(model.config, model.tokenizer, model.params)
    (cut,) = ending.generate(TEXTS[:1], max_tokens=10)
    assert cut["ended"]
    assert cut["num_tokens"] == row.index(row[4]) + 1
    (whole,) = model.generate(TEXTS[:1], max_tokens=3)
    assert (whole["num_tokens"], whole["ended"]) == (3, False)


def test_what_does_not_fit_is_refused(model, monkeypatch):
    with pytest.raises(UserError, match=r"'word word word word word wo\.\.\.' has \d+ tokens, and"):
        model.generate(["x", LONG])
    monkeypatch.setattr(model.tokenizer, "bos", None)
    with pytest.raises(UserError, match="the text '' is empty"):
        model.generate(["x", ""])


def test_only_a_language_model_writes(monkeypatch):
    found = SimpleNamespace(config=tiny_config())
    monkeypatch.setattr("zoo.inference.opening.open_weights", lambda *_, **__: found)
    with pytest.raises(
        UserError, match="here was trained on 'images': only a model of 'lm' writes texts on"
    ):
        load_language_model("here")


def test_weights_without_their_tokenizer_are_refused(workdir, tmp_path):
    (tmp_path / "checkpoints").symlink_to(workdir / "checkpoints")
    with pytest.raises(UserError, match="no tokenizer beside it"):
        load_language_model(tmp_path)


def test_the_command_streams_one_text_and_lists_several(workdir, capsys):
    def run(*argv):
        assert main(["generate", "--workdir", str(workdir), *argv]) == 0
        return capsys.readouterr().out

    options = ("--max-tokens", "6", "--temperature", "0.9", "--top-k", "50", "--top-p", "0.9")
    (one,) = json.loads(run("the model", "--json", *options))
    assert run("the model", *options) == f"the model{one['text']}\n"
    assert run("the model", "--seed", "1", *options) != f"the model{one['text']}\n"
    both = json.loads(run("the model", "x", "--json", *options))
    assert both[0] == one
    assert run("the model", "x", *options) == "".join(f"{t['prompt']}{t['text']}\n" for t in both)
    step = next((workdir / "checkpoints").glob("[0-9]*"))
    assert main(["generate", "--weights", str(step), "the model", "--greedy"]) == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("x", "--top-p", "2"), "zoo: top_p 2.0 is not in (0, 1]"),
        (("x", "--temperature", "-1"), "zoo: temperature -1.0 is not 0 or more"),
        ((LONG,), "give a shorter one"),
    ],
)
def test_wrong_words_get_one_line(workdir, capsys, argv, message):
    assert main(["generate", "--workdir", str(workdir), *argv]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
