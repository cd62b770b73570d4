"""Names, directories, splits and slices; digits, folders of images and TFDS."""

import io
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.data.base import parse_split
from zoo.data.catalog import DATASETS, data_dir
from zoo.data.sources import list_splits, open_source


def png(value: int, shape=(6, 5, 3)) -> bytes:
    return cv2.imencode(".png", np.full(shape, value, np.uint8))[1].tobytes()


def write_images(root, names):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))


def test_the_catalogue_imports_nothing_heavy():
    code = (
        "import sys, zoo.data.catalog\n"
        "heavy = {'jax', 'numpy', 'sklearn', 'cv2', 'grain', 'tensorflow_datasets', 'PIL'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or None)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"folder", "tfds:NAME"}))
def test_the_default_directory_comes_from_the_environment(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path))
    assert data_dir(ImageData(name=name)) == tmp_path / name
    monkeypatch.delenv("ZOO_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data_dir(ImageData(name=name)) == tmp_path / "home" / "zoo_data" / name
    assert data_dir(ImageData(name=name, dir="~/x")) == tmp_path / "home" / "x"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("cifar1O", "no dataset 'cifar1O'; did you mean 'cifar10'"),
        ("food101", "tfds:food101 would ask TensorFlow Datasets"),
        ("tfds:", "no dataset 'tfds:'"),
    ],
)
def test_an_unknown_dataset_names_the_nearest(name, complaint):
    with pytest.raises(UserError, match=complaint):
        open_source(ImageData(name=name), "train")


# ---- splits ----


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("test", range(360)),
        ("test[:]", range(360)),
        ("test[:99%]", range(356)),
        ("test[99%:]", range(356, 360)),
        ("test[-10%:]", range(324, 360)),
        ("test[100:200]", range(100, 200)),
        ("test[-7:]", range(353, 360)),
        ("test[10:50%]", range(10, 180)),
        ("test[:33.2%]", range(120)),
    ],
)
def test_a_slice_holds_the_examples_that_tfds_would_take(text, want):
    data = ImageData(name="digits")
    whole, part = open_source(data, "test"), open_source(data, text)
    assert len(part) == len(want)
    for i in (0, len(want) - 1):
        np.testing.assert_array_equal(part[i]["image"], whole[want[i]]["image"])
        assert part.describe(i) == f"test[{want[i]}]"
    with pytest.raises(IndexError):
        part[len(want)]


@pytest.mark.parametrize(
    "text", ["", "train[", "train[5]", "train[a:b]", "train[:10%", "train[1:2:3]", "a+b"]
)
def test_what_is_no_split_is_refused(text):
    with pytest.raises(UserError, match="neither a split's name nor a slice"):
        parse_split(text)


@pytest.mark.parametrize("text", ["test[300:400]", "test[-400:]", "test[50:50]", "test[60:10]"])
def test_a_slice_past_the_end_or_empty_is_refused(text):
    with pytest.raises(UserError, match="of 360: give bounds with examples between them"):
        open_source(ImageData(name="digits"), text)


# ---- digits ----


def test_digits_are_split_evenly_and_completely():
    data = ImageData(name="digits")
    assert list_splits(data) == ("train", "test")
    train, test = open_source(data, "train"), open_source(data, "test")
    assert (len(train), len(test)) == (1437, 360)
    assert {len(train), len(test)} == set((DATASETS["digits"].splits or {}).values())
    labels = [test[i]["label"] for i in range(360)]
    assert np.bincount(labels).tolist() == [36] * 10
    pixels = [bytes(s[i]["image"]) for s in (train, test) for i in range(len(s))]
    assert len(set(pixels)) == 1797  # no scan is in both, none is lost
    image = np.asarray(train[0]["image"])
    assert image.shape == (8, 8, 1)
    levels = {v for s in (train, test) for i in range(len(s)) for v in bytes(s[i]["image"])}
    assert levels == {round(v * 255 / 16) for v in range(17)}
    with pytest.raises(UserError, match="digits has no split 'trian'; did you mean 'train'"):
        open_source(data, "trian")


def test_a_source_in_memory_pickles_without_its_pixels():
    source = open_source(ImageData(name="digits"), "train[5:]")
    data = pickle.dumps(source)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data)[2]["image"], source[2]["image"])


# ---- folders ----


