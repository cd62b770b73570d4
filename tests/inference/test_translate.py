"""A trained sequence-to-sequence model in use, and the mean of its checkpoints."""

import io
import json
import sys
from collections import Counter

import jax
import numpy as np
import pytest

from tests.corpus import tokenizer_dir
from zoo.cli import main
from zoo.config import UserError, parse_config
from zoo.data.text.records import open_records
from zoo.inference.text_scores import SCORES, compound_splitter, text_scores
from zoo.inference.translate import load_translator
from zoo.sharding.mesh import make_mesh
from zoo.training.loop import train
from zoo.training.weights import open_weights

WORDS = ["the", "model", "mesh", "data", "step", "loss"]
TEXTS = ["the model", "mesh data step", "loss"]


def make_config(root, **sections):
    data = {
        "kind": "seq2seq",
        "name": "text",
        "dir": str(root),
        "tokenizer": str(tokenizer_dir("sentencepiece", 400)),
        "length": 40,
        "target_length": 36,
        "prefix": "copy: ",
        "pack": True,
        "batch_size": 8,
        "threads": 1,
    }
    model = {"family": "transformer", "width": 32, "depth": 1, "mlp_dim": 64, "num_heads": 2}
    tree = {"model": model, "data": data, "total": "4 steps", "save_every": "2 steps"}
    return parse_config({**tree, "eval_every": "4 steps", "keep_last": 3, **sections})


