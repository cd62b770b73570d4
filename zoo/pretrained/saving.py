"""Writes a model as others read it: a directory that appears whole or not at all."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from zoo.config import UserError
from zoo.config.bert import BertConfig
from zoo.config.data import ImageData
from zoo.config.decoder import DecoderConfig
from zoo.config.load import to_dict
from zoo.config.schema import Config
from zoo.config.sizes import num_params
from zoo.config.transformer import TransformerConfig
from zoo.config.vit import ViTConfig
from zoo.data.text.tokenizers import Tokenizer
from zoo.models.positions import sincos2d
from zoo.pretrained import (
    hf_bert,
    hf_deit,
    hf_dinov2,
    hf_distilbert,
    hf_gpt2,
    hf_llama,
    hf_marian,
    hf_roberta,
    hf_t5,
    hf_vit,
    images,
    native,
    npz_vit,
    timm_vit,
)
from zoo.pretrained.files import write_npz, write_safetensors
from zoo.pretrained.mapped import Shapes, export, specs_of, their_shapes
from zoo.pretrained.opening import SETTINGS
from zoo.pretrained.shards import SIZE, parse_size, write_sharded

Format = Literal["hf", "timm", "npz", "zoo"]
DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
_FORMATS: dict[str, dict[type, tuple[Any, ...]]] = {
    "hf": {
        BertConfig: (hf_roberta, hf_distilbert, hf_bert),
        DecoderConfig: (hf_gpt2, hf_llama),
        TransformerConfig: (hf_t5, hf_marian),
        ViTConfig: (hf_vit, hf_deit, hf_dinov2),
    },
    "timm": {ViTConfig: (timm_vit,)},
    "npz": {ViTConfig: (npz_vit,)},
}


@dataclass(frozen=True)
class Model:
    """What there is to write."""

    config: Config
    classes: tuple[str, ...]
    tokenizer: Tokenizer | None
    shapes: Shapes  # of the parameters
    read: Callable[[str, int | None], np.ndarray]  # (path, layer) -> a parameter
    step: int = 0
    metrics: dict[str, float | int] = field(default_factory=dict)


def save(
    model: Model,
    out: Path,
    format: Format,
    dtype: str = "float32",
    *,
    shard_size: int | None = None,
) -> list[Path]:
    """Writes a directory, and returns its files.

    Args:
      out: does not exist yet, or is empty.
      dtype: of the arrays, of DTYPES.
      shard_size: bytes of a file of Hugging Face's at most; default shards.SIZE.

    Raises:
      UserError: `out` holds something; a shard size for one file; the format has no such model;
        the disk is full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: give another --to, or remove it")
    if shard_size is not None and format != "hf":
        raise UserError(f"--format {format} is one file: leave --shard-size out, or write hf")
    if format == "npz" and dtype != "float32":
        raise UserError(f"--format npz is written in float32: leave --dtype {dtype} out")
    limit = parse_size(SIZE) if shard_size is None else shard_size
    if format not in ("zoo", "npz"):  # npz's own code computes positions
        model = _with_learned_positions(model)
    module = None if format == "zoo" else _choose(model, format, out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
            work = Path(temporary) / "made"
            work.mkdir()
            if module is None:
                _native(model, work, DTYPES[dtype])
            else:
                _foreign(model, module, work, format, DTYPES[dtype], limit)
            if out.exists():
                out.rmdir()
            work.rename(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    return sorted(one for one in out.rglob("*") if one.is_file())


def _native(model: Model, out: Path, dtype: np.dtype) -> None:
    arrays, make = export(native.layout(model.shapes), model.shapes, model.read)
    told = native.write_metadata(model.classes, model.step, model.metrics)
    write_safetensors(out / native.WEIGHTS, specs_of(arrays, dtype), make, told)
    _write_json(out / "config.json", to_dict(model.config))
    if model.tokenizer is not None:
        model.tokenizer.save(out / native.TOKENIZER)


def _foreign(
    model: Model, module: Any, out: Path, format: str, dtype: np.dtype, limit: int
) -> None:
    cfg = model.config.model
    arrays, make = export(module.layout(cfg), model.shapes, model.read)
    own = {module.publish(name, cfg): name for name in arrays}
    specs = specs_of({new: arrays[name] for new, name in own.items()}, dtype)
    if format == "npz":
        write_npz(out / "model.npz", specs, lambda new: make(own[new]))
        return
    if format == "timm":
        write_safetensors(out / "model.safetensors", specs, lambda new: make(own[new]), {})
    else:  # without the metadata, transformers refuses a file
        write_sharded(out, specs, lambda new: make(own[new]), {"format": "pt"}, limit)
    tree = module.write_config(cfg, model.classes)
    data = model.config.data
    if isinstance(cfg, ViTConfig) and isinstance(data, ImageData):
        if format == "timm":
            tree["pretrained_cfg"] = images.write_timm(data, cfg)
        else:
            _write_json(out / images.PROCESSOR, images.write_processor(data, cfg))
    if module is hf_marian and isinstance(cfg, TransformerConfig):
        _write_json(out / "generation_config.json", hf_marian.write_generation(cfg))
    _write_json(out / "config.json", tree if format == "timm" else {**tree, "dtype": dtype.name})
    if model.tokenizer is not None:
        model.tokenizer.publish(out)


def _with_learned_positions(model: Model) -> Model:
    """A ViT that computes its positions, as one that has learnt them: the same logits."""
    cfg = model.config.model
    if not isinstance(cfg, ViTConfig) or cfg.position != "sincos2d":
        return model
    learned = cfg.replace(position="learned", cls_position=True)
    table = sincos2d(cfg.grid, cfg.width)  # none for a cls token: then 0
    table = np.pad(table, ((learned.num_positions - len(table), 0), (0, 0)))

    def read(path: str, layer: int | None) -> np.ndarray:
        return table if path == "pos_embed" else model.read(path, layer)

    return replace(
        model,
        config=model.config.replace(model=learned),
        shapes={**model.shapes, "pos_embed": table.shape},
        read=read,
    )


def _choose(model: Model, format: str, out: Path) -> Any:
    """The first format of its kind that says all of a config: reading it back gives the same."""
    cfg = model.config.model
    family = cfg.__struct_config__.tag
    reasons = []
    for module in _FORMATS[format].get(type(cfg), ()):
        padding = None if model.tokenizer is None else model.tokenizer.pad
        if module is hf_roberta and padding != hf_roberta.PAD:
            continue  # it finds its positions by that number
        if module is hf_marian and model.tokenizer and model.tokenizer.eos != hf_marian.END:
            reasons.append(f"MarianMT ends a text by token {hf_marian.END}")
            continue
        table = module.layout(cfg)
        try:
            specs = specs_of(their_shapes(table, model.shapes), DTYPES["float32"])
            back = module.read_config(module.write_config(cfg, model.classes), specs, out)
        except UserError as error:
            reasons.append(str(error))
            continue
        odd = _differing(back, cfg)
        if odd:
            reasons.append(
                f"{table.name} has {odd[0]} {getattr(back, odd[0])}, not {getattr(cfg, odd[0])}"
            )
        elif num_params(model.config.replace(model=back)) != num_params(model.config):
            reasons.append(f"{table.name} has other parameters for its settings")
        else:
            return module
    what = "; ".join(reasons) or f"there is no model of family {family!r} in it"
    raise UserError(f"--format {format} cannot hold this model: {what}")


def _differing(back: Any, cfg: Any) -> list[str]:
    """The settings in which what a format says of a model is another than the model's own."""
    keys: list[str] = [*SETTINGS]
    if isinstance(cfg, BertConfig) and not cfg.has_pooler:  # then nothing reads it
        keys.remove("pooler_activation")
    if isinstance(cfg, ViTConfig) and cfg.grid != cfg.patches:
        keys.append("position_resize")
    return [key for key in keys if getattr(back, key, None) != getattr(cfg, key, None)]


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree, indent=2) + "\n")
