"""The README says what is there."""

import re
import shlex
from pathlib import Path

from zoo.cli import split_overrides
from zoo.commands.parser import make_parser
from zoo.config import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands():
    lines = re.findall(r"^\$ (zoo .*)$", README, re.MULTILINE)
    assert len(lines) > 8
    return [split_overrides(shlex.split(line)[1:]) for line in lines]


def test_every_command_is_one_that_the_parser_takes():
    for argv, overrides in commands():
        args = make_parser().parse_args(argv)
        if getattr(args, "config", None) and "weigth" not in str(overrides):
            load_config(args.config, overrides)


def test_the_tree_names_what_is_there_and_leaves_out_no_room():
    tree = README.partition("## How the code is organised")[2]
    named = re.findall(r"^([a-z_]+(?:/[a-z_.]+)?/?) {2,}\S", tree, re.MULTILINE)
    assert all((ROOT / name).exists() for name in named), named
    rooms = {f"zoo/{p.name}/" for p in (ROOT / "zoo").iterdir() if (p / "__init__.py").exists()}
    assert rooms <= set(named)


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
