"""Hugging Face's DINOv2 (arXiv 2304.07193), with and without registers (arXiv 2309.16588).

Their classifiers see the cls token and the mean of the patches; without a classifier the cls token
comes out. Positions are those of larger images than the preprocessor makes, and interpolated.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.config import UserError
from zoo.config.vit import ViTConfig
from zoo.pretrained import hf_json
from zoo.pretrained.table import BATCHED, Layout, Row, linear, norm, patches, same

PLAIN, WITH_REGISTERS = "dinov2", "dinov2_with_registers"
MODEL_TYPES = (PLAIN, WITH_REGISTERS)
_LAYER = "encoder.layer.{}"
_MASK = "embeddings.mask_token"
SKIPPED = ((r"embeddings\.mask_token", "stands for patches that are hidden in pre-training"),)


class Json(hf_json.Model, kw_only=True):
    """Keys of `config.json`, with the library's defaults."""

    hidden_size: hf_json.Size = 768
    num_hidden_layers: hf_json.Size = 12
    num_attention_heads: hf_json.Size = 12
    mlp_ratio: hf_json.Size = 4
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    drop_path_rate: float = 0.0
    layer_norm_eps: float = 1e-6
    layerscale_value: float = 1.0
    # No Size on its own: a union of one and a pair makes msgspec 0.22 crash.
    image_size: int | tuple[hf_json.Size, hf_json.Size] = 224
    patch_size: hf_json.Size | None = None  # 14, with registers 16
    num_channels: hf_json.Size = 3
    num_register_tokens: int = 4  # read with registers alone
    qkv_bias: bool = True
    use_swiglu_ffn: bool = False


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own: those of a Dinov2Model by itself."""
    return {own.removeprefix(f"{WITH_REGISTERS}.").removeprefix(f"{PLAIN}."): own for own in names}


def publish(name: str, cfg: ViTConfig) -> str:
    """The name under which transformers saves an array of the table."""
    inside = cfg.num_classes and not name.startswith("classifier.")
    return f"{_model_type(cfg)}.{name}" if inside else name


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> ViTConfig:
    """The model of a `config.json`; whether it has classes, `names` say, as in the table.

    Raises:
      UserError: a setting that Zoo's ViT does not have, such as a gated MLP.
    """
    json = hf_json.read(tree, Json, path)
    hf_json.insist(path, hf_json.write(json), {"qkv_bias": True, "use_swiglu_ffn": False})
    has_classes = "classifier.weight" in set(names)
    registers = json.model_type == WITH_REGISTERS
    return ViTConfig(
        width=json.hidden_size,
        depth=json.num_hidden_layers,
        mlp_dim=json.hidden_size * json.mlp_ratio,
        num_heads=json.num_attention_heads,
        patch_size=json.patch_size or (16 if registers else 14),
        num_classes=len(json.classes) if has_classes else 0,
        image_size=json.image_size,
        channels=json.num_channels,
        position_resize="bicubic_antialias" if registers else "bicubic",
        pool="cls_gap" if has_classes else "cls",
        num_registers=json.num_register_tokens if registers else 0,
        layer_scale=json.layerscale_value,
        dropout=json.hidden_dropout_prob,
        attention_dropout=json.attention_probs_dropout_prob,
        drop_path=json.drop_path_rate,
        drop_path_growth="uniform",
        gelu=hf_json.read_gelu(json.hidden_act, path),
        norm_epsilon=json.layer_norm_eps,
    )


def resize(cfg: ViTConfig, size: tuple[int, int] | None) -> ViTConfig:
    """The model for images of another size, its table of positions as it is.

    Args:
      size: rows and columns that the preprocessor makes; None: those of the positions.
    """
    if size is None or size == cfg.image_size or size == (cfg.image_size, cfg.image_size):
        return cfg
    side = size[0] if size[0] == size[1] else size
    return cfg.replace(image_size=side, position_grid=cfg.grid)


def layout(cfg: ViTConfig) -> Layout:
    """The table of a model."""
    rows = (
        *patches("patch_embed", "embeddings.patch_embeddings.projection", cfg.patch_size),
        Row(("cls",), "embeddings.cls_token", BATCHED),
        Row(("registers",), "embeddings.register_tokens", BATCHED),
        Row(("pos_embed",), "embeddings.position_embeddings", BATCHED),
        *norm("blocks/attn_norm", f"{_LAYER}.norm1"),
        *linear("blocks/attn/q", f"{_LAYER}.attention.attention.query"),
        *linear("blocks/attn/k", f"{_LAYER}.attention.attention.key"),
        *linear("blocks/attn/v", f"{_LAYER}.attention.attention.value"),
        *linear("blocks/attn/out", f"{_LAYER}.attention.output.dense"),
        *same("blocks/attn_scale", f"{_LAYER}.layer_scale1.lambda1"),
        *norm("blocks/mlp_norm", f"{_LAYER}.norm2"),
        *linear("blocks/mlp/up", f"{_LAYER}.mlp.fc1"),
        *linear("blocks/mlp/down", f"{_LAYER}.mlp.fc2"),
        *same("blocks/mlp_scale", f"{_LAYER}.layer_scale2.lambda1"),
        *norm("norm", "layernorm"),
        *linear("head", "classifier"),
    )
    return Layout("Hugging Face's DINOv2", rows, {}, SKIPPED, ((_MASK, (1, cfg.width)),))


def write_config(cfg: ViTConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    assert cfg.channels is not None
    if cfg.mlp_dim % cfg.width or not cfg.has_cls:
        raise UserError(
            "Hugging Face's DINOv2 has a cls token, and an mlp_dim that is a multiple of its width"
        )
    kind = "ForImageClassification" if cfg.num_classes else "Model"
    prefix = "Dinov2WithRegisters" if cfg.num_registers else "Dinov2"
    rows, cols = (side * cfg.patch_size for side in cfg.grid)
    json = Json(
        model_type=_model_type(cfg),
        architectures=[prefix + kind],
        hidden_size=cfg.width,
        num_hidden_layers=cfg.depth,
        num_attention_heads=cfg.num_heads,
        mlp_ratio=cfg.mlp_dim // cfg.width,
        hidden_act=hf_json.write_activation(f"gelu_{cfg.gelu}"),
        hidden_dropout_prob=cfg.dropout,
        attention_probs_dropout_prob=cfg.attention_dropout,
        drop_path_rate=cfg.drop_path,
        layer_norm_eps=cfg.norm_epsilon,
        layerscale_value=1.0 if cfg.layer_scale is None else cfg.layer_scale,
        image_size=rows if rows == cols else (rows, cols),
        patch_size=cfg.patch_size,
        num_channels=cfg.channels,
        num_register_tokens=cfg.num_registers,
    )
    names = hf_json.names_or_numbers(classes, cfg.num_classes or 0)
    return hf_json.write(json) | (hf_json.labels(names) if names else {})


def _model_type(cfg: ViTConfig) -> str:
    return WITH_REGISTERS if cfg.num_registers else PLAIN
