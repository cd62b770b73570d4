"""Sizes and options of a Vision Transformer, with closed formulas; imports no jax."""

from typing import Literal

import msgspec

from zoo.config.base import Section

# name: (width, depth, mlp_dim, num_heads). Ti to G: Steiner 2021 (arXiv 2106.10270), Zhai 2022
# (arXiv 2106.04560); So400m: Alabdulmohsin 2023 (arXiv 2305.13035); mu, M, e: big_vision.
SIZES: dict[str, tuple[int, int, int, int]] = {
    "mu": (32, 1, 128, 2),
    "Ti": (192, 12, 768, 3),
    "S": (384, 12, 1536, 6),
    "M": (512, 12, 2048, 8),
    "B": (768, 12, 3072, 12),
    "L": (1024, 24, 4096, 16),
    "So400m": (1152, 27, 4304, 16),
    "H": (1280, 32, 5120, 16),
    "g": (1408, 40, 6144, 16),
    "g-opt": (1536, 40, 6144, 16),
    "G": (1664, 48, 8192, 16),
    "G-opt": (1536, 48, 8192, 16),
    "e": (1792, 56, 15360, 16),
}

_NAMED = ("width", "depth", "mlp_dim", "num_heads", "patch_size")


class ViTConfig(Section, tag_field="family", tag="vit"):
    """A ViT. Give `size`, or the five numbers that it names; after construction they are set."""

    size: str | None = None  # SIZE/PATCH, such as "B/16"; names the next five
    width: int = 0
    depth: int = 0
    mlp_dim: int = 0
    num_heads: int = 0
    patch_size: int = 0
    # Filled from the data where it is left out; 0 classes: no head, the representation comes out.
    num_classes: int | None = None
    image_size: int | tuple[int, int] | None = None
    channels: int | None = None

    position: Literal["learned", "sincos2d", "rotary", "none"] = "learned"
    # The patch grid that positions are laid out on, (rows, cols); other grids interpolate it.
    # Default: the grid of image_size.
    position_grid: tuple[int, int] | None = None
    position_resize: Literal["bilinear", "bicubic", "bilinear_align_corners"] = "bilinear"
    pool: Literal["cls", "gap", "map"] = "cls"
    cls_position: bool = True  # the cls token has a position too (vision_transformer), or not
    num_registers: int = 0
    representation: bool = False  # a Dense(width) + tanh before the head (`rep_size`, `pre_logits`)
    norm_after_pool: bool = False  # timm's `fc_norm`: the last norm follows the gap

    dropout: float = 0.0
    drop_path: float = 0.0  # stochastic depth of the last layer; grows linearly from 0
    layer_scale: float | None = None  # initial value (Touvron 2021)
    qk_norm: bool = False
    gelu: Literal["tanh", "erf"] = "tanh"
    norm_epsilon: float = 1e-6
    init: Literal["xavier", "trunc_normal"] = "xavier"  # big_vision's, or DeiT's (std 0.02)
    head_init: Literal["zeros", "trunc_normal"] = "zeros"
    head_bias: float = 0.0  # such as -6.9 with the sigmoid loss on 1,000 classes

    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32
    scan: bool = True  # one compiled block in a loop, or every block unrolled: the same numbers
    remat: Literal["none", "attention", "dots", "full"] = "none"  # what the backward pass recomputes

    def __post_init__(self):
        sizes = (self.width, self.depth, self.mlp_dim, self.num_heads, self.patch_size)
        if self.size:
            size, _, patch = self.size.partition("/")
            if size not in SIZES or not patch.isdigit():
                raise ValueError(f"size {self.size!r} is not SIZE/PATCH, SIZE one of {', '.join(SIZES)}")
            named = (*SIZES[size], int(patch))
            if any(mine not in (0, theirs) for mine, theirs in zip(sizes, named, strict=True)):
                raise ValueError(f"size {self.size!r} means {_NAMED} = {named}, not {sizes}: drop one")
            sizes = named
        for name, value in zip(_NAMED, sizes, strict=True):
            if value <= 0:
                raise ValueError(f"{name} is missing: set it, or size")
            msgspec.structs.force_setattr(self, name, value)
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
