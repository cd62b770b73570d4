"""How images are prepared, as Hugging Face and timm say it, and as `config.data` does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from zoo.config import UserError
from zoo.config.data import ImageData, ImageOp
from zoo.config.vit import ViTConfig
from zoo.pretrained import hf_json
from zoo.pretrained.files import read_json

PROCESSOR = "preprocessor_config.json"
# Pillow's numbers, by which Hugging Face names how it resizes, with antialiasing.
_RESAMPLE = {2: "bilinear_antialias", 3: "bicubic_antialias"}
_INTERPOLATION = {"bilinear": "bilinear_antialias", "bicubic": "bicubic_antialias"}
_HALF = (0.5,)  # of every channel


class Processor(msgspec.Struct, kw_only=True):
    """Keys of `preprocessor_config.json`; what is not named is not read."""

    image_processor_type: str | None = None
    do_resize: bool = True
    size: int | dict[str, int] = 224
    resample: int = 2
    do_center_crop: bool = False
    crop_size: int | dict[str, int] | None = None
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: tuple[float, ...] = _HALF
    image_std: tuple[float, ...] = _HALF


class TimmCfg(msgspec.Struct, kw_only=True):
    """Keys of timm's `pretrained_cfg`."""

    input_size: tuple[hf_json.Size, hf_json.Size, hf_json.Size] | None = None
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF


def hugging_face(model: ViTConfig, directory: Path) -> ImageData:
    """What a directory's `preprocessor_config.json` says; without one, ViT's own defaults.

    A crop keeps the image's aspect, as DeiT's own code does; Hugging Face's first makes a square.

    Raises:
      UserError: another way to resize, or a file that is no JSON.
    """
    path = directory / PROCESSOR
    tree = read_json(path) if path.is_file() else {}
    found = hf_json.read(tree, Processor, path)
    if found.resample not in _RESAMPLE:
        raise UserError(f"{path}: resample {found.resample} is none of {[*_RESAMPLE]}")
    method = _RESAMPLE[found.resample]
    ops: list[ImageOp] = [{"op": "resize", "method": method}]
    if found.do_center_crop and found.crop_size is not None:
        fraction = _side(found.crop_size) / _side(found.size)
        ops = _cropped(min(fraction, 1.0), method)
    scale = 1 / found.rescale_factor if found.do_rescale else 1.0
    mean, std = found.image_mean, found.image_std
    if not found.do_normalize:
        mean, std = (0.0,), (1.0,)
    return _data(model, ops, mean, std, scale)


def made_size(directory: Path) -> tuple[int, int] | None:
    """Rows and columns of the images that a directory's `preprocessor_config.json` makes.

    None: there is no such file, or it says nothing of both sides.
    """
    path = directory / PROCESSOR
    if not path.is_file():
        return None
    found = hf_json.read(read_json(path), Processor, path)
    size = found.crop_size if found.do_center_crop and found.crop_size is not None else found.size
    if isinstance(size, int):
        return size, size
    return (size["height"], size["width"]) if {"height", "width"} <= size.keys() else None


def timm(model: ViTConfig, cfg: TimmCfg, path: Path) -> ImageData:
    """What a `pretrained_cfg` says.

    Raises:
      UserError: another way to resize.
    """
    if cfg.interpolation not in _INTERPOLATION:
        known = ", ".join(_INTERPOLATION)
        raise UserError(f"{path}: interpolation {cfg.interpolation!r} is none of {known}")
    method = _INTERPOLATION[cfg.interpolation]
    if cfg.crop_mode == "squash" or (cfg.crop_pct == 1.0 and cfg.crop_mode != "center"):
        return _data(model, [{"op": "resize", "method": method}], cfg.mean, cfg.std, 255.0)
    return _data(model, _cropped(cfg.crop_pct, method), cfg.mean, cfg.std, 255.0)


def plain(model: ViTConfig) -> ImageData:
    """vision_transformer's and big_vision's: resized whatever the aspect, pixels in [-1, 1]."""
    return _data(model, [{"op": "resize"}], _HALF, _HALF, 255.0)


def write_processor(data: ImageData, model: ViTConfig) -> dict[str, Any]:
    """The nearest `preprocessor_config.json`: pixels exactly, resizing as far as it has words."""
    rows, cols = _sides(model)
    channels = data.channels
    mean, std = ([x / 255 for x in _spread(v, channels)] for v in (data.pixel_mean, data.pixel_std))
    methods = {name: number for number, name in _RESAMPLE.items()}
    ops = {op["op"]: op for op in data.eval_ops}
    crop = ops.get("resize_small", {})
    method = crop.get("method") or ops.get("resize", {}).get("method", "bilinear_antialias")
    found = Processor(
        image_processor_type="ViTImageProcessor",
        size={"height": rows, "width": cols},
        resample=methods.get(method, 2),
        image_mean=tuple(mean),
        image_std=tuple(std),
    )
    if "central_crop" in ops and crop.get("crop_fraction", 1.0) < 1:
        whole = [round(side / crop["crop_fraction"]) for side in (rows, cols)]
        # Its shorter side is resized, as ours is: DeiT's makes a square of any image.
        found.image_processor_type = "BitImageProcessor"
        found.size, found.do_center_crop = {"shortest_edge": min(whole)}, True
        found.crop_size = {"height": rows, "width": cols}
    return hf_json.write(found)


def write_timm(data: ImageData, model: ViTConfig) -> dict[str, Any]:
    """The nearest `pretrained_cfg`."""
    ops = {op["op"]: op for op in data.eval_ops}
    crop = ops.get("resize_small", {})
    method = crop.get("method") or ops.get("resize", {}).get("method", "bilinear_antialias")
    mean, std = (_spread(v, data.channels) for v in (data.pixel_mean, data.pixel_std))
    cfg = TimmCfg(
        input_size=(data.channels, *_sides(model)),
        interpolation="bicubic" if method.startswith("bicubic") else "bilinear",
        crop_pct=crop.get("crop_fraction", 1.0),
        crop_mode="center" if crop else "squash",
        mean=tuple(x / 255 for x in mean),
        std=tuple(x / 255 for x in std),
    )
    return hf_json.write(cfg)


def _data(
    model: ViTConfig,
    ops: list[ImageOp],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    scale: float,
) -> ImageData:
    assert model.image_size is not None
    if model.channels not in (1, 3):
        raise UserError(
            f"the model reads images of {model.channels} channels: only 1 or 3 are read"
        )
    if model.channels == 1:  # some files say a grey image's number three times
        mean, std = (value[:1] if len({*value}) == 1 else value for value in (mean, std))
    return ImageData(
        name="folder",
        image_size=model.image_size,
        channels=1 if model.channels == 1 else 3,
        eval_ops=tuple(ops),
        pixel_mean=tuple(scale * x for x in mean),
        pixel_std=tuple(scale * x for x in std),
    )


def _cropped(fraction: float, method: str) -> list[ImageOp]:
    small = {"op": "resize_small", "crop_fraction": fraction, "method": method, "rounding": "down"}
    return [small, {"op": "central_crop"}]


def _side(size: int | Mapping[str, int]) -> int:
    return size if isinstance(size, int) else min(size.values(), default=1)


def _sides(model: ViTConfig) -> tuple[int, int]:
    size = model.image_size
    assert size is not None
    return (size, size) if isinstance(size, int) else size


def _spread(values: tuple[float, ...], channels: int) -> list[float]:
    return [*values] * (channels if len(values) == 1 else 1)
