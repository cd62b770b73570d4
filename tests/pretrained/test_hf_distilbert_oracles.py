"""transformers' DistilBERTs load here with their logits; what is saved here loads there."""

import jax.numpy as jnp
import pytest

from tests.models.berts import make_batch, run_head
from tests.pretrained.oracles import close, round_trip, tensor, torch, transformers
from tests.pretrained.published import load

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]
HEADS = {
    "masked_lm": ("DistilBertForMaskedLM", {"masked": "logits"}),
    "classification": ("DistilBertForSequenceClassification", {"class": "logits"}),
    "token_classification": ("DistilBertForTokenClassification", {"tags": "logits"}),
    "question_answering": (
        "DistilBertForQuestionAnswering", {"start": "start_logits", "end": "end_logits"}
    ),
    "none": ("DistilBertModel", {"hidden": "last_hidden_state"}),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_logits_both_ways(head, tmp_path):
    torch.manual_seed(0)
    kind, names = getattr(transformers, HEADS[head][0]), HEADS[head][1]
    config = transformers.DistilBertConfig(
        vocab_size=30, dim=16, n_layers=3, n_heads=2, hidden_dim=24, max_position_embeddings=12,
        num_labels=2 if head == "question_answering" else 5,
    )  # fmt: skip
    theirs = kind(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path / "theirs")
    cfg, params = load(tmp_path / "theirs")
    assert cfg.head == head
    batch = make_batch()
    batch["masked_positions"] = jnp.broadcast_to(jnp.arange(8)[None], (4, 8))
    tokens = {"input_ids": tensor(batch["tokens"]), "attention_mask": tensor(batch["segment"])}
    expected, found = theirs(**tokens), run_head(cfg, params, batch)
    real = batch["segment"][..., None] > 0  # what padding becomes is nobody's
    for ours, name in names.items():
        mask = 1 if ours == "class" else real.reshape(*real.shape[: expected[name].ndim])
        close(found[ours] * mask, expected[name] * tensor(mask))
    again = round_trip(tmp_path, kind)(**tokens)
    for name in names.values():
        assert torch.equal(again[name], expected[name])
