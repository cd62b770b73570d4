"""Config files in, checked `Config` objects out; a complaint names the key and the nearest one."""

import ast
import difflib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec

from zoo.config.base import Section
from zoo.config.duration import parse_duration
from zoo.config.schema import Config

CONFIG_DIR = Path(__file__).parents[2] / "configs"


class UserError(ValueError):
    """The input is at fault: the command line prints the message alone and exits with 2."""

    exit_code = 2


class ConfigError(UserError):
    """A config file, a key or a value does not fit."""


def nearest(name: str, choices: Sequence[str]) -> str:
    """`"; did you mean 'x'?"`, or all choices where none is near."""
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(choices)}" if choices else ""


def load_config(spec: str, overrides: Mapping[str, str] | None = None) -> Config:
    """Reads `FILE.py[:arg]`, a stored `config.json`, or the bare name of a shipped config.

    Args:
      spec: where the config is; `arg` goes to the file's `get_config(arg)`.
      overrides: dotted key -> text of the value, as from `--config.KEY=VALUE`.

    Raises:
      ConfigError: no such file, or whatever `parse_config` refuses.
    """
    name, _, arg = spec.partition(":")
    path = _find(name)
    if path.suffix == ".json":
        if arg:
            raise ConfigError(
                f"{path} takes no argument, {arg!r} is given: change it with --config.KEY"
            )
        try:
            tree = json.loads(path.read_text())
        except ValueError as error:
            raise ConfigError(f"{path} is no JSON: {error}") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} holds no config: its JSON is no object")
    else:
        tree = _run(path, arg)
    return _parse_changed(tree, overrides or {}, origin=str(path))


def override_config(config: Config, overrides: Mapping[str, str], *, origin: str) -> Config:
    """The config with keys changed as `load_config` changes them.

    Raises:
      ConfigError: an unknown key, a wrong type or value.
    """
    return _parse_changed(to_dict(config), overrides, origin=origin)


def parse_config(tree: Mapping[str, Any], *, origin: str = "config") -> Config:
    """Checks a nested dict strictly and fills in the defaults.

    Raises:
      ConfigError: an unknown key, a wrong type or value, or a missing key.
    """
    if isinstance(tree.get("data"), Mapping):
        tree = {**tree, "data": {"kind": "images", **tree["data"]}}
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {_explain(str(error), tree)}") from error
    durations = {
        "total": config.total,
        "log_every": config.log_every,
        "eval_every": config.eval_every,
        "save_every": config.save_every,
        "optimizer.warmup": config.optimizer.warmup,
        "optimizer.cooldown": config.optimizer.cooldown,
    }
    for key, text in durations.items():
        try:
            amount, _ = parse_duration(text)
        except ValueError as error:
            raise ConfigError(f"{origin}: config.{key}: {error}") from error
        if key.endswith("_every") and not amount:
            raise ConfigError(
                f"{origin}: config.{key}: {text!r} never comes: give more, such as config.total"
            )
    return config


def to_dict(section: Section) -> dict[str, Any]:
    """All keys, defaults filled in, as plain JSON values."""
    return json.loads(msgspec.json.encode(section))


def flat_config(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested keys, dotted; lists count as values."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    parts = (flat_config(v, f"{prefix}.{k}".strip(".")) for k, v in tree.items())
    return {key: value for part in parts for key, value in part.items()}


def _parse_changed(tree: dict[str, Any], overrides: Mapping[str, str], *, origin: str) -> Config:
    for key, text in overrides.items():
        tree = _override(tree, key, text)
    return parse_config(tree, origin=origin)


def _find(name: str) -> Path:
    path = Path(name)
    shipped = CONFIG_DIR / (path.name if path.suffix == ".py" else f"{name}.py")
    for candidate in (path, path / "config.json", shipped):
        if candidate.is_file():
            return candidate
    names = sorted(p.stem for p in CONFIG_DIR.glob("*.py"))
    raise ConfigError(f"no config file {name!r}{nearest(path.stem, names)}")


def _run(path: Path, arg: str) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(f"zoo_config_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(arg) if arg else module.get_config()
        return json.loads(config.to_json_best_effort())
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error


def _override(tree: Any, key: str, text: str) -> Any:
    """The tree with one dotted key set; an index steps into a list."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        value = text
    value = {"true": True, "false": False, "null": None}.get(text, value)
    head, _, rest = key.partition(".")
    if not head:
        raise ConfigError("--config.KEY=VALUE: a part of KEY is empty")
    if isinstance(tree, list):
        if not head.isdigit() or int(head) >= len(tree):
            raise ConfigError(f"--config.…{key}: {head!r} is no index of a list of {len(tree)}")
        tree = list(tree)
        tree[int(head)] = _override(tree[int(head)], rest, text) if rest else value
        return tree
    if not isinstance(tree, dict | None):
        raise ConfigError(f"--config.…{key}: there is no key below {tree!r}")
    tree = dict(tree or {})
    tree[head] = _override(tree.get(head), rest, text) if rest else value
    return tree


def _explain(message: str, tree: Mapping[str, Any]) -> str:
    """msgspec's message, with the dotted key and the nearest valid one."""
    message, _, where = message.partition(" - at `$")
    where = where.rstrip("`").strip(".")
    unknown = re.search(r"unknown field `(\w+)`", message)
    if unknown:
        key = f"{where}.{unknown[1]}".strip(".")
        return f"there is no key config.{key}{nearest(unknown[1], _keys(_type_at(where, tree)))}"
    key = f"config.{where}".rstrip(".")
    missing = re.search(r"missing required field `(\w+)`", message)
    if missing:
        return f"{key}.{missing[1]} is missing"
    invalid = re.search(r"Invalid (?:enum )?value (.+)", message)
    if invalid:
        section, _, name = where.rpartition(".")
        kinds = _sections(_type_at(section, tree, resolve=False))
        tags = [str(k.__struct_config__.tag) for k in kinds if _tag_field(k) == name]
        choices = tags or [str(c) for c in get_args(_type_at(where, tree))]
        return f"{key}: {invalid[1]} is not valid{nearest(invalid[1].strip(chr(39)), choices)}"
    return f"{key}: {message}"


def _keys(section: Any) -> list[str]:
    if not hasattr(section, "__struct_fields__"):
        return []
    tag = _tag_field(section)
    return [*section.__struct_fields__, *([tag] if tag else [])]


def _tag_field(section: Any) -> str | None:
    return section.__struct_config__.tag_field


def _sections(kind: Any) -> list[Any]:
    """The sections that a type allows: itself, or those of a union."""
    return [k for k in (get_args(kind) or (kind,)) if hasattr(k, "__struct_config__")]


def _type_at(where: str, tree: Mapping[str, Any], *, resolve: bool = True) -> Any:
    """The annotated type of a dotted key, `Config` for the empty one; None where there is none.

    Args:
      tree: the config; its tags say which section of a union is meant.
      resolve: False leaves a union at the end of the path as it is.
    """
    names = where.split(".") if where else []
    kind: Any = Config
    value: Any = tree
    for i, name in enumerate(names):
        fields = {f.name: f.type for f in msgspec.structs.fields(kind)}
        kind, value = fields.get(name), value.get(name)
        sections = _sections(kind)
        if len(sections) > 1 and (resolve or i < len(names) - 1) and isinstance(value, Mapping):
            tagged = {k.__struct_config__.tag: k for k in sections}
            kind = tagged.get(value.get(_tag_field(sections[0]) or ""))
        if not hasattr(kind, "__struct_fields__") and i < len(names) - 1:
            return None
    return kind
