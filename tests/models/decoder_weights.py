"""Our decoders in Hugging Face's PyTorch classes, for the oracle tests."""

from typing import Any

import numpy as np
import pytest

from tests.pretrained.published import exported
from tests.torch_library import torch
from zoo.config.decoder import DecoderConfig
from zoo.pretrained import hf_gpt2, hf_llama

transformers = pytest.importorskip("transformers")


def make_theirs(family: str, cfg: DecoderConfig) -> Any:
    """Their model of a config, with weights of its own."""
    sizes = {
        "vocab_size": cfg.vocab_size,
        "tie_word_embeddings": cfg.tied,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "attn_implementation": "eager",
    }
    if family == "gpt2":
        config = transformers.GPT2Config(
            n_positions=cfg.max_length,
            n_embd=cfg.width,
            n_layer=cfg.depth,
            n_head=cfg.num_heads,
            n_inner=cfg.mlp_dim,
            layer_norm_epsilon=cfg.norm_epsilon,
            **sizes,
        )
        return transformers.GPT2LMHeadModel(config).eval()
    sizes |= {
        "hidden_size": cfg.width,
        "intermediate_size": cfg.mlp_dim,
        "num_hidden_layers": cfg.depth,
        "num_attention_heads": cfg.num_heads,
        "num_key_value_heads": cfg.num_kv_heads,
        "head_dim": cfg.head_size,
        "rms_norm_eps": cfg.norm_epsilon,
    }
    plain = {"rope_type": "default", "rope_theta": cfg.rope_base}
    if family == "llama":
        scaled = {
            "rope_type": "llama3",
            "rope_theta": cfg.rope_base,
            "factor": cfg.rope_scaling,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": cfg.rope_original_length,
        }
        rope = scaled if cfg.rope_scaling > 1 else plain
        config = transformers.LlamaConfig(rope_parameters=rope, **sizes)
        return transformers.LlamaForCausalLM(config).eval()
    if family == "qwen":
        config = transformers.Qwen3Config(rope_parameters=plain, **sizes)
        return transformers.Qwen3ForCausalLM(config).eval()
    local = {"rope_type": "default", "rope_theta": cfg.local_rope_base}
    config = transformers.Gemma3TextConfig(
        rope_parameters={"full_attention": plain, "sliding_attention": local},
        layer_types=["sliding_attention" if local else "full_attention" for local in cfg.local],
        sliding_window=cfg.window,
        query_pre_attn_scalar=cfg.head_size,
        **sizes,
    )
    return transformers.Gemma3ForCausalLM(config).eval()


def to_theirs(family: str, cfg: DecoderConfig, tree: dict[str, Any]) -> dict[str, Any]:
    """Parameters, or their gradients, under their names and in their shapes; numpy arrays."""
    return exported(hf_gpt2 if family == "gpt2" else hf_llama, cfg, tree)


def load_theirs(family: str, cfg: DecoderConfig, params: dict[str, Any]) -> Any:
    """Their model with our parameters; every name must fit."""
    theirs = make_theirs(family, cfg)
    weights = {
        name: torch.tensor(np.array(x)) for name, x in to_theirs(family, cfg, params).items()
    }
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected
    assert set(missing) == ({"lm_head.weight"} if cfg.tied else set())
    return theirs
