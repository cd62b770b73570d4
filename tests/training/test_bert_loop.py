"""BERT from text files to metrics: pre-training, and fine-tuning from it with other heads."""

import json

import pytest

from tests.corpus import ROOT, tokenizer_dir
from zoo.config import UserError, parse_config
from zoo.training.loop import train
from zoo.training.resolve import resolve
from zoo.training.weights import open_weights

CONTEXT = "Licensed work may be copied . The Licensor gives no warranty for copies of the Work ."


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Files of every kind that BERT reads."""
    root = tmp_path_factory.mktemp("texts")
    paragraphs = (ROOT / "LICENSE").read_text().split("\n\n")
    spans = [CONTEXT.index(word) for word in ("copied", "warranty")]
    asked = [
        {"id": "a", "question": "what may be done ?",
         "answers": [{"text": "copied", "answer_start": spans[0]}]},
        {"id": "b", "question": "what is not given ?",
         "answers": [{"text": "warranty", "answer_start": spans[1]}]},
        {"id": "c", "question": "who pays ?", "answers": []},
    ]  # fmt: skip
    labelled = [{"text": p, "label": "long" if len(p) > 300 else "short"} for p in paragraphs if p]
    files = {
        "masked_lm": ("txt", "\n\n".join(paragraphs)),
        "text_classification": ("jsonl", "\n".join(map(json.dumps, labelled))),
        "token_classification": ("conll", "The O\nLicensor B-ORG\n\nWork B-LAW\nof I-LAW\n\n" * 4),
        "question_answering": (
            "json",
            json.dumps({"data": [{"paragraphs": [{"context": CONTEXT, "qas": asked}]}]}),
        ),
    }
    for kind, (suffix, content) in files.items():
        (root / kind).mkdir()
        for split in ("train", "test"):
            (root / kind / f"{split}.{suffix}").write_text(content + "\n")
    return root


def make_config(texts, kind, head, init_from=None, **data):
    """A tiny BERT on one of those files."""
    return parse_config(
        {
            "model": {
                "family": "bert", "width": 16, "depth": 2, "mlp_dim": 32, "num_heads": 2,
                "head": head, "max_length": 48,
            },
            "data": {
                "kind": kind, "name": "text", "dir": str(texts / kind), "length": 48,
                "tokenizer": str(tokenizer_dir("wordpiece")), "threads": 1, **data,
            },
            "optimizer": {"name": "bert_adamw", "lr": 5e-3, "weight_decay": 0.01},
            "total": "4 steps", "log_every": "1 steps", "eval_every": "4 steps",
            "save_every": "4 steps", "init_from": init_from, "mesh": {"data": -1},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(texts, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrained")
    return workdir, train(make_config(texts, "masked_lm", "pretraining", batch_size=16), workdir)


def test_pretraining_reports_both_losses(pretrained):
    workdir, result = pretrained
    names = {f"test/{name}" for name in ("loss", "masked_lm_loss", "next_sentence_accuracy")}
    assert names <= set(result.metrics)
    logged = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["masked_lm_loss"] for line in logged if "masked_lm_loss" in line]
    assert losses[-1] < losses[0]
    assert open_weights(workdir).config.best_metric == "test/loss"


@pytest.mark.parametrize(
    ("kind", "head", "data", "metrics"),
    [
        ("text_classification", "classification", {"batch_size": 8}, {"accuracy", "f1"}),
        pytest.param(
            "token_classification",
            "token_classification",
            {"batch_size": 8},
            {"accuracy", "f1"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "question_answering",
            "question_answering",
            {"batch_size": 8, "stride": 4, "max_question": 12, "length": 32, "null_threshold": 0},
            {"f1", "exact_match", "best_f1", "questions"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_finetuning_starts_from_the_encoder_with_a_head_of_its_own(
    texts, pretrained, tmp_path, capsys, kind, head, data, metrics
):
    config = make_config(texts, kind, head, str(pretrained[0]), **data)
    result = train(config, tmp_path)
    assert {f"test/{name}" for name in metrics} <= set(result.metrics)
    assert "has no head of this kind: it starts fresh" in capsys.readouterr().err
    assert result.metrics.get("test/questions", 3) == 3


@pytest.mark.slow
def test_a_head_of_another_task_is_not_taken_for_one_of_the_same_shape(
    texts, pretrained, tmp_path, capsys
):
    data = {"batch_size": 8}
    source = make_config(texts, "text_classification", "classification", **data)
    train(source, tmp_path / "classes", stop_at=1)
    capsys.readouterr()
    config = make_config(
        texts,
        "question_answering",
        "question_answering",
        str(tmp_path / "classes"),
        **{**data, "max_question": 12, "stride": 4, "length": 32},
    )
    train(config, tmp_path / "spans", stop_at=1)
    assert "has no head of this kind" in capsys.readouterr().err


def test_what_does_not_fit_is_named(texts):
    with pytest.raises(UserError, match=r"head is 'none', but .* needs 'pretraining'"):
        resolve(make_config(texts, "masked_lm", "none", batch_size=8))
    with pytest.raises(UserError, match=r"rows of 64 tokens, but config.model.max_length is 48"):
        resolve(make_config(texts, "masked_lm", "pretraining", length=64, batch_size=8))
