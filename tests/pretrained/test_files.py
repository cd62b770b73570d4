"""Hostile, cut and odd files get one clear line, and nothing is written beside the target."""

import json
import os
import pickle
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.pretrained.published import write_published
from tests.pretrained.test_hf_bert import CONFIG, publish
from zoo.cli import main
from zoo.config import UserError
from zoo.pretrained.files import DTYPES, Spec, open_arrays, write_safetensors
from zoo.pretrained.opening import is_pretrained, open_pretrained
from zoo.pretrained.saving import Model, save

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.arange(4, dtype=np.float16),
    "ä": np.arange(3, dtype=np.int64),
    "c": np.ones((), ml_dtypes.bfloat16),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("bert"), "masked_lm")


def test_what_is_written_is_what_the_library_writes(tmp_path):
    save_file(ARRAYS, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    specs = {name: Spec(array.shape, array.dtype) for name, array in ARRAYS.items()}
    write_safetensors(tmp_path / "ours.safetensors", specs, ARRAYS.__getitem__, {"format": "pt"})
    ours, theirs = (tmp_path / f"{name}.safetensors" for name in ("ours", "theirs"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {ours.name, theirs.name}


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_arrays_and_layers_come_back(tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    if suffix == "npz":
        np.savez(path, **{name: ARRAYS[name] for name in "ab"}, **{"x/y": ARRAYS["c"]})
    else:
        save_file(ARRAYS, path)
    file = open_arrays(path)
    assert file.specs["b"] == Spec((2, 3), np.dtype(np.float32))
    np.testing.assert_array_equal(file.read("b"), ARRAYS["b"])
    np.testing.assert_array_equal(file.read("b", 1), ARRAYS["b"][1])
    short = file.read("c" if suffix == "safetensors" else "x/y")
    assert short.dtype == ml_dtypes.bfloat16
    assert short == 1


def test_shards_are_one_model(tmp_path, source):
    arrays = {name: open_arrays(source).read(name) for name in open_arrays(source).specs}
    directory = write_shards(tmp_path, arrays)
    whole, sharded = open_pretrained(source), open_pretrained(directory)
    for path in whole.mapped.shapes:
        np.testing.assert_array_equal(sharded.mapped.read(path), whole.mapped.read(path))
    (directory / "model-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-2.safetensors is not there"):
        open_pretrained(directory)


def write_shards(directory, arrays, **changes):
    """Two files and their index."""
    (directory / "config.json").write_text(json.dumps(CONFIG))
    names, where = sorted(arrays), {}
    for i, some in enumerate((names[::2], names[1::2]), 1):
        save_file({n: arrays[n] for n in some}, directory / f"model-{i}.safetensors")
        where |= dict.fromkeys(some, f"model-{i}.safetensors")
    index = {"metadata": {}, "weight_map": {**where, **changes}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("../model-1.safetensors", "is no file beside the index"),
        ("/etc/passwd", "is no file beside the index"),
        ("model-1.bin", "is no file beside the index"),
        ("model-2.safetensors", "is not in model-2.safetensors"),
        (7, "weight_map does not map names to names"),
    ],
)
def test_an_index_names_files_beside_it_and_what_they_hold(tmp_path, place, complaint):
    directory = write_shards(tmp_path, {"a": np.ones(2), "b": np.ones(3)}, a=place)
    with pytest.raises(UserError, match=complaint):
        open_pretrained(directory)


def damage(path, kind):
    """Changes a good safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = "bert.embeddings.LayerNorm.bias"
    if kind == "cut":
        path.write_bytes(content[:-10])
        return
    if kind == "empty":
        path.write_bytes(b"")
        return
    if kind == "huge header":
        path.write_bytes((2**60).to_bytes(8, "little") + content[8:])
        return
    if kind == "no json":
        path.write_bytes(content[:8] + b"\xff" * length + rest)
        return
    if kind == "shape":
        header[name]["shape"] = [2**40, 2**40]
    if kind == "offsets":
        header[name]["data_offsets"] = [0, 2**62]
    if kind == "overlap":
        header[name]["data_offsets"] = header["bert.embeddings.LayerNorm.weight"]["data_offsets"]
    if kind == "type":
        header[name]["dtype"] = "I32"
    if kind in ("nan", "infinity"):
        start = header[name]["data_offsets"][0]
        value = np.float32("nan" if kind == "nan" else "inf").tobytes()
        rest = rest[:start] + value + rest[start + 4 :]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + rest)


@pytest.mark.parametrize(
    "kind",
    [
        "cut", "empty", "huge header", "no json", "shape", "offsets", "overlap", "type", "nan",
        "infinity",
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_in_a_line_and_nothing_is_written(kind, tmp_path, capsys):
    directory = publish(tmp_path / "source", "masked_lm")
    damage(directory / "model.safetensors", kind)
    argv = ["convert", "--from", str(directory), "--to", str(tmp_path / "out")]
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "model.safetensors" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_bytes_changed_at_random_never_crash_it(tmp_path, source):
    good = (source / "model.safetensors").read_bytes()
    length = int.from_bytes(good[:8], "little") + 8
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(60):
        content = bytearray(good)
        for place in rng.integers(0, length, 1 + i % 4):
            content[place] = rng.integers(0, 256)
        path = write_published(tmp_path, CONFIG, {"x": np.ones(1)})
        (path / "model.safetensors").write_bytes(bytes(content))
        try:
            found = open_pretrained(path)
            [found.mapped.read(name) for name in found.mapped.shapes]
        except UserError:
            refused += 1
    assert refused > 40


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickles_are_never_opened(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for name in ("pytorch_model.bin", "weights.pt", "model.ckpt"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Bomb()))
        for given in (path, tmp_path):
            assert main(["predict", "--weights", str(given), "x.png"]) == 2
            assert "torch.load(" in capsys.readouterr().err
        path.unlink()
    np.savez(tmp_path / "weights.npz", a=np.array([Bomb()], object))
    with pytest.raises(UserError, match="never unpickled"):
        open_arrays(tmp_path / "weights.npz")
    assert not (tmp_path / "exploded").exists()


def test_an_archive_says_how_long_its_members_are(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, a=np.zeros(8))
    with zipfile.ZipFile(path) as archive:
        content = archive.read("a.npy")
    claim = content.replace(b"(8,), }" + b" " * 10, b"(80000000000,), }")
    assert b"80000000000" in claim
    for member in (claim, content[:20], b"", b"no array"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", member)
        with pytest.raises(UserError, match=r"is no \.npz that can be read"):
            open_arrays(path)
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UserError, match=r"is no \.npz that can be read"):
        open_arrays(path)


def test_what_is_not_there_or_nothing_that_zoo_reads_is_named(tmp_path):
    with pytest.raises(UserError, match="there are no weights"):
        open_pretrained(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("no weights")
    assert not is_pretrained(tmp_path)
    for content, complaint in (
        ("{", "is no JSON that can be read"),
        ("[1]", "is no JSON object"),
        ('{"model_type": "berd"}', "did you mean 'bert'"),
        ("{}", "needs the config.json"),
        ("[" * 100_000, "is no JSON that can be read"),
    ):
        save_file({"x": np.ones(1, np.float32)}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match=complaint):
            open_pretrained(tmp_path)
    save_file({"x": np.ones(1, np.float32)}, tmp_path / "other.safetensors")
    (tmp_path / "model.safetensors").rename(tmp_path / "one.safetensors")
    with pytest.raises(UserError, match="several files of weights"):
        open_pretrained(tmp_path)


def test_a_target_that_holds_something_is_left_alone(tmp_path, source, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    assert main(["convert", "--from", str(source), "--to", str(tmp_path / "out")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_every_type_that_is_read_is_known_to_the_writer():
    assert {dtype.name for dtype in DTYPES.values()} >= {"float32", "bfloat16", "float16"}


def test_a_conversion_holds_little_more_than_its_largest_array(tmp_path):
    """As in BERT-large, an array with all layers is a third of the model."""
    depth, width, mlp = 24, 128, 512
    tree = CONFIG | {
        "hidden_size": width, "num_hidden_layers": depth, "intermediate_size": mlp,
        "vocab_size": 1000,
    }  # fmt: skip
    arrays = large(depth, width, mlp)
    size = sum(array.nbytes for array in arrays.values())
    found = open_pretrained(write_published(tmp_path / "source", tree, arrays))
    read, shapes = found.mapped.read, found.mapped.shapes
    model = Model(found.config, found.classes, found.tokenizer, shapes, read)
    for format, share in (("zoo", 0.5), ("hf", 0.1)):
        tracemalloc.start()
        save(model, tmp_path / format, format)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < share * size, format


def large(depth, width, mlp):
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (1000, width),
        "embeddings.position_embeddings.weight": (12, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,), "embeddings.LayerNorm.bias": (width,),
    }  # fmt: skip
    for i in range(depth):
        layer = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            shapes |= {f"{layer}.attention.self.{name}.weight": (width, width)}
            shapes |= {f"{layer}.attention.self.{name}.bias": (width,)}
        sizes = {"attention.output.dense": (width, width), "intermediate.dense": (mlp, width)}
        for name, shape in (sizes | {"output.dense": (width, mlp)}).items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{name}.weight": (width,), f"{layer}.{name}.bias": (width,)}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
