"""Weights in several files: how they are split, named and found again."""

import json

import numpy as np
import pytest

from tests.pretrained.test_hf_bert import publish
from zoo.cli import main
from zoo.config import UserError
from zoo.pretrained.files import Safetensors, Spec, open_arrays
from zoo.pretrained.opening import open_pretrained
from zoo.pretrained.shards import parse_size, split


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5 * 10**9),
        ("500mb", 500 * 10**6),
        ("1 GiB", 2**30),
        ("1.5KB", 1500),
        ("12B", 12),
        ("12", 12),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "5 potatoes", "0", "0.1B", "5GBs", "1e3"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UserError, match="is no size: write it as 5GB"):
        parse_size(text)


def test_files_are_filled_in_order_and_what_is_larger_is_alone():
    sizes = {"a": 3, "b": 5, "c": 2, "d": 30, "e": 1, "f": 7}
    specs = {name: Spec((size,), np.dtype(np.float16)) for name, size in sizes.items()}
    assert [[*file] for file in split(specs, 16)] == [["a", "b"], ["c"], ["d"], ["e", "f"]]
    assert [[*file] for file in split(specs, 1000)] == [[*"abcdef"]]


def test_a_model_in_several_files_is_the_same_model(tmp_path):
    source = publish(tmp_path / "source", "pretraining")
    out, back = tmp_path / "out", tmp_path / "back"
    argv = ["convert", "--from", str(source), "--to", str(out), "--format", "hf"]
    assert main([*argv, "--shard-size", "3KB"]) == 0
    files = sorted(path.name for path in out.glob("*.safetensors"))
    count = len(files)
    assert count > 3
    assert files == [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    index = json.loads((out / "model.safetensors.index.json").read_text())
    whole = open_arrays(source)
    assert index["weight_map"].keys() == whole.specs.keys()
    sizes = [np.prod(spec.shape) for spec in whole.specs.values()]
    assert index["metadata"] == {"total_parameters": sum(sizes), "total_size": 4 * sum(sizes)}
    for name in files:
        held = Safetensors(out / name, {out / name: None})
        assert held.metadata == {"format": "pt"}
        size = sum(4 * int(np.prod(spec.shape)) for spec in held.specs.values())
        assert size <= 3000 or len(held.specs) == 1
    there, here = open_pretrained(source), open_pretrained(out)
    assert here.config.model == there.config.model
    assert main(["convert", "--from", str(out), "--to", str(back), "--format", "hf"]) == 0
    assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_other_formats_are_one_file(tmp_path, capsys):
    source = publish(tmp_path / "source", "none")
    argv = ["convert", "--from", str(source), "--to", str(tmp_path / "out"), "--shard-size", "1GB"]
    assert main(argv) == 2
    assert "--format zoo is one file: leave --shard-size out" in capsys.readouterr().err
    assert main([*argv[:-1], "lots", "--format", "hf"]) == 2
    assert "--shard-size 'lots' is no size" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