def test_folders_of_splits_and_classes(tmp_path):
    names = ["train/dog/b.JPG", "train/cat/2.png", "train/cat/1.jpeg", "val/dog/x.webp"]
    write_images(tmp_path, [*names, "train/.cache/y.png", "train/cat/.z.png"])
    (tmp_path / "train/cat/notes.txt").write_text("")
    data = ImageData(name="folder", dir=str(tmp_path))
    assert list_splits(data) == ("train", "val")
    source = open_source(data, "train")
    assert source.classes == ("cat", "dog")
    assert [source[i]["label"] for i in range(len(source))] == [0, 0, 1]
    assert source.describe(0) == str(tmp_path / "train/cat/1.jpeg")
    assert source[0]["image"] == (tmp_path / "train/cat/1.jpeg").read_bytes()
    # A split without some class still has the labels of the training split.
    val = open_source(data, "val")
    assert (len(val), val[0]["label"], val.classes) == (1, 1, ("cat", "dog"))


def test_folders_of_classes_are_split_by_a_hash_that_later_files_hardly_change(tmp_path):
    write_images(tmp_path, [f"{c}/{i}.png" for c in ("a", "b") for i in range(40)])
    data = ImageData(name="folder", dir=str(tmp_path))
    files = {}
    for split in ("train", "test"):
        source = open_source(data, split)
        files[split] = {source.describe(i) for i in range(len(source))}
        assert sum(source[i]["label"] for i in range(len(source))) == len(source) // 2
    assert (len(files["train"]), len(files["test"])) == (72, 8)
    assert not files["train"] & files["test"]
    # Pinned: another choice would move images that a model was trained on into the test split.
    names = sorted(file.removeprefix(f"{tmp_path}/a/") for file in files["test"] if "/a/" in file)
    assert names == ["0.png", "33.png", "6.png", "8.png"]
    write_images(tmp_path, ["a/new.png"])
    source = open_source(data, "test")
    again = {source.describe(i) for i in range(len(source))}
    assert len(again & files["test"]) >= 7


def test_a_class_called_train_is_a_class(tmp_path):
    write_images(tmp_path, [f"{c}/{i}.png" for c in ("plane", "train") for i in range(3)])
    source = open_source(ImageData(name="folder", dir=str(tmp_path)), "train")
    assert source.classes == ("plane", "train")


@pytest.mark.parametrize(
    ("names", "split", "complaint"),
    [
        ([], "train", "is no directory: data.name 'folder' needs SPLIT/CLASS"),
        (["loose.png"], "train", "holds no folders: data.name 'folder' needs SPLIT/CLASS"),
        (["train/a/1.png", "val/a/1.png"], "test", "has no split 'test'"),
        (["train/a/1.png", "test/b/1.png"], "test", "holds the folders b, which are no classes"),
        (["train/a/1.gif"], "train", r"train/a holds no image \(.png, .jpg"),
        (["a/1.png", "b/1.png", "b/2.png"], "train", "a holds one image"),
    ],
)
def test_folders_that_do_not_fit_are_named(tmp_path, names, split, complaint):
    write_images(tmp_path / "x", names)
    with pytest.raises(UserError, match=complaint):
        open_source(ImageData(name="folder", dir=str(tmp_path / "x")), split)


# ---- TFDS ----


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """A dataset of six images that TFDS prepared as ArrayRecord; needs no TensorFlow."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyImages(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "mask": tfds.features.Image(shape=(None, None, 1)),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, _):
            return {"train": self._generate_examples(4), "test": self._generate_examples(2)}

        def _generate_examples(self, count):
            for i in range(count):
                image, mask = io.BytesIO(png(i)), io.BytesIO(b"never decoded")
                yield i, {"image": image, "mask": mask, "label": i % 2}

    root = tmp_path_factory.mktemp("tfds")
    TinyImages(data_dir=str(root), file_format="array_record").download_and_prepare()
    return root


def test_tfds_yields_the_encoded_images(tfds_dir):
    data = ImageData(name="tfds:tiny_images", dir=str(tfds_dir))
    assert set(list_splits(data)) == {"train", "test"}
    source = open_source(data, "train")
    assert source.classes == ("cat", "dog")
    images = {source[i]["image"]: source[i]["label"] for i in range(len(source))}
    assert images == {png(i): i % 2 for i in range(4)}
    copy = pickle.loads(pickle.dumps(open_source(data, "train[-1:]")))
    assert (len(copy), copy[0]) == (1, source[3])


def test_what_tfds_lacks_is_named(tfds_dir, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no split 'validation'"):
        open_source(ImageData(name="tfds:tiny_images", dir=str(tfds_dir)), "validation")
    with pytest.raises(UserError, match="TFDS has no dataset 'tfds:no_such'"):
        open_source(ImageData(name="tfds:no_such", dir=str(tfds_dir)), "train")
    with pytest.raises(UserError, match=r"not prepared as ArrayRecord.*download_and_prepare\(\)"):
        open_source(ImageData(name="tfds:mnist", dir=str(tmp_path)), "train")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match="pip install tensorflow-datasets importlib_resources"):
        open_source(ImageData(name="tfds:mnist"), "train")
