"""transformers' decoders load here with their logits, and what is saved here loads there."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.decoders import apply
from tests.pretrained.oracles import close, round_trip, torch, transformers
from tests.pretrained.published import load

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]
SHARED = {
    "vocab_size": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
    "max_position_embeddings": 48, "initializer_range": 0.3, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip
FAMILIES = {
    "gpt2": (
        "GPT2",
        "GPT2LMHeadModel",
        {
            "vocab_size": 20, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 48,
            "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": None,
        },
    ),
    "llama 3": ("Llama", "LlamaForCausalLM", {**SHARED, "rope_parameters": LLAMA3}),
    "llama 3, tied": ("Llama", "LlamaForCausalLM", {**SHARED, "tie_word_embeddings": True}),
    "llama with biases": (
        "Llama", "LlamaForCausalLM", {**SHARED, "attention_bias": True, "mlp_bias": True},
    ),
    "qwen 3": ("Qwen3", "Qwen3ForCausalLM", {**SHARED, "tie_word_embeddings": True}),
    "qwen 3, untied": ("Qwen3", "Qwen3ForCausalLM", SHARED),
    "gemma 3": (
        "Gemma3Text",
        "Gemma3ForCausalLM",
        {
            **SHARED, "query_pre_attn_scalar": 6, "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "model", "options"), FAMILIES.values(), ids=FAMILIES)
def test_logits_both_ways(config, model, options, tmp_path):
    torch.manual_seed(0)
    kind = getattr(transformers, model)
    theirs = kind(getattr(transformers, f"{config}Config")(**options)).eval()
    for parameter in theirs.parameters():  # norms and biases too
        parameter.data += 0.1 * torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path / "theirs")
    cfg, params = load(tmp_path / "theirs")
    tokens = np.random.default_rng(0).integers(0, 20, (2, 40))
    expected = theirs(torch.tensor(tokens)).logits
    close(apply(cfg, params, jnp.asarray(tokens, jnp.int32)), expected)
    again = round_trip(tmp_path, kind)
    assert torch.equal(again(torch.tensor(tokens)).logits, expected)
