"""Configs: files, overrides and what is said about a wrong one."""

import json
from pathlib import Path

import pytest

from tests.tiny import DATA, MODEL, tiny_config
from zoo.config import ConfigError, load_config
from zoo.config.load import nearest, to_dict

FILE = f"""
from ml_collections import ConfigDict

def get_config(arg="3"):
    return ConfigDict(dict(seed=int(arg), model={MODEL!r}, data={DATA!r}))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(FILE)
    return path


def test_a_file_gives_its_config_with_the_argument_and_the_defaults(file):
    assert load_config(str(file)).seed == 3
    config = load_config(f"{file}:7")
    assert config.seed == 7
    assert config.data.batch_size == DATA["batch_size"]
    assert config.optimizer.name == "adamw"


def test_a_stored_config_comes_back_from_its_file_and_from_its_folder(tmp_path):
    config = tiny_config(ema_decay=0.5, optimizer={"lr_rules": [["head/.*", 2.0], [".*", 1.0]]})
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    assert load_config(str(tmp_path / "config.json")) == config
    assert load_config(str(tmp_path), {"seed": "5"}) == config.replace(seed=5)
    with pytest.raises(ConfigError, match="takes no argument, 'x' is given"):
        load_config(f"{tmp_path / 'config.json'}:x")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        load_config(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "9", 9),
        ("optimizer.lr", "1e-4", 1e-4),
        ("model.scan", "false", False),
        ("ema_decay", "null", None),
        ("total", "5 epochs", "5 epochs"),
        ("data.train_split", "train[:10]", "train[:10]"),
        ("data.image_size", "(8, 12)", (8, 12)),
        ("data.eval_splits", "{'val': 'train[:5]'}", {"val": "train[:5]"}),
        ("task.label_smoothing", "1", 1.0),  # a section that the file does not name
        ("optimizer.options.b2", "0.95", {"b2": 0.95}),
        ("data.dir", "{[]: 1}", "{[]: 1}"),  # looks like Python, and is none
    ],
)
def test_overrides_have_the_type_of_their_key(file, key, text, value):
    found = load_config(str(file), {key: text})
    for name in key.removesuffix(".b2").split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"data.train_ops": "[]", "data.train_ops.0.op": "x"}, "'0' is no index of a list of 0"),
        ({"seed.x": "1"}, "there is no key below 3"),
        ({"sede": "1"}, "there is no key config.sede; did you mean 'seed'?"),
        ({"data.batchsize": "1"}, "no key config.data.batchsize; did you mean 'batch_size'?"),
        ({"optimizer.schedule": "cosin"}, "'cosin' is not valid; did you mean 'cosine'?"),
        ({"model.size": "B/17/2"}, "is not SIZE/PATCH"),
        ({"data.batch_size": "0"}, "config.data.batch_size: Expected `int` >= 1"),
        ({"task.label_smoothing": "1.5"}, "config.task.label_smoothing: Expected `float` <= 1.0"),
        ({"max_in_flight": "-1"}, "config.max_in_flight: Expected `int` >= 0"),
        ({"data.pixel_std": "[1, 2]"}, "config.data: pixel_std has 2 numbers: give 1 or channels"),
        ({"model.famliy": "vit"}, "no key config.model.famliy; did you mean 'family'?"),
        ({"model.family": "vitt"}, "config.model.family: 'vitt' is not valid; did you mean 'vit'?"),
        ({"data.kind": "image"}, "config.data.kind: 'image' is not valid; did you mean 'images'?"),
        ({"data.kind": "lm"}, "there is no key config.data.image_size"),
        ({"optimizer.warmup": "soon"}, "config.optimizer.warmup: 'soon' is no duration"),
        ({"save_every": "0 epochs"}, "config.save_every: '0 epochs' never comes"),
    ],
)
def test_what_does_not_fit_is_named(file, overrides, expected):
    with pytest.raises(ConfigError) as error:
        load_config(str(file), overrides)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("def get_config(): return {}", "no attribute 'to_json_best_effort'"),
        ("import nothing_of_the_kind", "ModuleNotFoundError"),
        ("x = 1", "no attribute 'get_config'"),
        ("def get_config(:", "SyntaxError"),
        (
            "from ml_collections import ConfigDict as C\ndef get_config(): return C()",
            "model is missing",
        ),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path, body, expected):
    path = tmp_path / "broken.py"
    path.write_text(body)
    with pytest.raises(ConfigError) as error:
        load_config(str(path))
    assert str(path) in str(error.value)
    assert expected in str(error.value)


def test_shipped_configs_go_by_their_bare_names():
    by_path = load_config(str(Path(__file__).parents[2] / "configs" / "digits_vit.py"))
    assert load_config("digits_vit") == load_config("digits_vit.py") == by_path
    with pytest.raises(ConfigError, match="no config file 'digit_vit'; did you mean 'digits_vit'"):
        load_config("digit_vit")


def test_nearest_names_one_or_all():
    assert nearest("acuracy", ["loss", "accuracy"]) == "; did you mean 'accuracy'?"
    assert nearest("zzz", ["loss", "accuracy"]) == "; there are: loss, accuracy"
    assert nearest("zzz", []) == ""
