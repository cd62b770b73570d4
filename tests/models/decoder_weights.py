"""Our decoders in Hugging Face's PyTorch classes, for the oracle tests."""

from typing import Any

import jax
import numpy as np
import pytest

from tests.torch_library import torch
from zoo.config.decoder import DecoderConfig

transformers = pytest.importorskip("transformers")

# Parameters, ours -> theirs; several of ours under one name are joined along their last axis.
GPT2 = {
    "token_embed/table": "transformer.wte.weight",
    "pos_embed": "transformer.wpe.weight",
    "blocks/attn_norm": "transformer.h.{}.ln_1",
    "blocks/attn/q": "transformer.h.{}.attn.c_attn",
    "blocks/attn/k": "transformer.h.{}.attn.c_attn",
    "blocks/attn/v": "transformer.h.{}.attn.c_attn",
    "blocks/attn/out": "transformer.h.{}.attn.c_proj",
    "blocks/mlp_norm": "transformer.h.{}.ln_2",
    "blocks/mlp/up": "transformer.h.{}.mlp.c_fc",
    "blocks/mlp/down": "transformer.h.{}.mlp.c_proj",
    "norm": "transformer.ln_f",
}
LLAMA = {
    "token_embed/table": "model.embed_tokens.weight",
    "blocks/attn_norm": "model.layers.{}.input_layernorm",
    "blocks/attn/q": "model.layers.{}.self_attn.q_proj",
    "blocks/attn/k": "model.layers.{}.self_attn.k_proj",
    "blocks/attn/v": "model.layers.{}.self_attn.v_proj",
    "blocks/attn/out": "model.layers.{}.self_attn.o_proj",
    "blocks/mlp_norm": "model.layers.{}.post_attention_layernorm",
    "blocks/mlp/gate": "model.layers.{}.mlp.gate_proj",
    "blocks/mlp/up": "model.layers.{}.mlp.up_proj",
    "blocks/mlp/down": "model.layers.{}.mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}
QWEN = LLAMA | {
    "blocks/attn/q_norm": "model.layers.{}.self_attn.q_norm",
    "blocks/attn/k_norm": "model.layers.{}.self_attn.k_norm",
}
GEMMA = QWEN | {
    "blocks/attn_post_norm": "model.layers.{}.post_attention_layernorm",
    "blocks/mlp_norm": "model.layers.{}.pre_feedforward_layernorm",
    "blocks/mlp_post_norm": "model.layers.{}.post_feedforward_layernorm",
}
TABLES = {"gpt2": GPT2, "llama": LLAMA, "qwen": QWEN, "gemma": GEMMA}


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


def to_theirs(family: str, tree: dict[str, Any]) -> dict[str, Any]:
    """Parameters, or their gradients, under their names and in their shapes; numpy arrays."""
    names, joined = TABLES[family], {}
    leaves = {"/".join(e.key for e in path): x for path, x in jax.tree.leaves_with_path(tree)}
    order = list(names)

    def split(path):
        if path in names:
            return path, None
        module, _, leaf = path.rpartition("/")
        return module, leaf

    for path in sorted(leaves, key=lambda path: order.index(split(path)[0])):
        module, leaf = split(path)
        name = names[module] if leaf is None else f"{names[module]}.{_LEAVES[leaf]}"
        for i, layer in enumerate(leaves[path] if path.startswith("blocks") else [leaves[path]]):
            array = np.asarray(layer)
            # GPT-2's kernels are stored [in, out], as ours.
            turned = array.T if leaf == "kernel" and family != "gpt2" else array
            joined.setdefault(name.format(i), []).append(turned)
    return {name: np.concatenate(parts, -1) for name, parts in joined.items()}


_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def load_theirs(family: str, cfg: DecoderConfig, params: dict[str, Any]) -> Any:
    """Their model with our parameters; every name must fit."""
    theirs = make_theirs(family, cfg)
    weights = {name: torch.tensor(x) for name, x in to_theirs(family, params).items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected
    assert set(missing) == ({"lm_head.weight"} if cfg.tied else set())
    return theirs
