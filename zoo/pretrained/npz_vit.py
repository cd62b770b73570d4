"""ViTs of the TPU codebases: vision_transformer and AugReg, and big_vision, as flat `.npz`.

Both were Flax models: kernels are [in, out], attention's [in, heads, size]. Numbers in names count
modules as they were made: vision_transformer's by an older rule than big_vision's.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from zoo.config import UserError
from zoo.config.vit import ViTConfig
from zoo.pretrained.files import Spec
from zoo.pretrained.table import BATCHED, Layout, Row, Shape, Way, same

# Trees that the parameters may be a part of, in this order.
PREFIXES = ("opt/target/", "params/img/", "params/", "img/")
_BLOCK = "Transformer/encoderblock_{}"
_ATTENTION = "MultiHeadDotProductAttention_0"
# vision_transformer's name of a block's child -> big_vision's, which the table has.
_OLD_NAMES = {
    "LayerNorm_2/": "LayerNorm_1/",
    "MultiHeadDotProductAttention_1/": f"{_ATTENTION}/",
    "MlpBlock_3/": "MlpBlock_0/",
    "Transformer/posembed_input/pos_embedding": "pos_embedding",
}
_OTHERS = r"(?:opt/|params/(?:txt|t|b)\b|txt/|t$|b$).*"


def is_vit(names: Iterable[str]) -> bool:
    """Whether arrays are named as a ViT of these codebases, below whatever prefix."""
    return any(name.endswith("embedding/kernel") for name in names)


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own; other trees in the file keep theirs."""
    names = list(names)
    tops = [p for p in PREFIXES if f"{p}embedding/kernel" in names]
    prefix = tops[0] if tops else ""
    found = {}
    for own in names:
        name = own
        if own.startswith(prefix):
            name = own.removeprefix(prefix)
            for old, new in _OLD_NAMES.items():
                inside = name.startswith("Transformer/")
                name = name.replace(old, new) if inside else name
        found[name] = own
    return found


