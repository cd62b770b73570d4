"""What a text model says at every evaluation, kept beside its metrics and shown in the report."""

import jax
import pytest

from tests.corpus import text_dir, tokenizer_dir
from zoo.config import parse_config
from zoo.experiment.report import headline, run_title, sample_cards, write_report
from zoo.experiment.samples import make_sampler, read_samples, write_samples
from zoo.tasks.build import init_params
from zoo.training.resolve import resolve
from zoo.training.workdir import write_config

SIZES = {"width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2}
TEXT = {"name": "text", "dir": str(text_dir()), "batch_size": 4, "length": 48}


def config_of(kind):
    """A tiny experiment on this project's documents."""
    model = {
        "lm": {"family": "decoder", "max_length": 64},
        "masked_lm": {"family": "bert", "head": "masked_lm"},
        "seq2seq": {"family": "transformer"},
    }[kind]
    data = {
        "lm": {"tokenizer": str(tokenizer_dir("bpe"))},
        "masked_lm": {"tokenizer": str(tokenizer_dir("wordpiece")), "next_sentence": False},
        "seq2seq": {
            "tokenizer": str(tokenizer_dir("sentencepiece", 400)),
            "fields": {"source": "text", "target": "text"},
            "target_length": 160,
            "length": 160,
        },
    }[kind]
    return parse_config({"model": {**SIZES, **model}, "data": {**TEXT, **data, "kind": kind}})


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("kind", ["lm", "masked_lm", "seq2seq"])
def test_every_kind_that_speaks_is_asked_the_same_every_time(kind):

    run = resolve(config_of(kind))
    sampler = make_sampler(run)
    params = init_params(run.config, jax.random.key(0))
    first = sampler(params)
    assert first == sampler(params)
    assert len(first) == 4
    document = (text_dir() / "test.txt").read_text().split("\n\n")[0].strip()
    card = first[0]
    if kind == "lm":
        assert document.startswith(card["given"] + card["right"])
    elif kind == "masked_lm":
        words = card["given"].split()
        right = document.split()[: len(words)]
        assert len(words) >= 6
        assert words == [word if i % 6 < 5 else "[MASK]" for i, word in enumerate(right)]
        assert card["right"] == ", ".join(right[5::6])
        assert len(card["said"].split(", ")) == len(right[5::6])
    else:
        assert card["given"] == card["right"] == document[:400]


def test_a_step_that_is_done_again_has_its_last_samples(tmp_path):
    write_samples(tmp_path, 8, [{"given": "a", "said": "b", "right": "c"}])
    write_samples(tmp_path, 4, [{"given": "a", "said": "x", "right": "c"}])
    write_samples(tmp_path, 8, [{"given": "a", "said": "ü", "right": "c"}])
    assert [*read_samples(tmp_path)] == [4, 8]
    assert read_samples(tmp_path)[8][0]["said"] == "ü"


def test_the_report_shows_them_at_first_half_way_and_in_the_end(tmp_path):
    steps = {s: [{"given": "g", "said": f"s{s}", "right": "r"}] for s in (1, 2, 3, 4, 5)}
    (card,) = sample_cards(steps)
    assert card["said"] == [(1, "s1"), (3, "s3"), (5, "s5")]
    assert sample_cards({}) == []
    write_config(tmp_path, config_of("lm"))
    for step, samples in steps.items():
        write_samples(tmp_path, step, samples)
    page = write_report(tmp_path, artifacts=None).read_text()
    assert "What it says" in page
    assert '<dd class="last">s5</dd>' in page
    assert "s2" not in page


@pytest.mark.parametrize(
    ("kind", "metric", "value", "expected"),
    [
        ("lm", "bits_per_byte", 1.5, "1.5"),
        ("masked_lm", "masked_lm_accuracy", 0.25, "25.0 %"),
        ("images", "accuracy", 0.5, None),
    ],
)
def test_the_headline_is_of_the_kind_of_data(kind, metric, value, expected):
    history = {f"eval/test/{metric}": {1: value}, "eval/test/count": {1: 100.0}}
    history["eval/test/loss"] = {1: 2.0}
    found = headline({"data": {"kind": kind}}, history, None)
    if expected is None:
        assert found["correct"] == 50
    else:
        assert found["value"] == expected
        assert "correct" not in found


def test_the_title_names_the_family_and_the_texts():
    config = {"model": {"family": "decoder"}, "data": {"name": "text", "dir": "a/imdb"}}
    assert run_title(config) == "Language model on imdb"
