"""transformers' RoBERTas load here with their logits, and what is saved here loads there."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.berts import make_batch, run_head
from tests.pretrained.oracles import close, tensor, torch, transformers
from tests.pretrained.published import load, write_words
from zoo.cli import main

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]
HEADS = {
    "masked_lm": ("RobertaForMaskedLM", "masked"),
    "classification": ("RobertaForSequenceClassification", "class"),
    "token_classification": ("RobertaForTokenClassification", "tags"),
    "pooled": ("RobertaModel", "hidden"),
}


@pytest.mark.parametrize("head", HEADS)
def test_logits_both_ways(head, tmp_path):
    torch.manual_seed(0)
    kind, name = getattr(transformers, HEADS[head][0]), HEADS[head][1]
    config = transformers.RobertaConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=14, type_vocab_size=1, num_labels=5,
        layer_norm_eps=1e-5,
    )  # fmt: skip
    theirs = kind(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    rows = next(p for n, p in theirs.named_parameters() if "position_embeddings" in n)
    rows.data[:2] = 0  # no token has these positions
    source, ours, back = (tmp_path / name for name in ("theirs", "ours", "back"))
    theirs.save_pretrained(source)
    write_words(source, ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdef"])
    cfg, params = load(source)
    assert (cfg.head, cfg.max_length, cfg.num_types) == (head, 12, 1)
    batch = make_batch()
    batch["tokens"] = jnp.maximum(batch["tokens"], 2)
    batch["type"], batch["segment"] = jnp.zeros((4, 8), jnp.int32), jnp.ones((4, 8), jnp.int32)
    batch["masked_positions"] = jnp.broadcast_to(jnp.arange(8)[None], (4, 8))
    output = theirs(tensor(batch["tokens"]))
    expected = output.last_hidden_state if name == "hidden" else output.logits
    close(run_head(cfg, params, batch)[name], expected)
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "hf"]) == 0
    before, after = ((p / "model.safetensors").read_bytes() for p in (source, back))
    assert before == after
    again, info = kind.from_pretrained(back, output_loading_info=True)
    assert not any(info.values()), info
    output = again.eval()(tensor(batch["tokens"]))
    found = output.last_hidden_state if name == "hidden" else output.logits
    assert torch.equal(found, expected)
    tree = json.loads((back / "config.json").read_text())
    assert tree["model_type"] == "roberta"
    assert np.isfinite(found.detach().numpy()).all()
