"""How many images a second one core decodes and augments: Zoo (OpenCV) beside Pillow.

    python benchmarks/input_pipeline.py [--images 100] [--repeats 10] [--json FILE]

Makes its own JPEGs, 500 x 375 at quality 92 and about as large as ImageNet's (noise of several
scales, so that they cost what photos cost). Each row is decoding, an Inception crop to 224 x 224
and a flip; both libraries get the same boxes. "Equal quality" compares the two antialiased rows:
OpenCV's area mean and Pillow's bilinear kernel. CPU time of one thread.
"""

import argparse
import io
import json
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from zoo.data.crops import torchvision_box
from zoo.data.images import build_ops, decode

SIZE = 224
CROP = {"area": (0.08, 1.0), "aspect": (3 / 4, 4 / 3)}


def make_jpegs(count: int) -> list[bytes]:
    """Random pictures with structure at every scale."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        picture = np.full((375, 500, 3), 128.0)
        for side, strength in ((4, 60), (16, 30), (64, 20), (200, 14)):
            noise = rng.normal(0, strength, (side, side, 3)).astype(np.float32)
            picture += cv2.resize(noise, (500, 375), interpolation=cv2.INTER_CUBIC)
        file = io.BytesIO()
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
        files.append(file.getvalue())
    return files


def with_zoo(*after: dict, method: str):
    """Decoding and the operations of a config."""
    crop = {"op": "inception_crop", "method": method, **CROP}
    ops = build_ops([crop, {"op": "flip"}, *after], SIZE)
    return lambda data, rng: ops(decode(data, 3, min_side=ops.min_side), rng)


def with_pillow(resampling: Image.Resampling):
    """The same by Pillow alone, as torchvision does it."""

    def run(data: bytes, rng: np.random.Generator) -> np.ndarray:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        top, left, rows, cols = torchvision_box(image.height, image.width, rng, **CROP)
        crop = image.crop((left, top, left + cols, top + rows)).resize((SIZE, SIZE), resampling)
        return np.asarray(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)

    return run


def images_per_second(rows: dict, files: list[bytes], repeats: int) -> dict[str, float]:
    """Of CPU time, best pass of each row; they take turns, so that others slow all alike."""
    best = dict.fromkeys(rows, float("inf"))
    for _ in range(repeats):
        for name, run in rows.items():
            rng, start = np.random.default_rng(0), time.process_time()
            for data in files:
                run(data, rng)
            best[name] = min(best[name], time.process_time() - start)
    return {name: len(files) / seconds for name, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    files = make_jpegs(args.images)
    print(f"{len(files)} JPEGs of {np.mean([len(f) for f in files]) / 1000:.0f} kB on average")
    rows = {
        "Zoo, bilinear, no antialias": with_zoo(method="bilinear"),
        "Zoo, area": with_zoo(method="area"),
        "Zoo, bicubic_antialias": with_zoo(method="bicubic_antialias"),
        "Pillow, bilinear": with_pillow(Image.Resampling.BILINEAR),
        "Pillow, bicubic": with_pillow(Image.Resampling.BICUBIC),
    }
    for variant in ("big_vision", "timm", "torchvision"):
        op = {"op": "randaugment", "variant": variant}
        rows[f"Zoo, area, randaugment {variant}"] = with_zoo(op, method="area")
    rows["Zoo, area, three_augment, color_jitter"] = with_zoo(
        {"op": "three_augment"}, {"op": "color_jitter"}, method="area"
    )
    rates = images_per_second(rows, files, args.repeats)
    for name, rate in rates.items():
        print(f"{name:40s}{rate:8.0f} images/s/core")
    ratio = rates["Zoo, area"] / rates["Pillow, bilinear"]
    plain = rates["Zoo, bilinear, no antialias"] / rates["Pillow, bilinear"]
    print(f"at equal quality (antialiased): {ratio:.2f} x Pillow; not antialiased: {plain:.2f} x")
    if args.json:
        args.json.write_text(json.dumps({"images_per_second_per_core": rates, "ratio": ratio}))


if __name__ == "__main__":
    main()
