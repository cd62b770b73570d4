"""timm's VisionTransformer: ViT, DeiT, DeiT-III, AugReg, DINOv2's block, SigLIP's tower.

timm's config names an architecture, of which sizes are not written down: they are read off the
arrays, and heads from the sizes that are known by a name.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from zoo.config import UserError
from zoo.config.vit import SIZES, ViTConfig
from zoo.pretrained import hf_json, images
from zoo.pretrained.files import Spec
from zoo.pretrained.table import BATCHED, Layout, Row, linear, norm, packed, patches, same

_BLOCK = "blocks.{}"
_QKV = ("attn/q", "attn/k", "attn/v")
# Their SigLIP towers that have the tanh form of GELU; what else there is has the erf form.
_TANH = re.compile(
    r"vit_(base_patch32|so400m_patch16|giantopt_patch16)_siglip.*|vit_large_patch16_siglip.*512"
)


class Args(msgspec.Struct, kw_only=True):
    """What is read of `model_args`."""

    # No Size on its own: a union of one and a pair makes msgspec 0.22 crash.
    img_size: int | tuple[hf_json.Size, hf_json.Size] | None = None
    num_heads: hf_json.Size | None = None
    global_pool: str | None = None
    act_layer: str | None = None


class Json(msgspec.Struct, kw_only=True):
    """Keys of the `config.json` that timm writes for a hub."""

    architecture: str
    num_classes: int | None = None
    num_features: int | None = None
    global_pool: str | None = None
    label_names: list[str] | None = None
    model_args: dict[str, Any] = msgspec.field(default_factory=dict)
    pretrained_cfg: images.TimmCfg = msgspec.field(default_factory=images.TimmCfg)


def is_timm(names: Iterable[str]) -> bool:
    """Whether arrays are named as timm names them."""
    return {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= set(names)


def read_json(tree: dict[str, Any], path: Path) -> Json:
    """What a config says; of a file without one, nothing."""
    return hf_json.read({"architecture": "", **tree}, Json, path)


def read_config(tree: dict[str, Any], specs: Mapping[str, Spec], path: Path) -> ViTConfig:
    """The model of a file, from its arrays and what its config says.

    Raises:
      UserError: a setting that Zoo's ViT does not have, or sizes that no name is known for.
    """
    json = read_json(tree, path)
    args = hf_json.read(json.model_args, Args, path)
    shape = {name: spec.shape for name, spec in specs.items()}
    try:
        width, channels, patch_size, _ = shape["patch_embed.proj.weight"]
        depth = 1 + max(int(m[1]) for m in map(re.compile(r"blocks\.(\d+)\.").match, shape) if m)
        mlp_dim = shape["blocks.0.mlp.fc1.weight"][0]
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is no ViT of timm's: {error} is missing or odd") from error
    gated = shape.get("blocks.0.mlp.fc2.weight", (0, mlp_dim))[1] != mlp_dim
    if gated or "blocks.0.mlp.fc1_g.weight" in shape:
        raise UserError(f"{path}: a gated MLP (SwiGLU) is not read here, as in {json.architecture}")
    has_cls, distilled = "cls_token" in shape, "dist_token" in shape
    if distilled and "reg_token" in shape:
        raise UserError(f"{path}: registers beside a distillation token are not read here")
    registers = shape.get("reg_token", (1, 0, 0))[1]
    positions = shape.get("pos_embed", (1, 0, 0))[1]
    size = _image_size(json, args, positions, patch_size)
    grid = math.prod(side // patch_size for side in size)
    pool = "map" if "attn_pool.latent" in shape else "cls" if has_cls else "gap"
    given = args.global_pool or json.global_pool
    if has_cls and given not in (None, "token"):
        raise UserError(f"{path}: global_pool {given!r} of a model with a cls token is not read")
    act = args.act_layer
    if "quickgelu" in json.architecture or act not in (None, "gelu", "gelu_tanh"):
        raise UserError(f"{path}: the activation of {json.architecture} ({act}) is not read here")
    tanh = act == "gelu_tanh" or (act is None and _TANH.fullmatch(json.architecture))
    return ViTConfig(
        width=width,
        depth=depth,
        mlp_dim=mlp_dim,
        num_heads=args.num_heads or _heads(width, depth, mlp_dim, path),
        patch_size=patch_size,
        num_classes=shape.get("head.weight", (0,))[0],
        image_size=size[0] if size[0] == size[1] else size,
        channels=channels,
        position="learned" if positions else "none",
        position_resize="bicubic_antialias",
        pool=pool,
        cls_position=not has_cls or positions == grid + 1 + distilled,
        distilled=distilled,
        num_registers=registers,
        norm_after_pool="fc_norm.weight" in shape,
        layer_scale=1e-5 if "blocks.0.ls1.gamma" in shape else None,
        qk_norm="blocks.0.attn.q_norm.weight" in shape,
        gelu="tanh" if tanh else "erf",
    )


def layout(cfg: ViTConfig) -> Layout:
    """The table of a model."""
    rows = (
        *patches("patch_embed", "patch_embed.proj", cfg.patch_size),
        Row(("cls",), "cls_token", BATCHED),
        Row(("dist",), "dist_token", BATCHED),
        Row(("registers",), "reg_token", BATCHED),
        Row(("pos_embed",), "pos_embed", BATCHED),
        *norm("blocks/attn_norm", f"{_BLOCK}.norm1"),
        *packed(tuple(f"blocks/{one}" for one in _QKV), f"{_BLOCK}.attn.qkv"),
        *norm("blocks/attn/q_norm", f"{_BLOCK}.attn.q_norm"),
        *norm("blocks/attn/k_norm", f"{_BLOCK}.attn.k_norm"),
        *linear("blocks/attn/out", f"{_BLOCK}.attn.proj"),
        *same("blocks/attn_scale", f"{_BLOCK}.ls1.gamma"),
        *norm("blocks/mlp_norm", f"{_BLOCK}.norm2"),
        *linear("blocks/mlp/up", f"{_BLOCK}.mlp.fc1"),
        *linear("blocks/mlp/down", f"{_BLOCK}.mlp.fc2"),
        *same("blocks/mlp_scale", f"{_BLOCK}.ls2.gamma"),
        *norm("norm", "fc_norm" if cfg.norm_after_pool else "norm"),
        Row(("pool/probe",), "attn_pool.latent", BATCHED),
        *linear("pool/attn/q", "attn_pool.q"),
        *packed(("pool/attn/k", "pool/attn/v"), "attn_pool.kv"),
        *linear("pool/attn/out", "attn_pool.proj"),
        *norm("pool/norm", "attn_pool.norm"),
        *linear("pool/mlp/up", "attn_pool.mlp.fc1"),
        *linear("pool/mlp/down", "attn_pool.mlp.fc2"),
        *linear("head", "head"),
        *linear("dist_head", "head_dist"),
    )
    return Layout("timm's ViT", rows, {}, ())


def publish(name: str, cfg: ViTConfig) -> str:
    """The name under which timm saves an array of the table."""
    return name


def write_config(cfg: ViTConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which timm's `local-dir:` loads what `layout` lays out."""
    ratio = cfg.mlp_dim / cfg.width
    if int(cfg.width * ratio) != cfg.mlp_dim:  # as timm rounds it
        ratio = (cfg.mlp_dim + 0.5) / cfg.width
    args: dict[str, Any] = {
        "img_size": cfg.image_size,
        "patch_size": cfg.patch_size,
        "in_chans": cfg.channels,
        "embed_dim": cfg.width,
        "depth": cfg.depth,
        "num_heads": cfg.num_heads,
        "mlp_ratio": ratio,
        "class_token": cfg.has_cls,
        "global_pool": {"cls": "token", "gap": "avg"}.get(cfg.pool, cfg.pool),
        "no_embed_class": not cfg.cls_position or not cfg.has_cls,
        "reg_tokens": cfg.num_registers,
        "fc_norm": cfg.norm_after_pool,
        "qk_norm": cfg.qk_norm,
        "act_layer": "gelu_tanh" if cfg.gelu == "tanh" else "gelu",
        "pos_embed": "learn" if cfg.position == "learned" else "none",
    }
    if cfg.layer_scale is not None:
        args["init_values"] = cfg.layer_scale
    if cfg.pool == "map":
        args["pool_include_prefix"] = False
    json = Json(
        # Whose sizes the arguments replace.
        architecture="deit_base_distilled_patch16_224" if cfg.distilled else "vit_base_patch16_224",
        num_classes=cfg.num_classes,
        num_features=cfg.width,
        global_pool=args["global_pool"],
        label_names=[*classes] or None,
        model_args=args,
    )
    return hf_json.write(json)


def _image_size(json: Json, args: Args, positions: int, patch_size: int) -> tuple[int, int]:
    if args.img_size is not None:
        size = args.img_size
        return (size, size) if isinstance(size, int) else size
    if json.pretrained_cfg.input_size is not None:
        return json.pretrained_cfg.input_size[1:]
    side = math.isqrt(positions) * patch_size  # a cls token is lost in rounding
    return side, side


def _heads(width: int, depth: int, mlp_dim: int, path: Path) -> int:
    """Of the size that is known by a name; else the usual 64 numbers a head."""
    for w, d, m, heads in SIZES.values():
        if (w, d, m) == (width, depth, mlp_dim):
            return heads
    if width % 64:
        raise UserError(
            f"{path}: no size is known by a name of width {width}, depth {depth} and mlp_dim "
            f'{mlp_dim}: add "model_args": {{"num_heads": ...}} to the config.json beside it'
        )
    return width // 64
