"""Hugging Face's distilled DeiT (arXiv 2012.12877): a ViT with a second token and a second head."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.config import UserError
from zoo.config.vit import ViTConfig
from zoo.pretrained import hf_json, hf_vit
from zoo.pretrained.table import BATCHED, Layout, Row, linear

MODEL_TYPE = "deit"
_ARCHITECTURE = "DeiTForImageClassificationWithTeacher"
_HEADS = ("cls_classifier", "distillation_classifier")


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own."""
    return hf_vit.spell(names, "deit.")


def publish(name: str, cfg: ViTConfig) -> str:
    """The name under which transformers saves an array of the table."""
    return name if name.startswith(_HEADS) else f"deit.{name}"


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> ViTConfig:
    """The model of a `config.json`.

    Raises:
      UserError: another head than the two that are averaged; a setting that Zoo's ViT lacks.
    """
    json = hf_json.read(tree, hf_vit.Json, path)
    missing = [head for head in _HEADS if f"{head}.weight" not in set(names)]
    if missing:
        raise UserError(
            f"{path}: of a distilled DeiT only {_ARCHITECTURE} is read, and {missing[0]} is missing"
        )
    return hf_vit.make_config(json, path, num_classes=len(json.classes)).replace(distilled=True)


def layout(cfg: ViTConfig) -> Layout:
    """The table of a model."""
    rows = (
        *hf_vit.body(cfg),
        Row(("dist",), "embeddings.distillation_token", BATCHED),
        *linear("head", _HEADS[0]),
        *linear("dist_head", _HEADS[1]),
    )
    return Layout("Hugging Face's distilled DeiT", rows, {}, ())


def write_config(cfg: ViTConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    tree = hf_vit.write_config(cfg, classes)
    return tree | {"model_type": MODEL_TYPE, "architectures": [_ARCHITECTURE]}
