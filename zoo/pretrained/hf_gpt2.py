"""Hugging Face's GPT-2, as on its hub (no prefix) and as transformers saves it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.config.decoder import DecoderConfig
from zoo.pretrained import hf_json
from zoo.pretrained.table import Layout, Row, norm, same

MODEL_TYPE = "gpt2"


def _conv1d(ours: tuple[str, ...], theirs: str) -> tuple[Row, ...]:
    """OpenAI's Conv1D stores [in, out], as we do."""
    return (
        Row(tuple(f"{one}/kernel" for one in ours), f"{theirs}.weight", axis=-1),
        Row(tuple(f"{one}/bias" for one in ours), f"{theirs}.bias"),
    )


ROWS = (
    *same("token_embed/table", "wte.weight"),
    *same("pos_embed", "wpe.weight"),
    *norm("blocks/attn_norm", "h.{}.ln_1"),
    *_conv1d(("blocks/attn/q", "blocks/attn/k", "blocks/attn/v"), "h.{}.attn.c_attn"),
    *_conv1d(("blocks/attn/out",), "h.{}.attn.c_proj"),
    *norm("blocks/mlp_norm", "h.{}.ln_2"),
    *_conv1d(("blocks/mlp/up",), "h.{}.mlp.c_fc"),
    *_conv1d(("blocks/mlp/down",), "h.{}.mlp.c_proj"),
    *norm("norm", "ln_f"),
)
TIED = {"lm_head.weight": "wte.weight"}
SKIPPED = ((r"h\.\d+\.attn\.(bias|masked_bias)", "a constant: the causal mask"),)


class Json(hf_json.Model, kw_only=True):
    """Keys of `config.json`, with the library's defaults."""

    vocab_size: hf_json.Size = 50_257
    n_positions: hf_json.Size = 1024
    n_embd: hf_json.Size = 768
    n_layer: hf_json.Size = 12
    n_head: hf_json.Size = 12
    n_inner: hf_json.Size | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: bool = False


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own."""
    return {own.removeprefix("transformer."): own for own in names}


def publish(name: str, cfg: DecoderConfig) -> str:
    """The name under which transformers saves an array of the table."""
    return f"transformer.{name}"


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> DecoderConfig:
    """The model of a `config.json`.

    Raises:
      UserError: a setting that Zoo's decoder does not have.
    """
    json = hf_json.read(tree, Json, path)
    hf_json.insist(
        path,
        hf_json.write(json),
        {
            "tie_word_embeddings": True,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False,
        },
    )
    return DecoderConfig(
        width=json.n_embd,
        depth=json.n_layer,
        mlp_dim=json.n_inner or 4 * json.n_embd,
        num_heads=json.n_head,
        vocab_size=json.vocab_size,
        max_length=json.n_positions,
        position="learned",
        norm="layer",
        norm_epsilon=json.layer_norm_epsilon,
        activation=hf_json.read_activation(json.activation_function, path),
        gated=False,
        attention_bias=True,
        mlp_bias=True,
    )


def layout(cfg: DecoderConfig) -> Layout:
    """The table."""
    return Layout("Hugging Face's GPT-2", ROWS, TIED, SKIPPED)


def write_config(cfg: DecoderConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    assert cfg.vocab_size is not None
    assert cfg.max_length is not None
    return hf_json.write(
        Json(
            model_type=MODEL_TYPE,
            architectures=["GPT2LMHeadModel"],
            vocab_size=cfg.vocab_size,
            n_positions=cfg.max_length,
            n_embd=cfg.width,
            n_layer=cfg.depth,
            n_head=cfg.num_heads,
            n_inner=cfg.mlp_dim,
            activation_function=hf_json.write_activation(cfg.activation),
            layer_norm_epsilon=cfg.norm_epsilon,
        )
    )
