"""Files in the layouts that the authors of MNIST and CIFAR published."""

import gzip
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from zoo.config import UserError
from zoo.data import official
from zoo.data.official import open_cifar, open_mnist


def idx(array: np.ndarray) -> bytes:
    shape = b"".join(struct.pack(">I", n) for n in array.shape)
    return struct.pack(">I", 0x800 + array.ndim) + shape + array.tobytes()


def write_mnist(root, count=5):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    label = rng.integers(0, 10, count, dtype=np.uint8)
    root.mkdir(exist_ok=True)
    for stem in ("train", "t10k"):
        (root / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(image)))
        (root / f"{stem}-labels-idx1-ubyte").write_bytes(idx(label))
    return image, label


def test_mnist_reads_plain_and_gzipped_files(tmp_path):
    image, label = write_mnist(tmp_path)
    for name in ("mnist", "fashion_mnist"):
        source = open_mnist(name, tmp_path, "test")
        assert len(source) == 5
        for i in range(5):
            np.testing.assert_array_equal(source[i]["image"], image[i][..., None])
            assert source[i]["label"] == label[i]
    assert source.classes[9] == "Ankle boot"
    assert source.describe(3) == "test[3]"


def test_fashion_mnist_is_found_where_debian_puts_it(tmp_path, monkeypatch):
    write_mnist(tmp_path / "debian", count=4)
    monkeypatch.setattr(official, "DEBIAN_FASHION", tmp_path / "debian")
    assert len(open_mnist("fashion_mnist", tmp_path / "nowhere", "train")) == 4
    with pytest.raises(UserError, match="nowhere does not exist: mnist needs train-images"):
        open_mnist("mnist", tmp_path / "nowhere", "train")


@pytest.mark.parametrize(
    ("file", "damage", "complaint"),
    [
        ("train-labels-idx1-ubyte", lambda b: b[:-1], "holds 4 values, but its header says 5"),
        ("train-labels-idx1-ubyte", lambda b: b"PK" + b[2:], "is no idx file .* starts with 504b"),
        ("train-labels-idx1-ubyte", lambda b: b"", "starts with nothing"),
        ("train-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a", "labels 0 to 10, but 10 classes"),
        ("train-images-idx3-ubyte.gz", lambda b: b[:-20], "is no whole gzip file"),
        ("train-images-idx3-ubyte.gz", lambda b: b"html", "is no whole gzip file"),
    ],
)
def test_a_damaged_mnist_file_is_named(tmp_path, file, damage, complaint):
    write_mnist(tmp_path)
    path = tmp_path / file
    data = path.read_bytes()
    if "0 to 10" in complaint:
        data = idx(np.arange(5, dtype=np.uint8))
    path.write_bytes(damage(data))
    with pytest.raises(UserError, match=complaint):
        open_mnist("mnist", tmp_path, "train")


# ---- CIFAR ----


def cifar_images(count, classes, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return image, rng.integers(0, classes, count, dtype=np.uint8)


def planes(image):
    return image.transpose(0, 3, 1, 2).reshape(len(image), 3072)


def python2_pickle(image, key, label):
    """Byte for byte what Python 2's cPickle (protocol 2) writes for such a dict."""
    rows = planes(image)
    text = lambda s: b"U" + bytes([len(s)]) + s
    number = lambda n: b"J" + struct.pack("<i", n)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        b"(K\x01" + number(len(rows)) + number(3072) + b"\x86cnumpy\ndtype\n" + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + number(-1) + number(-1) + b"K\x00tb\x89"
        + b"T" + struct.pack("<i", rows.nbytes) + rows.tobytes() + b"tb"
    )  # fmt: skip
    labels = b"](" + b"".join(number(int(n)) for n in label) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(key) + labels + b"u."


