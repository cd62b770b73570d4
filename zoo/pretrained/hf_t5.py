"""Hugging Face's T5, T5 1.1 and Flan-T5."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.config import UserError
from zoo.config.transformer import RELATIVE_BUCKETS, RELATIVE_DISTANCE, TransformerConfig
from zoo.pretrained import hf_json
from zoo.pretrained.table import Layout, Row, linear, norm, same

MODEL_TYPE = "t5"
# What stands where in a block of each stack.
_SUBLAYERS = {
    "encoder": (("attn", "SelfAttention"), ("mlp", "DenseReluDense")),
    "decoder": (
        ("attn", "SelfAttention"), ("cross_attn", "EncDecAttention"), ("mlp", "DenseReluDense"),
    ),
}  # fmt: skip
_NORMS = {"attn": "attn_norm", "cross_attn": "cross_norm", "mlp": "mlp_norm"}
_ATTENTION = {"q": "q", "k": "k", "v": "v", "out": "o"}
_GATED = {"gate": "wi_0", "up": "wi_1", "down": "wo"}
_PLAIN = {"up": "wi", "down": "wo"}
TIED = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
    "lm_head.weight": "shared.weight",
}
SKIPPED = (
    (
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
        "never read: looking at the source has no relative positions",
    ),
)
_PROJECTIONS = {
    "relu": {"activation": "relu", "gated": False},
    "gelu": {"activation": "gelu_erf", "gated": False},
    "gated-gelu": {"activation": "gelu_tanh", "gated": True},
    "gated-silu": {"activation": "silu", "gated": True},
}


class Json(hf_json.Model, kw_only=True):
    """Keys of `config.json`, with the library's defaults."""

    vocab_size: hf_json.Size = 32_128
    d_model: hf_json.Size = 512
    d_kv: hf_json.Size = 64
    d_ff: hf_json.Size = 2048
    num_layers: hf_json.Size = 6
    num_decoder_layers: hf_json.Size | None = None
    num_heads: hf_json.Size = 8
    relative_attention_num_buckets: hf_json.Size = RELATIVE_BUCKETS
    relative_attention_max_distance: hf_json.Size = RELATIVE_DISTANCE
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"
    is_encoder_decoder: bool = True
    scale_decoder_outputs: bool | None = None  # transformers 5; before, where logits are tied
    pad_token_id: int | None = 0
    eos_token_id: int | None = 1
    decoder_start_token_id: int | None = 0


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own."""
    return {own: own for own in names}


def publish(name: str, cfg: TransformerConfig) -> str:
    """The name under which transformers saves an array of the table."""
    return name


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> TransformerConfig:
    """The model of a `config.json`.

    Raises:
      UserError: a setting that Zoo's encoder-decoder does not have.
    """
    json = hf_json.read(tree, Json, path)
    wanted = {
        "relative_attention_num_buckets": RELATIVE_BUCKETS,
        "relative_attention_max_distance": RELATIVE_DISTANCE,
        "is_encoder_decoder": True,
        "decoder_start_token_id": 0,
    }
    hf_json.insist(path, hf_json.write(json), wanted)
    if json.feed_forward_proj not in _PROJECTIONS:
        known = ", ".join(_PROJECTIONS)
        raise UserError(f"{path}: feed_forward_proj {json.feed_forward_proj!r} is none of {known}")
    # Version 5 says of all models that they are tied, whose head is another array then.
    given = json.scale_decoder_outputs
    scaled = json.tie_word_embeddings if given is None else given
    return TransformerConfig(
        width=json.d_model,
        depth=json.num_layers,
        decoder_depth=json.num_decoder_layers or json.num_layers,
        mlp_dim=json.d_ff,
        num_heads=json.num_heads,
        head_size=json.d_kv,
        vocab_size=json.vocab_size,
        position="relative",
        norm="rms",
        norm_order="pre",
        norm_epsilon=json.layer_norm_epsilon,
        attention_bias=False,
        mlp_bias=False,
        attention_scale=False,
        embed_scale=False,
        shared=True,
        tied=scaled or "lm_head.weight" not in set(names),
        logits_scale=scaled,
        init="t5",
        output_dropout=True,
        **_PROJECTIONS[json.feed_forward_proj],
    )


def layout(cfg: TransformerConfig) -> Layout:
    """The table of a model."""
    rows: list[Row] = [
        *same("token_embed/table", "shared.weight"),
        *linear("head", "lm_head"),
    ]
    for stack, sublayers in _SUBLAYERS.items():
        for number, (ours, theirs) in enumerate(sublayers):
            layer = f"{stack}.block.{{}}.layer.{number}"
            parts = _ATTENTION if ours != "mlp" else _GATED if cfg.gated else _PLAIN
            rows += norm(f"{stack}/blocks/{_NORMS[ours]}", f"{layer}.layer_norm")
            for own, name in parts.items():
                rows += linear(f"{stack}/blocks/{ours}/{own}", f"{layer}.{theirs}.{name}")
        # One table for all layers, which the first one keeps.
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        rows += same(f"{stack}/relative", first)
        rows += norm(f"{stack}/norm", f"{stack}.final_layer_norm")
    return Layout("Hugging Face's T5", tuple(rows), TIED, SKIPPED)


def write_config(cfg: TransformerConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    assert cfg.vocab_size is not None
    kind = {"activation": cfg.activation, "gated": cfg.gated}
    names = [name for name, options in _PROJECTIONS.items() if options == kind]
    json = Json(
        model_type=MODEL_TYPE,
        architectures=["T5ForConditionalGeneration"],
        vocab_size=cfg.vocab_size,
        d_model=cfg.width,
        d_kv=cfg.head_size,
        d_ff=cfg.mlp_dim,
        num_layers=cfg.depth,
        num_decoder_layers=cfg.decoder_depth,
        num_heads=cfg.num_heads,
        dropout_rate=cfg.dropout,
        layer_norm_epsilon=cfg.norm_epsilon,
        feed_forward_proj=names[0] if names else cfg.activation,
        tie_word_embeddings=cfg.tied,
        scale_decoder_outputs=cfg.logits_scale,
    )
    return hf_json.write(json)
