"""`zoo list`: what there is, known without importing jax."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.config import bert, decoder, transformer, vit
from zoo.config.load import CONFIG_DIR
from zoo.data.catalog import DATASETS

# The patch sizes that a size is published with; 16 where it is not named here.
_PATCHES = {
    "S": (32, 16),
    "B": (32, 16, 8),
    "L": (32, 16, 14),
    "So400m": (14,),
    "H": (14,),
    "g": (14,),
    "G": (14,),
    "e": (14,),
}


def catalog(what: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Models, configs and datasets, or one of the three."""
    makers = {"models": models, "configs": configs, "datasets": datasets}
    return {name: make() for name, make in makers.items() if what in (None, name)}


def models() -> list[dict[str, Any]]:
    """Each size of each family: ViT at 224 and 1,000 classes, text at its published vocabulary."""
    return [*_vits(), *_berts(), *_decoders(), *_transformers()]


def _vits() -> Iterator[dict[str, Any]]:
    names = [f"{size}/{patch}" for size in vit.SIZES for patch in _PATCHES.get(size, (16,))]
    for name in names:
        cfg = vit.ViTConfig(size=name, num_classes=1000, image_size=224, channels=3)
        yield _model(f"vit {name}", cfg, vit.num_params(cfg), vit.macs(cfg), "224 pixels")


def _berts() -> Iterator[dict[str, Any]]:
    for name in bert.SIZES:
        cfg = bert.BertConfig(size=name, vocab_size=30_522)
        yield _model(
            f"bert {name}", cfg, bert.num_params(cfg), bert.macs(cfg, 128, 20), "128 tokens"
        )


def _decoders() -> Iterator[dict[str, Any]]:
    for name in decoder.SIZES:
        vocab_size = decoder.VOCABULARIES[name.partition("-")[0]]
        cfg = decoder.DecoderConfig(size=name, vocab_size=vocab_size)
        yield _model(
            f"decoder {name}", cfg, decoder.num_params(cfg), decoder.macs(cfg, 1024), "1,024 tokens"
        )


def _transformers() -> Iterator[dict[str, Any]]:
    for name in transformer.SIZES:
        vocab_size = 32_128 if name.startswith("t5") else 37_000
        cfg = transformer.TransformerConfig(size=name, vocab_size=vocab_size)
        macs = transformer.macs(cfg, 128, 128)
        yield _model(
            f"transformer {name}", cfg, transformer.num_params(cfg), macs, "128 + 128 tokens"
        )


def _model(name: str, cfg: Any, num_params: int, macs: int, row: str) -> dict[str, Any]:
    about = f"width {cfg.width}, depth {cfg.depth}, {cfg.num_heads} heads; work at {row}"
    gmacs = round(macs / 1e9, 3)
    return {"name": name, "num_params": num_params, "gmacs": gmacs, "about": about}


def configs() -> list[dict[str, Any]]:
    """Each file of `configs/` with the first line of its docstring; no file is run."""
    return [
        {"name": path.stem, "about": _first_line(path)} for path in sorted(CONFIG_DIR.glob("*.py"))
    ]


def datasets() -> list[dict[str, Any]]:
    """Each dataset with what it is."""
    return [
        {"name": name, "about": info.summary, **info._asdict()} for name, info in DATASETS.items()
    ]


def tables(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The catalog as lines of text."""
    lines = []
    for title, rows in found.items():
        lines += ["", title]
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            size = f"{row['num_params']:>13,}  " if "num_params" in row else ""
            work = f"{row['gmacs']:>9.3f} GMAC  " if "gmacs" in row else ""
            lines.append(f"  {row['name']:<{width}}  {size}{work}{row['about']}")
    return lines[1:]


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.split("\n")[0]