def cifar_files(name, version):
    """{file: content} of a published version with two or three images a file, and the images."""
    files, images, labels = {}, [], []
    names = {
        ("cifar10", "binary"): [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"],
        ("cifar10", "python"): [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"],
        ("cifar100", "binary"): ["train.bin", "test.bin"],
        ("cifar100", "python"): ["train", "test"],
    }[name, version]
    for i, file in enumerate(names):
        image, label = cifar_images(2 + i % 2, 10 if name == "cifar10" else 100, i)
        if version == "python":
            key = b"labels" if name == "cifar10" else b"fine_labels"
            files[file] = python2_pickle(image, key, label)
        else:
            columns = [label[:, None], planes(image)]
            if name == "cifar100":
                columns.insert(0, np.full_like(label[:, None], 7))  # the coarse label
            files[file] = np.concatenate(columns, axis=1).tobytes()
        images.append(image)
        labels.append(label)
    return files, images, labels


FOLDERS = {
    ("cifar10", "binary"): ("cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
    ("cifar10", "python"): ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    ("cifar100", "binary"): ("cifar-100-binary", "cifar-100-binary.tar.gz"),
    ("cifar100", "python"): ("cifar-100-python", "cifar-100-python.tar.gz"),
}


def lay_out(root, files, folder, archive, how):
    if how == "archive":
        with tarfile.open(root / archive, "w:gz") as tar:
            for file, data in files.items():
                member = tarfile.TarInfo(f"{folder}/{file}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return
    base = root if how == "bare" else root / folder
    base.mkdir(exist_ok=True)
    for file, data in files.items():
        (base / file).write_bytes(data)


@pytest.mark.parametrize("how", ["bare", "folder", "archive"])
@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_reads_every_published_layout(tmp_path, name, version, how):
    files, images, labels = cifar_files(name, version)
    lay_out(tmp_path, files, *FOLDERS[name, version], how)
    for split, part in (("train", slice(0, -1)), ("test", slice(-1, None))):
        source = open_cifar(name, tmp_path, split)
        found = [source[i] for i in range(len(source))]
        np.testing.assert_array_equal([e["image"] for e in found], np.concatenate(images[part]))
        assert [e["label"] for e in found] == np.concatenate(labels[part]).tolist()
    assert len(source.classes) == len(set(source.classes)) == (10 if name == "cifar10" else 100)


def test_class_names_stand_in_the_published_order():
    assert official.CIFAR10_CLASSES[3] == "cat"
    assert official.CIFAR10_CLASSES[9] == "truck"
    assert list(official.CIFAR100_CLASSES) == sorted(official.CIFAR100_CLASSES)
    assert official.CIFAR100_CLASSES[49] == "mountain"


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Evil(), b"labels": [0]}),
        pickle.dumps({b"data": np.array([Evil()], object), b"labels": [0]}),
        pickle.dumps({b"data": np.zeros((1, 3), np.uint8), b"labels": [0]}, protocol=4),
        pickle.dumps({b"labels": [0]}),
        b"no pickle",
    ],
)
def test_a_pickle_that_is_no_batch_is_refused_and_runs_nothing(tmp_path, capsys, content):
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}").write_bytes(content)
    with pytest.raises(UserError, match="data_batch_1 is no batch of CIFAR's python version"):
        open_cifar("cifar10", tmp_path, "train")
    assert "this ran" not in capsys.readouterr().out


def test_incomplete_cifar_files_are_named(tmp_path):
    files, _, _ = cifar_files("cifar10", "binary")
    lay_out(tmp_path, files, "", "", "bare")
    (tmp_path / "data_batch_2.bin").write_bytes(files["data_batch_2.bin"][:-1])
    with pytest.raises(UserError, match=r"data_batch_2.bin is no whole number of 3073-byte"):
        open_cifar("cifar10", tmp_path, "train")
    (tmp_path / "data_batch_2.bin").unlink()
    with pytest.raises(UserError, match=r"data_batch_2.bin is missing"):
        open_cifar("cifar10", tmp_path, "train")


def test_a_cut_archive_and_an_empty_directory_are_named(tmp_path):
    files, _, _ = cifar_files("cifar10", "binary")
    with pytest.raises(UserError, match=r"does not hold the files: cifar10 needs cifar-10-batches"):
        open_cifar("cifar10", tmp_path, "train")
    lay_out(tmp_path, files, *FOLDERS["cifar10", "binary"], "archive")
    archive = tmp_path / "cifar-10-binary.tar.gz"
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(UserError, match="is not as published"):
        open_cifar("cifar10", tmp_path, "train")