def write_pairs(root):
    rng = np.random.default_rng(0)
    for split, count in (("train", 600), ("test", 40)):
        texts = [" ".join(rng.choice(WORDS, rng.integers(1, 5))) for _ in range(count)]
        lines = [json.dumps({"source": text, "target": text}) + "\n" for text in texts]
        (root / f"{split}.jsonl").write_text("".join(lines))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    write_pairs(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield path


@pytest.fixture(scope="module")
def workdir(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    train(make_config(root), path)
    return path


def test_translations_come_in_order_with_all_their_beams(workdir):
    found = load_translator(workdir, beams=3).translate(TEXTS)
    assert [one["source"] for one in found] == TEXTS
    for one in found:
        scores = [beam["score"] for beam in one["beams"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert (one["target"], one["score"]) == (one["beams"][0]["text"], scores[0])


def test_a_text_does_not_depend_on_those_beside_it(workdir):
    model = load_translator(workdir, beams=2)
    together = model.translate(TEXTS)
    for text, expected in zip(TEXTS, together, strict=True):
        (alone,) = model.translate([text])
        assert alone["target"] == expected["target"]
        np.testing.assert_allclose(alone["score"], expected["score"], rtol=1e-4)
    many = model.translate(TEXTS * 6)  # more than go at once
    assert [one["target"] for one in many] == [one["target"] for one in together] * 6


def test_what_cannot_be_translated_is_named(workdir):
    with pytest.raises(UserError, match=r"'mesh mesh.* the model was trained on 40 at the most"):
        load_translator(workdir).translate(["mesh " * 40])
    with pytest.raises(UserError, match=r"alpha -1.0 is negative"):
        load_translator(workdir, alpha=-1.0)
    assert load_translator(workdir).translate([]) == []


def test_the_command_reads_arguments_and_lines(workdir, capsys, monkeypatch):
    expected = [one["target"] for one in load_translator(workdir).translate(TEXTS)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS[1:]) + "\n"))
    capsys.readouterr()
    assert main(["translate", "--workdir", str(workdir), TEXTS[0], "-"]) == 0
    assert capsys.readouterr().out.split("\n")[:-1] == expected
    assert main(["translate", "--workdir", str(workdir), "--beam", "1", "--json", "mesh"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["source"], len(one["beams"])) == ("mesh", 1)


def test_checkpoints_are_averaged(workdir, capsys):
    last = workdir / "checkpoints" / "4"
    mesh = make_mesh(open_weights(last).config.mesh)
    two, four = (open_weights(last.parent / step).load(mesh) for step in ("2", "4"))
    mean = open_weights(last).load(mesh, average=2)
    for a, b, m in zip(*map(jax.tree.leaves, (two, four, mean)), strict=True):
        np.testing.assert_allclose(m, (np.asarray(a) + np.asarray(b)) / 2, atol=1e-7)
    assert np.abs(two["token_embed"]["table"] - four["token_embed"]["table"]).max() > 1e-6
    with pytest.raises(UserError, match=r"keeps 2 checkpoints up to step 4, not 3 to average"):
        open_weights(last).load(mesh, average=3)
    # Of a workdir the last ones count, however good the best one is.
    assert open_weights(workdir, newest=True).step == 4
    metrics = []
    for flags in (["--average", "2"], []):
        assert main(["eval", "--weights", str(last), "--json", *flags]) == 0
        metrics.append(json.loads(capsys.readouterr().out))
    assert metrics[0]["test/loss"] != metrics[1]["test/loss"]
    assert main(["translate", "--weights", str(last), "--average", "3", "mesh"]) == 2


def test_generated_texts_are_scored_against_every_reference(workdir, capsys):
    sacrebleu = pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    flags = ["--bleu", "--chrf", "--rouge", "--exact-match", "--json"]
    assert main(["eval", "--workdir", str(workdir), *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    opened = open_weights(workdir)
    pairs = open_records(opened.config.data, "test")
    texts = [pair.text("source") for pair in pairs]
    made = [one["target"] for one in load_translator(workdir).translate(texts)]
    targets = [[pair.text("target") for pair in pairs]]
    assert len(set(made)) > 1
    np.testing.assert_allclose(found["test/bleu"], sacrebleu.corpus_bleu(made, targets).score)
    np.testing.assert_allclose(found["test/chrf"], sacrebleu.corpus_chrf(made, targets).score)
    same = [text == target for text, target in zip(made, targets[0], strict=True)]
    assert found["test/exact_match"] == 100 * np.mean(same)
    assert "tok:13a" in found["test/bleu_signature"]
    assert 0 <= found["test/rougeL"] <= found["test/rouge1"] <= 100


def test_scores_of_equal_texts_are_100():
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    texts = ["the cat sat on the mat", "a dog barked at the moon"]
    scores = {}
    for score in SCORES:
        scores |= text_scores(score, texts, texts)
    numbers = {name: value for name, value in scores.items() if not isinstance(value, str)}
    np.testing.assert_allclose(list(numbers.values()), 100, rtol=1e-6)
    rouge = {"rouge1", "rouge2", "rougeL"}
    bleu = {"bleu", "bleu_lowercase", "bleu_compound"}
    assert set(numbers) == bleu | rouge | {"chrf", "exact_match"}


def test_a_text_is_right_or_wrong_as_a_whole():
    references = ["neutral", "entailment", "neutral", "contradiction"]
    said = ["neutral", "entail", " neutral", "neutral"]
    assert text_scores("exact_match", said, references) == {"exact_match": 50.0}


def test_bleu_of_the_papers_is_of_moses_tokens_and_split_compounds():
    pytest.importorskip("sacremoses")
    split = compound_splitter()
    assert split("Der Satz-Teil (alt) endet.") == "Der Satz ##AT##-##AT## Teil ( alt ) endet ."
    text, reference = "Das Haus-Boot fährt heute los.", "Das Haus-Boot fährt morgen los."
    made, wanted = split(text).split(), split(reference).split()
    precisions = []
    for n in range(1, 5):  # multi-bleu's definition, written out
        grams = lambda words, n=n: Counter(zip(*(words[i:] for i in range(n)), strict=False))
        same = grams(made) & grams(wanted)
        precisions.append(sum(same.values()) / (len(made) - n + 1))
    found = text_scores("bleu_compound", [text], [reference])
    assert found["bleu_compound"] == pytest.approx(100 * np.prod(precisions) ** 0.25)
    assert "tok:none|smooth:none" in str(found["bleu_compound_signature"])


def test_lower_cased_bleu_forgives_capitals():
    pytest.importorskip("sacrebleu")
    texts, references = ["das haus ist alt und gross"], ["Das Haus ist alt und gross"]
    assert text_scores("bleu_lowercase", texts, references)["bleu_lowercase"] == pytest.approx(100)
    assert float(text_scores("bleu", texts, references)["bleu"]) < 90


@pytest.mark.parametrize("score", [score for score in SCORES if score != "exact_match"])
def test_a_missing_library_is_named(score, monkeypatch):
    for name in ("sacrebleu", "sacremoses", "rouge_score"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'zoo\[text\]'"):
        text_scores(score, ["a"], ["a"])


@pytest.mark.slow
def test_a_model_learns_to_copy(root, tmp_path):
    optimizer = {"lr": 3e-3, "schedule": "linear", "warmup": "50 steps"}
    config = make_config(root, total="800 steps", save_every="800 steps", optimizer=optimizer)
    train(config.replace(eval_every="800 steps"), tmp_path)
    targets = [one["target"] for one in load_translator(tmp_path).translate(TEXTS)]
    assert targets == TEXTS
