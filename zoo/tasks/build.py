"""From a config to its model: the structure, the shapes and fresh parameters."""

from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from zoo.config.schema import Config
from zoo.models.vit import ViT
from zoo.sharding.rules import param_shardings

Params = dict[str, Any]  # nested by module attribute, arrays at the leaves


def abstract_model(config: Config) -> tuple[nnx.GraphDef, nnx.State]:
    """The model's structure and the shapes of its parameters, with nothing allocated."""
    return nnx.split(nnx.eval_shape(lambda: ViT(config.model, rngs=nnx.Rngs(0))))


def abstract_params(config: Config, mesh: Mesh) -> Params:
    """Shapes, types and shardings of the parameters on a mesh."""
    _, state = abstract_model(config)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        nnx.to_pure_dict(state),
        nnx.to_pure_dict(param_shardings(state, mesh)),
    )


def init_params(config: Config, key: Array) -> Params:
    """Fresh parameters; called under `jit` with shardings, no device ever holds them all."""
    return nnx.to_pure_dict(nnx.split(ViT(config.model, rngs=nnx.Rngs(key)))[1])
