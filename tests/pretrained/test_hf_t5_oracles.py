"""transformers' T5s load here with their logits, and what is saved here loads there."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.encdecs import apply
from tests.pretrained.oracles import close, round_trip, torch, transformers
from tests.pretrained.published import load

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]
SIZES = {
    "vocab_size": 20, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2,
    "num_decoder_layers": 3, "num_heads": 4, "decoder_start_token_id": 0,
}  # fmt: skip
KINDS = {
    "1.0": {"feed_forward_proj": "relu", "tie_word_embeddings": True},
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_logits_both_ways(options, tmp_path):
    torch.manual_seed(0)
    kind = transformers.T5ForConditionalGeneration
    theirs = kind(transformers.T5Config(**SIZES, **options)).eval()
    if not options["tie_word_embeddings"]:  # untied from the table only once it is loaded
        theirs.lm_head.weight = torch.nn.Parameter(theirs.lm_head.weight.detach().clone())
    for parameter in theirs.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path / "theirs")
    cfg, params = load(tmp_path / "theirs")
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 20, (2, 2, 40))
    tokens = {"input_ids": torch.tensor(source), "decoder_input_ids": torch.tensor(target)}
    expected = theirs(**tokens).logits
    found = apply(cfg, params, *(jnp.asarray(x, jnp.int32) for x in (source, target)))
    close(found, expected)
    again = round_trip(tmp_path, kind)
    assert torch.equal(again(**tokens).logits, expected)
