"""Preparing: what comes out is what went in, all of it or nothing."""

import cv2
import msgspec
import numpy as np
import pytest

from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.data.images import decode
from zoo.data.prepare import check, encode_png, info, prepare
from zoo.data.record import INFO_FILE
from zoo.data.sources import list_splits, open_source
from zoo.data.stream import eval_batches, train_batches

DIGITS = ImageData(name="digits", image_size=8, channels=1, batch_size=64)


@pytest.fixture
def folder(tmp_path):
    """Five files of two classes, one of them unreadable, one empty."""
    root = tmp_path / "images"
    for i, name in enumerate(["train/a/1.png", "train/b/2.jpg", "test/a/3.png"]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((4 + i, 9, 3), 40 * i, np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    (root / "train/a/bad.png").write_bytes(b"no image")
    (root / "train/b/empty.jpg").write_bytes(b"")
    return ImageData(name="folder", dir=str(root))


def test_encoded_images_pass_byte_for_byte(folder, tmp_path):
    found = prepare(folder, tmp_path / "out")
    assert found["classes"] == 2
    assert {name: part["count"] for name, part in found["splits"].items()} == {
        "test": 1,
        "train": 4,
    }
    prepared = folder.replace(dir=str(tmp_path / "out"))
    assert list_splits(prepared) == list_splits(folder) == ("test", "train")
    for split in ("train", "test"):
        before, after = open_source(folder, split), open_source(prepared, split)
        assert [after[i] for i in range(len(after))] == [before[i] for i in range(len(before))]
        assert after.classes == before.classes == ("a", "b")
    assert open_source(prepared, "train").describe(1) == "train[1] (train/a/bad.png)"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "out"]  # nothing temporary


def test_arrays_lose_nothing_and_shards_end_where_they_should(tmp_path):
    found = prepare(DIGITS, tmp_path / "out", ["test"], shard_bytes=20_000)
    assert found["splits"]["test"]["count"] == 360
    assert found["splits"]["test"]["shards"] == len(list((tmp_path / "out").glob("test-*"))) > 2
    prepared = DIGITS.replace(dir=str(tmp_path / "out"))
    assert list_splits(prepared) == ("test",)
    for a, b in zip(eval_batches(DIGITS, "test"), eval_batches(prepared, "test"), strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("channels", [1, 3])
def test_an_array_becomes_the_png_that_decodes_to_it(channels):
    image = np.random.default_rng(0).integers(0, 256, (7, 5, channels), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode_png(image), channels), image)


def test_training_on_prepared_colour_images_is_training_on_the_originals(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "in" / "train" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", rng.integers(0, 256, (8, 8, 3)))[1].tobytes())
    data = ImageData(name="folder", dir=str(tmp_path / "in"), image_size=8, batch_size=4)
    prepare(data, tmp_path / "out")
    original = train_batches(data, seed=0, start=0, stop=6)
    prepared = train_batches(data.replace(dir=str(tmp_path / "out")), seed=0, start=0, stop=6)
    for a, b in zip(original, prepared, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_a_failure_leaves_nothing(folder, tmp_path, monkeypatch):
    class Broken(Exception):
        pass

    def explode(*_):
        raise Broken

    monkeypatch.setattr("zoo.data.prepare.encode_png", explode)
    with pytest.raises(Broken):
        prepare(DIGITS, tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_directory_in_use_and_an_unknown_split_are_refused(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(UserError, match="is there already"):
        prepare(DIGITS, tmp_path)
    with pytest.raises(UserError, match="no split 'tset'; did you mean 'test'"):
        prepare(DIGITS, tmp_path / "out", ["tset"])
    with pytest.raises(UserError, match=r"no split 'test\[:5\]'"):
        prepare(DIGITS, tmp_path / "out", ["test[:5]"])


def test_a_damaged_prepared_dataset_is_named(tmp_path):
    out = tmp_path / "out"
    prepare(DIGITS, out, ["test"])
    prepared = DIGITS.replace(dir=str(out))
    (shard,) = out.glob("test-*")
    data = bytearray(shard.read_bytes())
    data[data.index(b"\x89PNG") + 60] ^= 1
    shard.write_bytes(data)
    found = check(prepared, "test")
    assert len(found["unreadable"]) == 1
    assert "hash mismatch" in found["unreadable"][0]["reason"]
    shard.write_bytes(data[:-1])
    with pytest.raises(UserError, match=r"has \d+ bytes, not \d+: copy it again"):
        open_source(prepared, "test")
    shard.unlink()
    with pytest.raises(UserError, match=r"test-00000.arrayrecord is missing"):
        open_source(prepared, "test")
    with pytest.raises(UserError, match="no split 'train'"):
        open_source(prepared, "train")


def test_an_info_file_of_something_else_is_refused(tmp_path):
    prepare(DIGITS, tmp_path / "out", ["test"])
    data = DIGITS.replace(dir=str(tmp_path / "out"))
    with pytest.raises(UserError, match=r"was prepared from 'digits', but data.name is 'mnist'"):
        open_source(data.replace(name="mnist"), "test")
    path = tmp_path / "out" / INFO_FILE
    content = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(content | {"format": "zoo image records 9"}))
    with pytest.raises(UserError, match="prepare it again"):
        open_source(data, "test")
    path.write_bytes(b"{")
    with pytest.raises(UserError, match="is no description of a prepared dataset"):
        open_source(data, "test")


def test_info_tells_what_there_is(folder, tmp_path):
    assert info(folder) == {
        "name": "folder",
        "dir": folder.dir,
        "classes": ["a", "b"],
        "splits": {"test": {"count": 1}, "train": {"count": 4}},
    }
    found = info(DIGITS)
    assert found["dir"] is None
    assert found["splits"] == {"train": {"count": 1437}, "test": {"count": 360}}


def test_check_names_every_unreadable_image_and_counts_the_rest(folder):
    found = check(folder, "train")
    names = [bad["name"] for bad in found["unreadable"]]
    assert names == [f"{folder.dir}/train/a/bad.png", f"{folder.dir}/train/b/empty.jpg"]
    assert all(bad["reason"] for bad in found["unreadable"])
    assert (found["count"], found["ok"]) == (4, False)
    assert found["per_class"] == {"a": 1, "b": 1}
    assert (found["rows"], found["cols"]) == ([4, 5], [9, 9])
    assert check(folder, "test")["ok"]
    found = check(DIGITS, "test[:50%]")
    assert (found["count"], found["ok"], found["rows"]) == (180, True, [8, 8])
    assert sum(found["per_class"].values()) == 180
