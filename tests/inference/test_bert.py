"""A trained BERT in use: masks filled and texts classified as evaluation does it."""

import json
import re

import jax
import numpy as np
import pytest
from flax import nnx

from tests.corpus import text_dir, tokenizer_dir
from zoo.cli import main
from zoo.config import UserError, parse_config
from zoo.evaluation.evaluate import evaluate, make_evaluator
from zoo.inference.bert import load_filler, load_text_classifier
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import abstract_model
from zoo.training.loop import train
from zoo.training.weights import open_weights

TEXT = "You may [MASK] copies of the [MASK] in any medium."
MODEL = {"family": "bert", "width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run(tmp_path_factory, name, model, data):
    """The directory of a run of two steps."""
    workdir = tmp_path_factory.mktemp(name)
    shared = {
        "name": "text", "dir": str(text_dir()), "tokenizer": str(tokenizer_dir("wordpiece")),
        "length": 32, "batch_size": 8, "threads": 1,
    }  # fmt: skip
    tree = {
        "model": {**MODEL, **model}, "data": {**shared, **data}, "total": "2 steps",
        "eval_every": "2 steps", "save_every": "2 steps",
    }  # fmt: skip
    train(parse_config(tree), workdir)
    return workdir


@pytest.fixture(scope="module")
def filler_dir(tmp_path_factory):
    return run(
        tmp_path_factory,
        "filler",
        {"head": "masked_lm"},
        {"kind": "masked_lm", "next_sentence": False},
    )


@pytest.fixture(scope="module", params=[False, True], ids=["text", "pair"])
def classifier_dir(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled")
    texts = (text_dir() / "train.txt").read_text().split("\n\n")[:20]
    rows = [
        {"text": text, "text_pair": texts[-i], "label": "long" if len(text) > 300 else "short"}
        for i, text in enumerate(texts)
    ]
    for split in ("train", "test"):
        (root / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    data = {"kind": "text_classification", "dir": str(root), "pair": request.param}
    return run(tmp_path_factory, "classifier", {"head": "classification"}, data), rows


def test_masks_are_filled_with_the_models_probabilities(filler_dir):
    filler = load_filler(filler_dir)
    found = filler.fill(TEXT, top=3)
    assert [len(mask) for mask in found["masks"]] == [3, 3]
    # By hand: one row without padding.
    weights = open_weights(filler_dir)
    tokenizer, params = weights.tokenizer, weights.load(make_mesh(weights.config.mesh))
    model = nnx.merge(abstract_model(weights.config)[0], params)
    parts = [tokenizer.encode(part) for part in TEXT.split("[MASK]")]
    ids = [tokenizer.cls, *parts[0], tokenizer.mask, *parts[1], tokenizer.mask, *parts[2]]
    tokens = np.array([[*ids, tokenizer.sep]], np.int32)
    logits = model.logits(model.masked_hidden(model.hidden(jax.numpy.asarray(tokens))))[0]
    places = np.flatnonzero(tokens[0] == tokenizer.mask)
    for mask, place in zip(found["masks"], places, strict=True):
        probability = jax.nn.softmax(logits[place])
        best = np.argsort(-probability)[:3]
        assert [one["token"] for one in mask] == [tokenizer.token(int(i)) for i in best]
        np.testing.assert_allclose(
            [one["probability"] for one in mask], probability[best], rtol=1e-5
        )
    tokens[0, places] = [np.argmax(logits[place]) for place in places]
    assert found["text"] == tokenizer.decode(tokens[0])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("Nothing is missing.", r"has no \[MASK\]"), ("many " * 50 + "[MASK]", "at the most")],
)
def test_what_cannot_be_filled_is_named(filler_dir, text, complaint):
    with pytest.raises(UserError, match=complaint):
        load_filler(filler_dir).fill(text)


def test_texts_are_classified_as_in_evaluation(classifier_dir):
    workdir, rows = classifier_dir
    model, weights = load_text_classifier(workdir), open_weights(workdir)
    evaluator = make_evaluator(weights.config)
    params = weights.load(evaluator.mesh)
    expected = evaluate(evaluator, params, weights.config.data, "test").results
    pair = weights.config.data.pair
    for i in (0, 7, 13):
        texts = [rows[i]["text"], rows[i]["text_pair"]][: 1 + pair]
        best = model.classify(*texts)["top"][0]
        assert best["class"] == weights.classes[expected["prediction"][i]]
        assert best["probability"] == pytest.approx(float(expected["probability"][i]), rel=1e-5)


def test_the_number_of_texts_is_that_of_the_training(classifier_dir):
    workdir, _ = classifier_dir
    model = load_text_classifier(workdir)
    if open_weights(workdir).config.data.pair:
        assert model.group(["a", "b", "c", "d"]) == [("a", "b"), ("c", "d")]
        with pytest.raises(UserError, match="an even number, not 3"):
            model.group(["a", "b", "c"])
        with pytest.raises(UserError, match="trained on two texts"):
            model.classify("a")
    else:
        assert model.group(["a", "b", "c"]) == [("a",), ("b",), ("c",)]
        with pytest.raises(UserError, match="trained on one text at a time"):
            model.classify("a", "b")


def test_the_commands_print_lines_or_json(filler_dir, classifier_dir, capsys):
    assert main(["fill-mask", "--workdir", str(filler_dir), TEXT, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"  \S+ \d+\.\d%, \S+ \d+\.\d%", lines[1])
    texts = ["some words", "other words"]
    assert main(["classify-text", "--workdir", str(classifier_dir[0]), *texts, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["class"] for one in found[0]["top"]} == {"long", "short"}


def test_a_model_of_another_kind_is_refused(filler_dir, capsys):
    assert main(["classify-text", "--workdir", str(filler_dir), "a text"]) == 2
    assert "was trained on 'masked_lm': only a model of 'text_classification'" in (
        capsys.readouterr().err
    )


def test_pairs_may_be_asked_for_where_the_model_compares_them(classifier_dir, capsys):
    workdir, rows = classifier_dir
    texts = [rows[0]["text"], rows[0]["text_pair"]]
    argv = ["classify-text", "--workdir", str(workdir), "--pairs", *texts]
    is_pair = open_weights(workdir).config.data.pair
    assert main(argv) == (0 if is_pair else 2)
    assert is_pair or "trained on one text at a time" in capsys.readouterr().err
