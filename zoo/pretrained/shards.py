"""Weights in several files with an index, as Hugging Face splits them, an array at a time."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from zoo.config import UserError
from zoo.pretrained.files import INDEX, Spec, write_safetensors

SIZE = "5GB"  # of a file at most, unless another size is asked for
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT]?)(I?)B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as `5GB` (powers of 1000), `512MiB` (of 1024) or `100000`.

    Raises:
      UserError: it is none, or less than a byte.
    """
    match = _SIZE.fullmatch(text.strip())
    number, unit, binary = match.groups() if match else ("0", "", "")
    size = int(float(number) * (1024 if binary else 1000) ** _UNITS[(unit or "").upper()])
    if size < 1:
        raise UserError(f"--shard-size {text!r} is no size: write it as 5GB, 500MB or 1GiB")
    return size


def split(specs: Mapping[str, Spec], limit: int) -> list[dict[str, Spec]]:
    """Arrays by file, in their order: as many as fit, but one at the least."""
    files: list[dict[str, Spec]] = [{}]
    held = 0
    for name, spec in specs.items():
        size = _size(spec)
        if files[-1] and held + size > limit:
            files.append({})
            held = 0
        files[-1][name] = spec
        held += size
    return files


def write_sharded(
    directory: Path,
    specs: Mapping[str, Spec],
    read: Callable[[str], np.ndarray],
    metadata: Mapping[str, str],
    limit: int,
) -> None:
    """Writes `model.safetensors`, or `model-00001-of-0000N.safetensors`, ... and their index.

    Args:
      specs: of all arrays.
      read: name -> the array, of that shape and type.
      limit: bytes of a file's arrays; an array that is larger has a file of its own.
    """
    files = split(specs, limit)
    if len(files) == 1:
        write_safetensors(directory / "model.safetensors", specs, read, metadata)
        return
    where = {}
    for number, some in enumerate(files, 1):
        path = directory / f"model-{number:05d}-of-{len(files):05d}.safetensors"
        write_safetensors(path, some, read, metadata)
        where |= dict.fromkeys(some, path.name)
    total = {
        "total_parameters": sum(_count(spec) for spec in specs.values()),
        "total_size": sum(_size(spec) for spec in specs.values()),
    }
    index = {"metadata": total, "weight_map": where}
    text = json.dumps(index, indent=2, sort_keys=True)
    (directory / f"model{INDEX}").write_text(text + "\n")


def _count(spec: Spec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64))


def _size(spec: Spec) -> int:
    return _count(spec) * spec.dtype.itemsize
