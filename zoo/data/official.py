"""The small classics, from the files that their authors published: MNIST, Fashion-MNIST, CIFAR.

CIFAR's python version is pickled. It is read by an unpickler that admits arrays of numbers and
nothing else, so that a file from a stranger cannot run code.
"""

import functools
import gzip
import io
import math
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from zoo.config import UserError
from zoo.data.base import ArraySource, no_split

SPLITS = ("train", "test")
MNIST_CLASSES = tuple("0123456789")
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# Where Debian's package dataset-fashion-mnist puts its files.
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm"""
CIFAR10_CLASSES, CIFAR100_CLASSES = tuple(_CIFAR10.split()), tuple(_CIFAR100.split())


def open_mnist(name: str, root: Path, split: str) -> ArraySource:
    """Reads `mnist` or `fashion_mnist`: 28 x 28 x 1 images from idx files, plain or gzipped.

    Raises:
      UserError: no such split, a missing directory or file, or one that is no whole idx file.
    """
    if split not in SPLITS:
        raise no_split(split, SPLITS, name)
    if name == "fashion_mnist" and not _holds_files(root) and DEBIAN_FASHION.is_dir():
        root = DEBIAN_FASHION
    stem = "train" if split == "train" else "t10k"
    image = _read_idx(root, f"{stem}-images-idx3-ubyte", name, dimensions=3)
    label = _read_idx(root, f"{stem}-labels-idx1-ubyte", name, dimensions=1)
    return ArraySource(
        image[..., None],
        label,
        classes=MNIST_CLASSES if name == "mnist" else FASHION_CLASSES,
        name=split,
        reopen=functools.partial(open_mnist, name, root, split),
    )


def open_cifar(name: str, root: Path, split: str) -> ArraySource:
    """Reads `cifar10` or `cifar100` (fine labels): 32 x 32 x 3 images.

    `root` holds the files, or the folder that the archive unpacks to, or the archive itself; the
    binary version comes before the python version.

    Raises:
      UserError: no such split, a missing directory or file, or one that is not as published.
    """
    if split not in SPLITS:
        raise no_split(split, SPLITS, name)
    for layout in CIFAR_LAYOUTS[name]:
        files = layout.train if split == "train" else layout.test
        contents = _read_version(root, layout, files)
        if contents is None:
            continue
        batches = [layout.parse(data, str(root / file)) for file, data in contents.items()]
        image, label = (np.concatenate(part) for part in zip(*batches, strict=True))
        planes = [image[:, i * 1024 : (i + 1) * 1024] for i in range(3)]
        return ArraySource(
            np.stack(planes, axis=-1).reshape(-1, 32, 32, 3),
            label,
            classes=CIFAR10_CLASSES if name == "cifar10" else CIFAR100_CLASSES,
            name=split,
            reopen=functools.partial(open_cifar, name, root, split),
        )
    wanted = [f"{v.folder}/, {v.files[0]} ... or {v.archive}" for v in CIFAR_LAYOUTS[name]]
    raise _missing(name, root, "; or ".join(wanted))


def _holds_files(root: Path) -> bool:
    return root.is_dir() and any(root.iterdir())


def _missing(name: str, root: Path, wanted: str) -> UserError:
    state = "does not exist" if not root.exists() else "does not hold the files"
    return UserError(
        f"{root} {state}: {name} needs {wanted}. Put the published files there, or say where they "
        f"are with data.dir; benchmarks/fetch_data.py fetches some datasets"
    )


def _read_idx(root: Path, stem: str, name: str, *, dimensions: int) -> np.ndarray:
    """One idx file of uint8: a magic number, big-endian extents, then the values."""
    stems = (stem, stem.replace("-idx", ".idx"))  # some mirrors write a dot
    path = next((p for s in stems for p in (root / s, root / f"{s}.gz") if p.is_file()), None)
    if path is None:
        raise _missing(name, root, f"{stem} or {stem}.gz")
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} is no whole gzip file ({error}): fetch it again") from error
    header = 4 * (1 + dimensions)
    magic, *shape = np.frombuffer(data[:header], ">u4").tolist() if len(data) >= header else [0]
    if magic != 0x800 + dimensions:
        raise UserError(
            f"{path} is no idx file of uint8 in {dimensions} dimensions: it starts with "
            f"{data[:4].hex() or 'nothing'}, not {0x800 + dimensions:08x}"
        )
    if len(data) - header != math.prod(shape):
        raise UserError(
            f"{path} holds {len(data) - header} values, but its header says "
            f"{' x '.join(map(str, shape))}: fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


Parsed = tuple[UInt8[np.ndarray, "N 3072"], UInt8[np.ndarray, " N"]]


def _parse_binary(data: bytes, path: str, *, label_bytes: int) -> Parsed:
    """Records of the labels, the last of which is the fine one, then red, green and blue planes."""
    size = label_bytes + 3072
    if not data or len(data) % size:
        raise UserError(f"{path} is no whole number of {size}-byte records: fetch it again")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    return records[:, label_bytes:], records[:, label_bytes - 1]


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numbers, text, lists, dicts and NumPy arrays of them; refuses every other object."""

    def find_class(self, module_name: str, global_name: str):
        admitted = {
            "_reconstruct": np.empty(0).__reduce__()[0],  # its module moved in NumPy 2
            "ndarray": np.ndarray,
            "dtype": np.dtype,
        }
        if module_name.partition(".")[0] != "numpy" or global_name not in admitted:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return admitted[global_name]


