"""Hugging Face's ViT, and the DeiTs without a distillation token, which are stored as ViTs.

Files have the names of transformers 4; version 5 has others in memory, and both are read.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.config.vit import ViTConfig
from zoo.pretrained import hf_json
from zoo.pretrained.table import BATCHED, Layout, Row, linear, norm, patches

MODEL_TYPE = "vit"
_LAYER = "encoder.layer.{}"
_POOLER = "pooler.dense"
SKIPPED = ((r"pooler\.dense\..*", "no head of this model reads the pooler"),)
# transformers 5, in memory -> in files.
_NEW_NAMES = (
    (r"^layers\.", "encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


class Json(hf_json.Model, kw_only=True):
    """Keys of `config.json`, with the library's defaults."""

    hidden_size: hf_json.Size = 768
    num_hidden_layers: hf_json.Size = 12
    num_attention_heads: hf_json.Size = 12
    intermediate_size: hf_json.Size = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-12
    # No Size on its own: a union of one and a pair makes msgspec 0.22 crash.
    image_size: int | tuple[hf_json.Size, hf_json.Size] = 224
    patch_size: hf_json.Size = 16
    num_channels: hf_json.Size = 3
    qkv_bias: bool = True
    pooler_act: str | None = "tanh"
    pooler_output_size: hf_json.Size | None = None


def spell(names: Iterable[str], prefix: str = "vit.") -> dict[str, str]:
    """The table's name of each array -> the file's own: those of a ViTModel by itself."""
    found = {}
    for own in names:
        name = own.removeprefix(prefix)
        for pattern, old in _NEW_NAMES:
            name = re.sub(pattern, old, name)
        found[name] = own
    return found


def publish(name: str, cfg: ViTConfig) -> str:
    """The name under which transformers saves an array of the table."""
    return name if name.startswith("classifier.") or not cfg.num_classes else f"vit.{name}"


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> ViTConfig:
    """The model of a `config.json`; whether it has classes, `names` say, as in the table.

    Raises:
      UserError: a setting that Zoo's ViT does not have.
    """
    json = hf_json.read(tree, Json, path)
    names = set(names)
    has_classes = "classifier.weight" in names
    pooled = not has_classes and f"{_POOLER}.weight" in names
    if pooled:
        hf_json.insist(path, {"pooler_act": json.pooler_act}, {"pooler_act": "tanh"})
    model = make_config(json, path, num_classes=len(json.classes) if has_classes else 0)
    return model.replace(representation=pooled)


def make_config(json: Json, path: Path, *, num_classes: int) -> ViTConfig:
    """The model of a family's settings."""
    hf_json.insist(path, hf_json.write(json), {"qkv_bias": True})
    return ViTConfig(
        width=json.hidden_size,
        depth=json.num_hidden_layers,
        mlp_dim=json.intermediate_size,
        num_heads=json.num_attention_heads,
        patch_size=json.patch_size,
        num_classes=num_classes,
        image_size=json.image_size,
        channels=json.num_channels,
        position_resize="bicubic",
        dropout=json.hidden_dropout_prob,
        attention_dropout=json.attention_probs_dropout_prob,
        gelu=hf_json.read_gelu(json.hidden_act, path),
        norm_epsilon=json.layer_norm_eps,
    )


def layout(cfg: ViTConfig) -> Layout:
    """The table of a model."""
    rows = (*body(cfg), *linear("representation", _POOLER), *linear("head", "classifier"))
    return Layout("Hugging Face's ViT", rows, {}, SKIPPED)


def body(cfg: ViTConfig) -> tuple[Row, ...]:
    """What stands before the heads."""
    return (
        *patches("patch_embed", "embeddings.patch_embeddings.projection", cfg.patch_size),
        Row(("cls",), "embeddings.cls_token", BATCHED),
        Row(("pos_embed",), "embeddings.position_embeddings", BATCHED),
        *norm("blocks/attn_norm", f"{_LAYER}.layernorm_before"),
        *linear("blocks/attn/q", f"{_LAYER}.attention.attention.query"),
        *linear("blocks/attn/k", f"{_LAYER}.attention.attention.key"),
        *linear("blocks/attn/v", f"{_LAYER}.attention.attention.value"),
        *linear("blocks/attn/out", f"{_LAYER}.attention.output.dense"),
        *norm("blocks/mlp_norm", f"{_LAYER}.layernorm_after"),
        *linear("blocks/mlp/up", f"{_LAYER}.intermediate.dense"),
        *linear("blocks/mlp/down", f"{_LAYER}.output.dense"),
        *norm("norm", "layernorm"),
    )


def write_config(cfg: ViTConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    assert cfg.image_size is not None
    assert cfg.channels is not None
    json = Json(
        model_type=MODEL_TYPE,
        architectures=["ViTForImageClassification" if cfg.num_classes else "ViTModel"],
        hidden_size=cfg.width,
        num_hidden_layers=cfg.depth,
        num_attention_heads=cfg.num_heads,
        intermediate_size=cfg.mlp_dim,
        hidden_act=hf_json.write_activation(f"gelu_{cfg.gelu}"),
        hidden_dropout_prob=cfg.dropout,
        attention_probs_dropout_prob=cfg.attention_dropout,
        layer_norm_eps=cfg.norm_epsilon,
        image_size=cfg.image_size,
        patch_size=cfg.patch_size,
        num_channels=cfg.channels,
    )
    names = hf_json.names_or_numbers(classes, cfg.num_classes or 0)
    return hf_json.write(json) | (hf_json.labels(names) if names else {})
