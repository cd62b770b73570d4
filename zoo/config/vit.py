"""Sizes and options of a Vision Transformer, with closed formulas; imports no jax."""

from typing import Literal

import msgspec

from zoo.config.base import Remat, Section

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


class ViTConfig(Section, frozen=True, tag_field="family", tag="vit"):
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

    # learned; sincos2d as in big_vision; rotary as in DINOv3 (arXiv 2508.10104), patches only.
    position: Literal["learned", "sincos2d", "rotary", "none"] = "learned"
    # The patch grid that a table of positions (learned, sincos2d) is laid out on, (rows, cols);
    # for other grids it is interpolated. Default: the grid of image_size.
    position_grid: tuple[int, int] | None = None
    position_resize: Literal[
        "bilinear", "bicubic", "bicubic_antialias", "bilinear_align_corners"
    ] = "bilinear"
    # cls_gap: the cls token, then the mean of the patches (DINOv2's heads, arXiv 2304.07193).
    pool: Literal["cls", "gap", "map", "cls_gap"] = "cls"
    # The cls token has a learned position too (vision_transformer), or not (big_vision).
    cls_position: bool = True
    # A second token beside cls with a head of its own, which DeiT (arXiv 2012.12877) trains by a
    # teacher; the logits are the two heads' mean.
    distilled: bool = False
    num_registers: int = 0
    representation: bool = False  # a Dense(width) + tanh before the head (`rep_size`, `pre_logits`)
    norm_after_pool: bool = False  # timm's `fc_norm`: the last norm follows the gap

    dropout: float = 0.0  # after positions, attention, the MLP's GELU and the MLP
    attention_dropout: float = 0.0  # of attention's probabilities
    drop_path: float = 0.0  # stochastic depth of the last layer
    drop_path_growth: Literal["linear", "uniform"] = "linear"  # from 0, or the same in every layer
    layer_scale: float | None = None  # initial value (Touvron 2021)
    qk_norm: bool = False
    gelu: Literal["tanh", "erf"] = "tanh"
    norm_epsilon: float = 1e-6
    init: Literal["xavier", "trunc_normal"] = "xavier"  # big_vision's, or DeiT's (std 0.02)
    head_init: Literal["zeros", "trunc_normal"] = "zeros"
    head_bias: float = 0.0  # such as -6.9 with the sigmoid loss on 1,000 classes

    # auto: without attention_dropout a kernel, on TPUs (heads of 32, 64 or 128 for up to 640
    # tokens; of 64, 128 or 256 from 1,024 in multiples of 128) and NVIDIA GPUs since Ampere
    # (bfloat16, heads up to 128). Else, and with xla: plain operations.
    attention: Literal["auto", "xla"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32
    scan: bool = True  # one compiled block in a loop, or every block unrolled: the same numbers
    remat: Remat = "none"  # what the backward pass recomputes

    def __post_init__(self):
        sizes = (self.width, self.depth, self.mlp_dim, self.num_heads, self.patch_size)
        if self.size:
            size, _, patch = self.size.partition("/")
            if size not in SIZES or not patch.isdigit():
                raise ValueError(
                    f"size {self.size!r} is not SIZE/PATCH, SIZE one of {', '.join(SIZES)}"
                )
            named = (*SIZES[size], int(patch))
            if any(mine not in (0, theirs) for mine, theirs in zip(sizes, named, strict=True)):
                raise ValueError(
                    f"size {self.size!r} means {_NAMED} = {named}, not {sizes}: drop one"
                )
            sizes = named
        for name, value in zip(_NAMED, sizes, strict=True):
            if value <= 0:
                raise ValueError(f"{name} is missing: set it, or size")
            msgspec.structs.force_setattr(self, name, value)
        self._check()

    def _check(self) -> None:
        head_size = self.width // self.num_heads
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        if self.position == "sincos2d" and (self.width % 4 or self.width < 8):
            raise ValueError(
                f"position 'sincos2d' needs a width of 8, 12, 16, ..., not {self.width}"
            )
        if self.position == "rotary" and head_size % 4:
            raise ValueError(
                f"position 'rotary' needs heads of a multiple of 4, not width {self.width} / "
                f"num_heads {self.num_heads} = {head_size}"
            )
        if self.distilled and (self.pool != "cls" or self.representation):
            raise ValueError(
                f"distilled goes with pool 'cls', not {self.pool!r}, and without representation"
            )
        if self.representation and self.pool == "cls_gap":
            raise ValueError("representation goes with pool 'cls', 'gap' or 'map', not 'cls_gap'")
        if self.norm_after_pool and self.pool != "gap":
            raise ValueError(f"norm_after_pool goes with pool 'gap', not {self.pool!r}")
        for name in ("dropout", "attention_dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")
        if self.image_size is not None and min(self.patches) < 1:
            raise ValueError(
                f"image_size {self.image_size} is smaller than patch_size {self.patch_size}"
            )

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns of patches in an image of `image_size`; pixels left over are cut off."""
        size = self.image_size
        if size is None:
            raise ValueError("image_size is not filled in")
        rows, cols = (size, size) if isinstance(size, int) else size
        return rows // self.patch_size, cols // self.patch_size

    @property
    def grid(self) -> tuple[int, int]:
        """The patch grid that positions are laid out on."""
        return self.position_grid or self.patches

    @property
    def num_positions(self) -> int:
        """Rows of the learned table of positions, those of cls first; 0 without one."""
        rows, cols = self.grid
        own = self.has_cls + self.distilled if self.cls_position else 0
        return rows * cols + own if self.position == "learned" else 0

    @property
    def num_prefix(self) -> int:
        """Tokens before the patches: cls, the distilled one, then registers."""
        return self.has_cls + self.distilled + self.num_registers

    @property
    def has_cls(self) -> bool:
        """Whether there is a cls token."""
        return self.pool in ("cls", "cls_gap")

    @property
    def pooled_width(self) -> int:
        """Numbers that the head sees of an image."""
        return 2 * self.width if self.pool == "cls_gap" else self.width


def num_params(cfg: ViTConfig) -> int:
    """Numbers that a model learns; exact for every option."""
    assert cfg.channels is not None
    assert cfg.num_classes is not None
    D, mlp = cfg.width, 2 * cfg.width * cfg.mlp_dim + cfg.mlp_dim + cfg.width
    attention, norm = 4 * (D * D + D), 2 * D
    block = attention + mlp + 2 * norm
    if cfg.qk_norm:
        block += 2 * 2 * (D // cfg.num_heads)
    if cfg.layer_scale is not None:
        block += 2 * D
    total = cfg.patch_size**2 * cfg.channels * D + D + cfg.depth * block + norm
    total += (cfg.num_prefix + cfg.num_positions) * D
    if cfg.pool == "map":
        total += D + attention + norm + mlp
    if cfg.representation:
        total += D * D + D
    return total + (1 + cfg.distilled) * (cfg.pooled_width + 1) * cfg.num_classes


def macs(cfg: ViTConfig) -> int:
    """Multiply-adds of the matrix products for one image of `image_size`, forward.

    A training step is 3 x as much, and 2 FLOPs each. Interpolating positions, which happens once
    a batch and only where `position_grid` is not the image's, is left out.
    """
    assert cfg.channels is not None
    assert cfg.num_classes is not None
    D, M = cfg.width, cfg.mlp_dim
    rows, cols = cfg.patches
    N = rows * cols
    T = N + cfg.num_prefix
    total = N * cfg.patch_size**2 * cfg.channels * D
    total += cfg.depth * (4 * T * D * D + 2 * T * T * D + 2 * T * D * M)
    if cfg.pool == "map":  # one query, the probe, looks at the patches
        total += 2 * D * D + 2 * N * D * D + 2 * N * D + 2 * D * M
    if cfg.representation:
        total += D * D
    return total + (1 + cfg.distilled) * cfg.pooled_width * cfg.num_classes