def read_config(tree: dict[str, Any], specs: Mapping[str, Spec], path: Path) -> ViTConfig:
    """The model of a file, by the table's names; there is no config, `tree` is empty.

    Raises:
      UserError: a hybrid with a ResNet, or arrays that no ViT has.
    """
    shape = {name: spec.shape for name, spec in specs.items()}
    if any(name.startswith(("conv_root", "block1/")) for name in shape):
        raise UserError(f"{path} is a ResNet with a ViT on top of it, which Zoo has no model for")
    try:
        rows, cols, channels, width = shape["embedding/kernel"]
        scanned = "Transformer/encoderblock/LayerNorm_0/scale" in shape
        block = "Transformer/encoderblock" if scanned else _BLOCK.format(0)
        num_heads = shape[f"{block}/{_ATTENTION}/query/kernel"][-2]
        mlp_dim = shape[f"{block}/MlpBlock_0/Dense_0/kernel"][-1]
        if scanned:
            depth = shape[f"{block}/LayerNorm_0/scale"][0]
        else:
            found = (re.match(r"Transformer/encoderblock_(\d+)/", name) for name in shape)
            depth = 1 + max(int(match[1]) for match in found if match)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"{path} is no ViT: {error} is missing or odd") from error
    if rows != cols:
        raise UserError(f"{path} has patches of {rows} x {cols} pixels: only squares are read")
    has_cls, pooled = "cls" in shape, "MAPHead_0/probe" in shape
    positions = shape.get("pos_embedding", (1, 0, 0))[1]
    side = math.isqrt(positions)  # a cls token is lost in rounding
    if positions not in (0, side**2, side**2 + 1):
        raise UserError(f"{path} has {positions} positions, which are no square of patches")
    return ViTConfig(
        width=width,
        depth=depth,
        mlp_dim=mlp_dim,
        num_heads=num_heads,
        patch_size=rows,
        num_classes=shape.get("head/kernel", (0, 0))[1],
        image_size=(side or 224 // rows) * rows,
        channels=channels,
        position="learned" if positions else "sincos2d",
        position_resize="bilinear_align_corners",
        pool="map" if pooled else "cls" if has_cls else "gap",
        cls_position=not has_cls or positions == side**2 + 1,
        representation="pre_logits/kernel" in shape,
    )


def publish(name: str, cfg: ViTConfig) -> str:
    """The name of an array of the table where it is saved: vision_transformer's for its models.

    Those are the ones whose cls token has a position.
    """
    if cfg.pool != "cls" or not cfg.cls_position or cfg.position != "learned":
        return name
    for old, new in _OLD_NAMES.items():
        name = name.replace(new, old)
    return name


def layout(cfg: ViTConfig, specs: Mapping[str, Spec] = MappingProxyType({})) -> Layout:
    """The table of a file, with a name for each layer or one for all, as its `specs` have it."""
    scanned = "Transformer/encoderblock/LayerNorm_0/scale" in specs
    block = "Transformer/encoderblock" if scanned else _BLOCK
    rows = (
        Row(("patch_embed/kernel",), "embedding/kernel", _patches(cfg.patch_size)),
        *same("patch_embed/bias", "embedding/bias"),
        Row(("cls",), "cls", BATCHED),
        Row(("pos_embed",), "pos_embedding", BATCHED),
        *_norm("blocks/attn_norm", f"{block}/LayerNorm_0"),
        *_attention("blocks/attn", f"{block}/{_ATTENTION}", cfg.num_heads),
        *_norm("blocks/mlp_norm", f"{block}/LayerNorm_1"),
        *_dense("blocks/mlp/up", f"{block}/MlpBlock_0/Dense_0"),
        *_dense("blocks/mlp/down", f"{block}/MlpBlock_0/Dense_1"),
        *_norm("norm", "Transformer/encoder_norm"),
        Row(("pool/probe",), "MAPHead_0/probe", BATCHED),
        *_attention("pool/attn", f"MAPHead_0/{_ATTENTION}", cfg.num_heads),
        *_norm("pool/norm", "MAPHead_0/LayerNorm_0"),
        *_dense("pool/mlp/up", "MAPHead_0/MlpBlock_0/Dense_0"),
        *_dense("pool/mlp/down", "MAPHead_0/MlpBlock_0/Dense_1"),
        *_dense("representation", "pre_logits"),
        *_dense("head", "head"),
    )
    skipped = ((_OTHERS, "another part of what the file holds: an optimizer, a tower of text"),)
    return Layout("vision_transformer and big_vision", rows, {}, skipped)


def _dense(ours: str, theirs: str) -> tuple[Row, ...]:
    return same(f"{ours}/kernel", f"{theirs}/kernel") + same(f"{ours}/bias", f"{theirs}/bias")


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return same(f"{ours}/scale", f"{theirs}/scale") + same(f"{ours}/bias", f"{theirs}/bias")


def _attention(ours: str, theirs: str, num_heads: int) -> tuple[Row, ...]:
    """Kernels and biases with an axis of heads, where ours have heads and their size as one."""
    into = Way(lambda x: x.reshape(*x.shape[:-1], num_heads, -1), _reshape)
    out = Way(lambda x: x.reshape(num_heads, -1, x.shape[-1]), _reshape)
    rows: list[Row] = []
    for name, own in (("q", "query"), ("k", "key"), ("v", "value")):
        rows.append(Row((f"{ours}/{name}/kernel",), f"{theirs}/{own}/kernel", into))
        rows.append(Row((f"{ours}/{name}/bias",), f"{theirs}/{own}/bias", into))
    rows.append(Row((f"{ours}/out/kernel",), f"{theirs}/out/kernel", out))
    return (*rows, *same(f"{ours}/out/bias", f"{theirs}/out/bias"))


def _patches(patch_size: int) -> Way:
    """A convolution's kernel [rows, cols, channels, out], as its pixels lie in ours."""
    return Way(lambda x: x.reshape(patch_size, patch_size, -1, x.shape[-1]), _reshape)


def _reshape(x: np.ndarray, shape: Shape) -> np.ndarray:
    return x.reshape(shape)


def write_config(cfg: ViTConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """Nothing: the arrays say all that such a file says."""
    return {}
