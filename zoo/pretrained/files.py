"""Files of named arrays: opened without reading one, read one at a time, written in a stream."""

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import ml_dtypes
import numpy as np
from safetensors import safe_open

from zoo.config import UserError

INDEX = ".safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# safetensors' names of the types that weights come in, in the order that it lays them out.
DTYPES: dict[str, np.dtype] = {
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "I32": np.dtype(np.int32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# numpy's files have no name for it: big_vision's come back as two bytes of anything.
_BFLOAT16 = {np.dtype("V2"): DTYPES["BF16"]}


class Spec(NamedTuple):
    """What a file says of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype


@runtime_checkable
class ArrayFile(Protocol):
    """Named arrays on disk.

    Attributes:
      path: where they lie, for messages.
      specs: of every array, by name.
      metadata: what else the file says.
    """

    path: Path
    specs: dict[str, Spec]
    metadata: dict[str, str]

    def read(self, name: str, layer: int | None = None) -> np.ndarray:
        """An array, or what lies at an index of its first axis; a UserError where it is damaged."""
        ...


class Safetensors:
    """One safetensors file, or the shards of an index."""

    def __init__(self, path: Path, shards: Mapping[Path, set[str] | None]):
        """Args: `shards` are the files, and which names each should hold; None: whatever it does.

        Raises:
          UserError: a file is missing, damaged, or holds other names.
        """
        self.path = path
        self.specs: dict[str, Spec] = {}
        self.metadata: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        for shard, names in shards.items():
            with _opened(shard) as file:
                self.metadata |= file.metadata() or {}
                found = set(file.keys())
                if names is not None and names != found:
                    odd = min(names ^ found)
                    where = shard.name if odd in names else path.name
                    raise UserError(f"{path}: {odd} is not in {where}: fetch all files again")
                for name in found:
                    view = file.get_slice(name)
                    kind = view.get_dtype()
                    if kind not in DTYPES:
                        raise UserError(
                            f"{shard}: {name} is of type {kind}, which is not read here"
                        )
                    self.specs[name] = Spec(tuple(view.get_shape()), DTYPES[kind])
                    self._files[name] = shard

    def read(self, name: str, layer: int | None = None) -> np.ndarray:
        """Reads the bytes that are asked for alone, and leaves no map of the file in memory."""
        # What is read of a mapped file counts as memory of this process, besides the array; but
        # without a map the library reads all of an array to give a part.
        with _opened(self._files[name], "pread" if layer is None else "mmap") as file:
            return file.get_tensor(name) if layer is None else file.get_slice(name)[layer]


class Npz:
    """numpy's archive; nothing in it is unpickled."""

    def __init__(self, path: Path):
        """Reads the headers.

        Raises:
          UserError: no such file, a damaged one, or one with Python objects in it.
        """
        self.path = path
        self.specs: dict[str, Spec] = {}
        self.metadata: dict[str, str] = {}
        with _explained(path, ".npz"), zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    shape, dtype = _npy_header(file)
                    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
                    if member.file_size - file.tell() != size:
                        raise ValueError(f"{member.filename} says {shape} and is of another size")
                self.specs[member.filename.removesuffix(".npy")] = Spec(
                    shape, _BFLOAT16.get(dtype, dtype)
                )

    def read(self, name: str, layer: int | None = None) -> np.ndarray:
        """Reads all of the array, also for one layer of it."""
        with (
            _explained(self.path, ".npz"),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{name}.npy") as file,
        ):
            array = np.lib.format.read_array(file, allow_pickle=False)
        array = array.view(_BFLOAT16.get(array.dtype, array.dtype))
        return array if layer is None else array[layer]


def open_arrays(path: Path) -> ArrayFile:
    """Opens a file of arrays, or finds one in a directory.

    Args:
      path: `*.safetensors`, its `*.safetensors.index.json`, `*.npz`, or a directory with one.

    Raises:
      UserError: nothing is there, or nothing that can be read; pickles are never opened.
    """
    if path.is_dir():
        return open_arrays(_in_directory(path))
    refuse_pickle(path)
    if not path.is_file():
        raise UserError(f"there are no weights {path}: give a file or a directory that is there")
    if path.name.endswith(INDEX):
        return Safetensors(path, _shards(path))
    if path.suffix == ".safetensors":
        return Safetensors(path, {path: None})
    if path.suffix == ".npz":
        return Npz(path)
    raise UserError(f"{path} is no file of weights: give a .safetensors, .npz or llama2.c's .bin")


def refuse_pickle(path: Path) -> None:
    """Raises a UserError with the way out where a file is one that PyTorch pickles into."""
    if path.suffix in PICKLES:
        raise UserError(
            f"{path} is a pickle, which can run any code when it is opened, and is never read "
            "here: where PyTorch is, write it anew with `safetensors.torch.save_file("
            f"torch.load({path.name!r}, weights_only=True), 'model.safetensors')`"
        )


def _in_directory(path: Path) -> Path:
    """model.safetensors, else the index, else the only file of its kind."""
    preferred = [path / "model.safetensors", path / f"model{INDEX}"]
    for pattern in (None, f"*{INDEX}", "*.safetensors", "*.npz"):
        found = preferred if pattern is None else sorted(path.glob(pattern))
        there = [one for one in found if one.is_file()]
        if pattern is not None and len(there) > 1:
            names = ", ".join(one.name for one in there[:3])
            raise UserError(f"{path} holds several files of weights ({names}): give one of them")
        if there:
            return there[0]
    pickles = [one for one in sorted(path.iterdir()) if one.suffix in PICKLES]
    for one in pickles:
        refuse_pickle(one)
    raise UserError(f"{path} holds no weights: model.safetensors, its index, or a .npz")


def _shards(index: Path) -> dict[Path, set[str] | None]:
    """The files that an index names, all beside it, and what each should hold."""
    shards: dict[Path, set[str] | None] = {}
    for name, file in _string_map(read_json(index).get("weight_map"), index, "weight_map").items():
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise UserError(f"{index}: {name} lies in {file!r}, which is no file beside the index")
        names = shards.setdefault(index.parent / file, set())
        assert names is not None
        names.add(name)
    return shards


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; a UserError where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON that can be read ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no JSON object: fetch it again")
    return found


def _string_map(value: Any, path: Path, key: str) -> dict[str, str]:
    """The value of a key that maps names to names; a UserError where it does not."""
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise UserError(f"{path}: {key} does not map names to names: fetch it again")
    return value


def write_safetensors(
    path: Path,
    specs: Mapping[str, Spec],
    read: Callable[[str], np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    """Writes the bytes that the library would, with one array in memory at a time.

    Args:
      specs: of all arrays; they are laid out by type, then by name.
      read: name -> the array, of that shape and type.
    """
    rank = {dtype: i for i, dtype in enumerate(DTYPES.values())}
    order = sorted(specs, key=lambda name: (rank[specs[name].dtype], name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        shape, dtype = specs[name]
        start, end = end, end + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": [*shape], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array = np.asarray(read(name), specs[name].dtype, order="C")
            assert array.shape == specs[name].shape, name
            file.write(array.reshape(-1).view(np.uint8).data)


def write_npz(path: Path, specs: Mapping[str, Spec], read: Callable[[str], np.ndarray]) -> None:
    """An archive as `numpy.savez` makes it, with one array in memory at a time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, (shape, dtype) in specs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                array = np.asarray(read(name), dtype, order="C")
                assert array.shape == shape, name
                np.lib.format.write_array(file, array, allow_pickle=False)


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of .npy")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled here")
    return shape, dtype


@contextlib.contextmanager
def _explained(path: Path, kind: str) -> Iterator[None]:
    """Whatever a library raises at a file that is not what it should be, as a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # zipfile, numpy and safetensors have a dozen of them
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise UserError(
            f"{path} is no {kind} that can be read ({reason}): fetch it again"
        ) from error


@contextlib.contextmanager
def _opened(path: Path, backend: str = "pread") -> Iterator[Any]:
    if not path.is_file():
        raise UserError(f"{path} is not there: fetch all files of the model")
    with (
        _explained(path, "safetensors file"),
        safe_open(path, framework="numpy", backend=backend) as file,
    ):
        yield file
