"""Ordered tables of patterns of parameters' paths."""

import re
from collections.abc import Iterable

from zoo.config import UserError
from zoo.config.load import nearest
from zoo.config.schema import Rules


def resolve_rules(rules: Rules, paths: Iterable[str], *, key: str) -> dict[str, float]:
    """The value of the first rule whose pattern matches the whole path, for each path.

    Raises:
      UserError: a path without a rule, or a rule that decides for no path (but for a last `.*`).
    """
    paths = list(paths)
    patterns = {pattern: matching_paths(pattern, paths, key) for pattern, _ in rules}
    values: dict[str, float] = {}
    for pattern, value in rules:
        fresh = [path for path in patterns[pattern] if path not in values]
        if not fresh and pattern != ".*":
            raise UserError(
                f"optimizer.{key}: {pattern!r} decides for no parameter, since rules before it "
                f"match {patterns[pattern][0]!r} and all others it matches: move it up"
            )
        values.update(dict.fromkeys(fresh, value))
    for path in paths:
        if path not in values:
            raise UserError(
                f"optimizer.{key}: no rule covers the parameter {path!r}: "
                "add one, or end with a rule for '.*'"
            )
    return values


def matching_paths(pattern: str, paths: Iterable[str], key: str) -> list[str]:
    """The paths that a regular expression matches as a whole; a UserError where it matches none."""
    try:
        found = [path for path in paths if re.fullmatch(pattern, path)]
    except re.error as error:
        raise UserError(
            f"optimizer.{key}: {pattern!r} is no regular expression: {error}"
        ) from error
    if not found:
        plain = re.sub(r"[^\w/]+", "", pattern)
        raise UserError(
            f"optimizer.{key}: {pattern!r} matches no parameter{nearest(plain, list(paths))}"
        )
    return found
