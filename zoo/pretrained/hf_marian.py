"""Hugging Face's MarianMT: Marian's post-norm encoder-decoders, such as Helsinki-NLP's opus-mt."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.config.transformer import TransformerConfig
from zoo.pretrained import hf_json
from zoo.pretrained.table import BATCHED, Layout, Row, linear, norm, same

MODEL_TYPE = "marian"
END = 0  # the number of its tokenizers' </s>
_EPSILON = 1e-5  # no setting there
_POSITIONS = 512  # rows of the tables that transformers makes; ours have no end
_ATTENTION = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
_NORMS = {
    "attn_norm": "self_attn_layer_norm",
    "cross_norm": "encoder_attn_layer_norm",
    "mlp_norm": "final_layer_norm",
}
TIED = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
    "lm_head.weight": "shared.weight",
}
SKIPPED = (
    (r"(encoder|decoder)\.embed_positions\.weight", "sines and cosines, which are computed"),
)


class Json(hf_json.Model, kw_only=True):
    """Keys of `config.json`, with the library's defaults."""

    vocab_size: hf_json.Size = 58_101
    decoder_vocab_size: hf_json.Size | None = None
    d_model: hf_json.Size = 1024
    encoder_layers: hf_json.Size = 12
    decoder_layers: hf_json.Size = 12
    encoder_attention_heads: hf_json.Size = 16
    decoder_attention_heads: hf_json.Size = 16
    encoder_ffn_dim: hf_json.Size = 4096
    decoder_ffn_dim: hf_json.Size = 4096
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    max_position_embeddings: hf_json.Size = 1024
    scale_embedding: bool = False
    share_encoder_decoder_embeddings: bool = True
    is_encoder_decoder: bool = True
    decoder_start_token_id: int = 58_100
    pad_token_id: int | None = 58_100
    eos_token_id: int | None = END
    forced_eos_token_id: int | None = END


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own: those of a MarianModel by itself."""
    return {own.removeprefix("model."): own for own in names}


def publish(name: str, cfg: TransformerConfig) -> str:
    """The name under which transformers saves an array of the table."""
    return name if name == "final_logits_bias" else f"model.{name}"


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> TransformerConfig:
    """The model of a `config.json`.

    Raises:
      UserError: a setting that Zoo's encoder-decoder does not have.
    """
    json = hf_json.read(tree, Json, path)
    wanted = {
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "share_encoder_decoder_embeddings": True,
        "decoder_vocab_size": json.vocab_size,
        "decoder_attention_heads": json.encoder_attention_heads,
        "decoder_ffn_dim": json.encoder_ffn_dim,
    }
    hf_json.insist(path, {"decoder_vocab_size": json.vocab_size, **hf_json.write(json)}, wanted)
    return TransformerConfig(
        width=json.d_model,
        depth=json.encoder_layers,
        decoder_depth=json.decoder_layers,
        mlp_dim=json.encoder_ffn_dim,
        num_heads=json.encoder_attention_heads,
        vocab_size=json.vocab_size,
        position="sinusoidal_marian",
        norm="layer",
        norm_order="post",
        norm_epsilon=_EPSILON,
        activation=hf_json.read_activation(json.activation_function, path),
        attention_bias=True,
        mlp_bias=True,
        embed_scale=json.scale_embedding,
        logits_bias=True,
        start_token=json.decoder_start_token_id,
        dropout=json.dropout,
        attention_dropout=json.attention_dropout,
        mlp_dropout=json.activation_dropout,
    )


def layout(cfg: TransformerConfig) -> Layout:
    """The table of a model."""
    rows: list[Row] = [
        *same("token_embed/table", "shared.weight"),
        Row(("logits_bias",), "final_logits_bias", BATCHED),
    ]
    for stack in ("encoder", "decoder"):
        blocks, layer = f"{stack}/blocks", f"{stack}.layers.{{}}"
        for ours, theirs in (("attn", "self_attn"), ("cross_attn", "encoder_attn")):
            for part, name in _ATTENTION.items():
                rows += linear(f"{blocks}/{ours}/{part}", f"{layer}.{theirs}.{name}")
        for ours, theirs in _NORMS.items():
            rows += norm(f"{blocks}/{ours}", f"{layer}.{theirs}")
        rows += linear(f"{blocks}/mlp/up", f"{layer}.fc1")
        rows += linear(f"{blocks}/mlp/down", f"{layer}.fc2")
    return Layout("Hugging Face's MarianMT", tuple(rows), TIED, SKIPPED)


def write_config(cfg: TransformerConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    assert cfg.vocab_size is not None
    start = cfg.start_token or 0
    json = Json(
        model_type=MODEL_TYPE,
        architectures=["MarianMTModel"],
        vocab_size=cfg.vocab_size,
        decoder_vocab_size=cfg.vocab_size,
        d_model=cfg.width,
        encoder_layers=cfg.depth,
        decoder_layers=cfg.decoder_depth,
        encoder_attention_heads=cfg.num_heads,
        decoder_attention_heads=cfg.num_heads,
        encoder_ffn_dim=cfg.mlp_dim,
        decoder_ffn_dim=cfg.mlp_dim,
        activation_function=hf_json.write_activation(cfg.activation),
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        activation_dropout=cfg.mlp_dropout,
        max_position_embeddings=_POSITIONS,
        scale_embedding=cfg.embed_scale,
        decoder_start_token_id=start,
        pad_token_id=start,
    )
    return hf_json.write(json)


def write_generation(cfg: TransformerConfig) -> dict[str, Any]:
    """The `generation_config.json` with which transformers never says the token of the start."""
    start = cfg.start_token or 0
    told = {"decoder_start_token_id": start, "pad_token_id": start, "bad_words_ids": [[start]]}
    return told | {"eos_token_id": END, "forced_eos_token_id": END, "max_length": _POSITIONS}
