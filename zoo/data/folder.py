"""A directory of images, one folder a class."""

import hashlib
import os
from pathlib import Path

from zoo.config import UserError
from zoo.data.base import Example, no_split

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Folders of these names that hold folders are splits; in any other directory, folders are classes.
SPLIT_NAMES = ("train", "test", "val", "valid", "validation")
TEST_SHARE = 10  # without split folders, about every tenth image of a class is for testing


class FolderSource:
    """A split of `DIR/SPLIT/CLASS/*`, or of `DIR/CLASS/*`; classes and files in order of name.

    Without split folders each class is split by a hash of the file names: the tenth of its images
    (rounded, at least one, and never all) whose hashes are smallest is the split "test", the others
    are "train". Later additions move few images from one to the other.
    """

    def __init__(self, root: Path, split: str):
        """Lists the files.

        Raises:
          UserError: no such directory or split, or folders that are not what they should be.
        """
        splits = folder_splits(root)
        if split not in splits:
            raise no_split(split, splits, root)
        self.root = root
        base = root / split
        if _has_split_folders(root):
            self.classes = _classes(root / ("train" if "train" in splits else split))
            strangers = sorted(set(_folders(base)) - set(self.classes))
            if strangers:
                raise UserError(
                    f"{base} holds the folders {', '.join(strangers[:5])}, which are no classes of "
                    f"{root / 'train'}: every split takes its classes from there"
                )
            present = [name for name in self.classes if (base / name).is_dir()]
            files = {
                name: [f"{split}/{name}/{file}" for file in _images(base / name)]
                for name in present
            }
        else:
            self.classes = _classes(root)
            files = {name: _share(root, name, split) for name in self.classes}
        labels = {name: label for label, name in enumerate(self.classes)}
        self._files = [(file, labels[name]) for name, some in files.items() for file in some]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        file, label = self._files[index]
        return {"image": (self.root / file).read_bytes(), "label": label}

    def describe(self, index: int) -> str:
        return str(self.root / self._files[index][0])


def folder_splits(root: Path) -> tuple[str, ...]:
    """The splits that a directory has.

    Raises:
      UserError: no such directory, or none of the expected folders in it.
    """
    layout = "SPLIT/CLASS/*.jpg (such as train/cat/1.jpg) or CLASS/*.jpg"
    if not root.is_dir():
        raise UserError(
            f"{root} is no directory: data.name 'folder' needs {layout} there; set data.dir"
        )
    names = _folders(root)
    if not names:
        raise UserError(f"{root} holds no folders: data.name 'folder' needs {layout} there")
    if _has_split_folders(root):
        return tuple(name for name in names if name in SPLIT_NAMES)
    return ("train", "test")


def _has_split_folders(root: Path) -> bool:
    return any(name in SPLIT_NAMES and _folders(root / name) for name in _folders(root))


def _folders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones do not count."""
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _classes(root: Path) -> tuple[str, ...]:
    names = tuple(_folders(root))
    if not names:
        raise UserError(f"{root} holds no folders: it needs one a class, with the images in it")
    return names


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(SUFFIXES)]
    names = sorted(name for name in names if not name.startswith("."))
    if not names:
        raise UserError(
            f"{folder} holds no image ({', '.join(SUFFIXES)}): the images of a class lie directly "
            "in its folder; remove the folder if it is no class"
        )
    return names


def _share(root: Path, name: str, split: str) -> list[str]:
    """A class's images of "train" or "test", by the hashes of their names."""
    images = _images(root / name)
    if len(images) < 2:
        raise UserError(
            f"{root / name} holds one image: without the folders train/ and test/, each class "
            "needs two, of which one is for testing"
        )
    ranked = sorted(images, key=lambda file: hashlib.sha256(file.encode()).digest())
    test = set(ranked[: max(1, round(len(images) / TEST_SHARE))])
    return [f"{name}/{file}" for file in images if (file in test) == (split == "test")]
