"""Hugging Face's Llama 3, Qwen 3 and Gemma 3 (text): one block with options, nearly one table.

transformers 4 writes the rotations' settings as `rope_theta` and `rope_scaling`, version 5 as
`rope_parameters`; both are read, the older way is written, which both read.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.config import UserError
from zoo.config.decoder import DecoderConfig
from zoo.pretrained import hf_json
from zoo.pretrained.table import Layout, linear, norm, same

_LAYER = "model.layers.{}"
LLAMA = (
    *same("token_embed/table", "model.embed_tokens.weight"),
    *norm("blocks/attn_norm", f"{_LAYER}.input_layernorm"),
    *linear("blocks/attn/q", f"{_LAYER}.self_attn.q_proj"),
    *linear("blocks/attn/k", f"{_LAYER}.self_attn.k_proj"),
    *linear("blocks/attn/v", f"{_LAYER}.self_attn.v_proj"),
    *linear("blocks/attn/out", f"{_LAYER}.self_attn.o_proj"),
    *norm("blocks/mlp_norm", f"{_LAYER}.post_attention_layernorm"),
    *linear("blocks/mlp/gate", f"{_LAYER}.mlp.gate_proj"),
    *linear("blocks/mlp/up", f"{_LAYER}.mlp.up_proj"),
    *linear("blocks/mlp/down", f"{_LAYER}.mlp.down_proj"),
    *norm("norm", "model.norm"),
    *linear("head", "lm_head"),
)
QK_NORMS = (
    *norm("blocks/attn/q_norm", f"{_LAYER}.self_attn.q_norm"),
    *norm("blocks/attn/k_norm", f"{_LAYER}.self_attn.k_norm"),
)
# Gemma's norm of what attention gives has the name that Llama's of what the MLP gets has.
POST_NORMS = (
    *norm("blocks/attn_post_norm", f"{_LAYER}.post_attention_layernorm"),
    *norm("blocks/mlp_norm", f"{_LAYER}.pre_feedforward_layernorm"),
    *norm("blocks/mlp_post_norm", f"{_LAYER}.post_feedforward_layernorm"),
)
_REPLACED = {path for row in POST_NORMS for path in row.ours}
GEMMA = (*(row for row in LLAMA if row.ours[0] not in _REPLACED), *POST_NORMS)
TIED = {"lm_head.weight": "model.embed_tokens.weight"}
SKIPPED = ((r".*\.rotary_emb\.inv_freq", "a constant: the rotations' frequencies"),)


class Json(hf_json.Model, kw_only=True):
    """Keys of `config.json` that all three have; defaults are those of Llama."""

    vocab_size: hf_json.Size
    hidden_size: hf_json.Size
    intermediate_size: hf_json.Size
    num_hidden_layers: hf_json.Size
    num_attention_heads: hf_json.Size
    num_key_value_heads: hf_json.Size | None = None
    head_dim: hf_json.Size | None = None
    hidden_act: str | None = "silu"
    max_position_embeddings: hf_json.Size = 2048
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None


class LlamaJson(Json, kw_only=True):
    """Llama's alone."""

    mlp_bias: bool = False


class QwenJson(Json, kw_only=True):
    """Qwen 3's alone."""

    max_position_embeddings: hf_json.Size = 32_768
    head_dim: hf_json.Size | None = 128
    use_sliding_window: bool = False


class GemmaJson(Json, kw_only=True):
    """Gemma 3's alone."""

    vocab_size: hf_json.Size = 262_208
    hidden_size: hf_json.Size = 2304
    intermediate_size: hf_json.Size = 9216
    num_hidden_layers: hf_json.Size = 26
    num_attention_heads: hf_json.Size = 8
    num_key_value_heads: hf_json.Size | None = 4
    head_dim: hf_json.Size | None = 256
    hidden_act: str | None = None  # another name stands in its place
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: hf_json.Size = 131_072
    tie_word_embeddings: bool = True
    query_pre_attn_scalar: float = 256
    sliding_window: hf_json.Size = 4096
    layer_types: list[str] | None = None
    sliding_window_pattern: hf_json.Size | None = None
    rope_local_base_freq: float | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None


