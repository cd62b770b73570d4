"""Parameters by their '/'-joined paths, such as `blocks/attn/q/kernel`."""

from collections.abc import Callable
from typing import Any

import jax


def leaves_by_path(params: Any) -> dict[str, Any]:
    """`{"blocks/attn/q/kernel": leaf, ...}` of nested dicts or of an `nnx.State`."""
    return {_path(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}


def map_by_path(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """`jax.tree.map` of `function(path, leaf, *rest)`."""

    def named(keys, *leaves):
        return function(_path(keys), *leaves)

    return jax.tree_util.tree_map_with_path(named, tree, *rest)


def _path(keys: tuple[Any, ...]) -> str:
    # A Param in an nnx.State is a node of its own, which holds its array as an attribute.
    if keys and isinstance(keys[-1], jax.tree_util.GetAttrKey):
        keys = keys[:-1]
    return "/".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in keys)
