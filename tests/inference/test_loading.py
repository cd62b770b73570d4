"""`zoo.load` gives each kind of model as what it is for."""

import pytest

import zoo
from tests.families import FAMILIES
from tests.tiny import tiny_config
from zoo.config import UserError
from zoo.inference import loading


class Called(Exception):
    """A loader was called."""


class Opened:
    """Weights of which the config alone is asked for."""

    def __init__(self, config):
        self.config = config


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("images", "load_classifier"),
        ("decoder", "load_language_model"),
        ("bert", "load_filler"),
        ("text", "load_text_classifier"),
        ("pairs", "load_translator"),
    ],
)
def test_the_kind_of_data_says_what_a_model_is_for(monkeypatch, kind, expected):
    config = tiny_config() if kind == "images" else FAMILIES[kind].config()
    monkeypatch.setattr(loading, "open_weights", lambda path: Opened(config))
    assert loading._LOADERS[type(config.data)].__name__ == expected

    def call(path):
        raise Called(path)

    monkeypatch.setitem(loading._LOADERS, type(config.data), call)
    with pytest.raises(Called, match="run"):
        zoo.load("run")


def test_a_model_of_no_use_by_itself_is_named(monkeypatch):
    config = FAMILIES["answers"].config()
    monkeypatch.setattr(loading, "open_weights", lambda path: Opened(config))
    with pytest.raises(UserError, match="'question_answering': evaluate it with zoo eval"):
        zoo.load("run")