JSONS: dict[str, type[Json]] = {
    "llama": LlamaJson,
    "qwen3": QwenJson,
    "gemma3_text": GemmaJson,
}
_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own."""
    return {own: own for own in names}


def publish(name: str, cfg: DecoderConfig) -> str:
    """The name under which transformers saves an array of the table."""
    return name


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> DecoderConfig:
    """The model of a `config.json`.

    Raises:
      UserError: a setting that Zoo's decoder does not have.
    """
    json: Any = hf_json.read(tree, JSONS[tree["model_type"]], path)
    options: dict[str, Any] = {"attention_bias": json.attention_bias}
    if isinstance(json, LlamaJson):
        options["mlp_bias"] = json.mlp_bias
    if isinstance(json, QwenJson):
        hf_json.insist(path, hf_json.write(json), {"use_sliding_window": False})
        options["qk_norm"] = True
    if isinstance(json, GemmaJson):
        options |= _gemma_options(json, path)
    else:
        options |= {"activation": hf_json.read_activation(json.hidden_act or "silu", path)}
        options |= _rotation(json.rope_parameters, json.rope_theta, json.rope_scaling, path)
    return DecoderConfig(
        width=json.hidden_size,
        depth=json.num_hidden_layers,
        mlp_dim=json.intermediate_size,
        num_heads=json.num_attention_heads,
        num_kv_heads=json.num_key_value_heads or json.num_attention_heads,
        head_size=json.head_dim or json.hidden_size // json.num_attention_heads,
        vocab_size=json.vocab_size,
        max_length=json.max_position_embeddings,
        norm_epsilon=json.rms_norm_eps,
        tied=json.tie_word_embeddings,
        **options,
    )


def layout(cfg: DecoderConfig) -> Layout:
    """The table of a model."""
    rows = GEMMA if cfg.post_norm else LLAMA
    return Layout(f"Hugging Face's {_family(cfg)}", rows + QK_NORMS, TIED, SKIPPED)


def write_config(cfg: DecoderConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    assert cfg.vocab_size is not None
    family = _family(cfg)
    shared: dict[str, Any] = {
        "model_type": family,
        "architectures": [_ARCHITECTURES[family]],
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.width,
        "intermediate_size": cfg.mlp_dim,
        "num_hidden_layers": cfg.depth,
        "num_attention_heads": cfg.num_heads,
        "num_key_value_heads": cfg.num_kv_heads,
        "head_dim": cfg.head_size,
        "rms_norm_eps": cfg.norm_epsilon,
        "tie_word_embeddings": cfg.tied,
        "attention_bias": cfg.attention_bias,
        "rope_theta": cfg.rope_base,
    }
    if cfg.max_length is not None:
        shared["max_position_embeddings"] = cfg.max_length
    if family == "gemma3_text":
        json = GemmaJson(
            **shared,
            query_pre_attn_scalar=cfg.head_size,
            sliding_window=cfg.window,
            layer_types=[_LOCAL if local else _GLOBAL for local in cfg.local],
            sliding_window_pattern=cfg.global_every,
            rope_local_base_freq=cfg.local_rope_base or cfg.rope_base,
        )
        return hf_json.write(json)
    shared["hidden_act"] = hf_json.write_activation(cfg.activation)
    if cfg.rope_scaling != 1:
        shared["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": cfg.rope_scaling,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": cfg.rope_original_length,
        }
    if family == "qwen3":
        return hf_json.write(QwenJson(**shared))
    return hf_json.write(LlamaJson(**shared, mlp_bias=cfg.mlp_bias))


def _family(cfg: DecoderConfig) -> str:
    if cfg.post_norm:
        return "gemma3_text"
    return "qwen3" if cfg.qk_norm else "llama"


def _gemma_options(json: GemmaJson, path: Path) -> dict[str, Any]:
    """What makes a Gemma of the block."""
    wanted = {"query_pre_attn_scalar": json.head_dim}
    hf_json.insist(path, hf_json.write(json), wanted)
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        hf_json.insist(path, {key: getattr(json, key)}, {key: None})
    parameters = json.rope_parameters or {}
    everywhere = _rotation(parameters.get(_GLOBAL), json.rope_theta or 1e6, json.rope_scaling, path)
    local = _rotation(parameters.get(_LOCAL), json.rope_local_base_freq or 1e4, None, path)
    every = json.sliding_window_pattern or 6
    if json.layer_types is not None:
        numbers = [i + 1 for i, kind in enumerate(json.layer_types) if kind == _GLOBAL]
        every = numbers[0] if numbers else 0
        expected = [*range(every, json.num_hidden_layers + 1, every)] if every else []
        if numbers != expected or not set(json.layer_types) <= {_LOCAL, _GLOBAL}:
            raise UserError(f"{path}: layer_types is not every so many-th layer {_GLOBAL!r}")
    return {
        **everywhere,
        "local_rope_base": local["rope_base"],
        "window": json.sliding_window,
        "global_every": every,
        "norm_from_zero": True,
        "post_norm": True,
        "qk_norm": True,
        "activation": hf_json.read_activation(json.hidden_activation, path),
        "embed_scale": True,
    }


def _rotation(
    parameters: dict[str, Any] | None,
    theta: float | None,
    scaling: dict[str, Any] | None,
    path: Path,
) -> dict[str, Any]:
    """The rotations of either version's settings."""
    found = {"rope_theta": theta or 10_000.0, **(scaling or {}), **(parameters or {})}
    kind = found.get("rope_type", found.get("type", "default"))
    options = {"rope_base": float(found["rope_theta"])}
    if kind == "default":
        return options
    if kind != "llama3":
        raise UserError(f"{path}: rotations of type {kind!r} are not read here, only 'llama3'")
    try:
        hf_json.insist(path, found, {"low_freq_factor": 1.0, "high_freq_factor": 4.0})
        options["rope_scaling"] = float(found["factor"])
        options["rope_original_length"] = int(found["original_max_position_embeddings"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: the rotations' {error} is missing or no number") from error
    return options
