"""`zoo data export`: some examples of a split as image files, to look at or to classify."""

import re
from pathlib import Path
from typing import Any

from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.data.images import decode
from zoo.data.prepare import encode_png
from zoo.data.sources import open_source


def export(data: ImageData, out: Path, *, split: str, count: int) -> dict[str, Any]:
    """Writes examples spread evenly over a split as `OUT/INDEX-CLASS.png`.

    Returns:
      `{"files": [path, ...]}`.

    Raises:
      UserError: the dataset cannot be opened, or `out` not be written.
    """
    source = open_source(data, split)
    files = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for index in range(0, len(source), max(len(source) // max(count, 1), 1))[:count]:
            example = source[index]
            image = example["image"]
            pixels = decode(image, data.channels) if isinstance(image, bytes) else image
            name = re.sub(r"[^\w.-]+", "_", source.classes[example["label"]])
            path = out / f"{index:05d}-{name}.png"
            path.write_bytes(encode_png(pixels))
            files.append(str(path))
    except OSError as error:
        raise UserError(f"cannot write to --out {out}: {error.strerror}") from error
    return {"files": files}