def _parse_python(data: bytes, path: str, *, label_key: bytes) -> Parsed:
    """A Python 2 pickle of a dict: `data` as N x 3072, and a list of labels."""
    try:
        batch = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
        image, label = batch[b"data"], np.asarray(batch[label_key])
        if image.dtype != np.uint8 or image.ndim != 2 or image.shape[1] != 3072:
            raise ValueError(f"data is {image.dtype} of shape {image.shape}")
        return image, label.astype(np.uint8)
    # A damaged pickle raises nearly anything: UnpicklingError, EOFError, KeyError, TypeError ...
    except Exception as error:
        raise UserError(f"{path} is no batch of CIFAR's python version: {error!r}") from error


class _Layout(NamedTuple):
    """One published version: what its files are called, and how to read one."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    parse: Callable[[bytes, str], Parsed]

    @property
    def files(self) -> tuple[str, ...]:
        return self.train + self.test


_FIVE = tuple(f"data_batch_{i}" for i in range(1, 6))
CIFAR_LAYOUTS = {
    "cifar10": (
        _Layout(
            "cifar-10-batches-bin",
            "cifar-10-binary.tar.gz",
            tuple(f"{file}.bin" for file in _FIVE),
            ("test_batch.bin",),
            functools.partial(_parse_binary, label_bytes=1),
        ),
        _Layout(
            "cifar-10-batches-py",
            "cifar-10-python.tar.gz",
            _FIVE,
            ("test_batch",),
            functools.partial(_parse_python, label_key=b"labels"),
        ),
    ),
    "cifar100": (
        _Layout(
            "cifar-100-binary",
            "cifar-100-binary.tar.gz",
            ("train.bin",),
            ("test.bin",),
            functools.partial(_parse_binary, label_bytes=2),
        ),
        _Layout(
            "cifar-100-python",
            "cifar-100-python.tar.gz",
            ("train",),
            ("test",),
            functools.partial(_parse_python, label_key=b"fine_labels"),
        ),
    ),
}


def _read_version(root: Path, layout: _Layout, files: tuple[str, ...]) -> dict[str, bytes] | None:
    """Each file's content, or None where nothing of this version is in `root`."""
    for folder in (root, root / layout.folder):
        paths = [folder / file for file in files]
        found = [path.is_file() for path in paths]
        if all(found):
            return {file: path.read_bytes() for file, path in zip(files, paths, strict=True)}
        if any(found):
            raise UserError(f"{paths[found.index(False)]} is missing beside the other batches")
    archive = root / layout.archive
    if not archive.is_file():
        return None
    try:
        with tarfile.open(archive) as tar:
            members = {file: tar.extractfile(f"{layout.folder}/{file}") for file in files}
            return {file: member.read() if member else b"" for file, member in members.items()}
    except (tarfile.TarError, OSError, EOFError, zlib.error, KeyError) as error:
        raise UserError(f"{archive} is not as published ({error}): fetch it again") from error
