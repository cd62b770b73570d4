"""What transformers saves loads here with its logits; what is saved here loads there unchanged."""

import json

import jax.numpy as jnp
import pytest

from tests.models.berts import make_batch, run_head
from tests.pretrained.oracles import close, inputs, round_trip, tensor, torch, transformers
from tests.pretrained.published import load
from zoo.cli import main
from zoo.config.bert import Head
from zoo.pretrained.opening import open_pretrained

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]
HEADS: dict[Head, str] = {
    "pretraining": "BertForPreTraining",
    "masked_lm": "BertForMaskedLM",
    "classification": "BertForSequenceClassification",
    "token_classification": "BertForTokenClassification",
    "question_answering": "BertForQuestionAnswering",
    "pooled": "BertModel",
}


def make_theirs(name, **changes):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        **{
            "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
            "intermediate_size": 24, "max_position_embeddings": 12, "num_labels": 5,
            "initializer_range": 0.3, **changes,
        }
    )  # fmt: skip
    return getattr(transformers, name)(config).eval()


def logits(output):
    """All that a model of theirs predicts, by our names."""
    names = {
        "prediction_logits": "masked", "seq_relationship_logits": "next_sentence",
        "start_logits": "start", "end_logits": "end", "last_hidden_state": "hidden",
        "logits": "logits",
    }  # fmt: skip
    return {ours: output[theirs] for theirs, ours in names.items() if theirs in output}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("act", ["gelu", "gelu_new"])
def test_every_head_and_both_gelus(head, act, tmp_path):
    labels = 2 if head == "question_answering" else 5
    theirs = make_theirs(HEADS[head], hidden_act=act, num_labels=labels)
    theirs.save_pretrained(tmp_path / "theirs")
    cfg, params = load(tmp_path / "theirs")
    assert cfg.head == head
    batch = make_batch()
    batch["segment"] = jnp.ones_like(batch["segment"])
    batch["masked_positions"] = jnp.broadcast_to(jnp.arange(8)[None], (4, 8))
    found = run_head(cfg, params, batch)
    found["logits"] = next((found[n] for n in ("class", "tags", "masked") if n in found), None)
    for name, expected in logits(theirs(**inputs(batch))).items():
        close(found[name], expected)
    again = round_trip(tmp_path, getattr(transformers, HEADS[head]))
    expected = logits(theirs(**inputs(batch)))
    for name, value in logits(again(**inputs(batch))).items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize("lower", [True, False])
def test_a_vocabulary_goes_with_it(lower, tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abAB", "##a", "##b"]
    make_theirs("BertForMaskedLM").save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    settings = json.dumps({"do_lower_case": lower})
    (tmp_path / "theirs" / "tokenizer_config.json").write_text(settings)
    round_trip(tmp_path, transformers.BertForMaskedLM)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    ours = open_pretrained(tmp_path / "theirs").tokenizer
    assert theirs("Ab A b")["input_ids"] == [2, *ours.encode("Ab A b").tolist(), 3]


def test_a_tokenizer_goes_with_it(tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef", "##a", "##b"]
    theirs = make_theirs("BertForMaskedLM", vocab_size=30)
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "theirs")
    round_trip(tmp_path, transformers.BertForMaskedLM)
    before, after = (
        transformers.AutoTokenizer.from_pretrained(tmp_path / name) for name in ("theirs", "back")
    )
    text = "A bab [MASK] facade"
    assert after(text)["input_ids"] == before(text)["input_ids"]
    assert after.mask_token_id == before.mask_token_id
    assert tensor(after(text)["input_ids"]).max() < len(vocabulary)


def test_several_files_load_there(tmp_path):
    theirs = make_theirs("BertForPreTraining")
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="4KB")
    assert len([*(tmp_path / "theirs").glob("*.safetensors")]) > 2
    source, back = str(tmp_path / "theirs"), str(tmp_path / "back")
    argv = ["convert", "--from", source, "--to", back, "--format", "hf", "--shard-size", "4KB"]
    assert main(argv) == 0
    kind = transformers.BertForPreTraining
    found, info = kind.from_pretrained(back, output_loading_info=True)
    assert not any(info.values()), info
    ours, expected = found.state_dict(), theirs.state_dict()
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
