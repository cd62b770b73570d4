"""From a config to its model and task: the structure, the shapes and fresh parameters."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from zoo.config import UserError
from zoo.config.bert import BertConfig
from zoo.config.data import (
    ImageData,
    LabelledData,
    LmData,
    MaskedData,
    QuestionData,
    TagData,
)
from zoo.config.decoder import DecoderConfig
from zoo.config.schema import Config
from zoo.config.vit import ViTConfig
from zoo.models.bert import Bert
from zoo.models.decoder import Decoder
from zoo.models.vit import ViT
from zoo.sharding.rules import param_shardings
from zoo.tasks.base import Task
from zoo.tasks.causal_lm import CausalLM
from zoo.tasks.classify import Classify
from zoo.tasks.masked_lm import MaskedLm
from zoo.tasks.question_answer import QuestionAnswer
from zoo.tasks.text_classify import TextClassify
from zoo.tasks.token_classify import TokenClassify

Params = dict[str, Any]  # nested by module attribute, arrays at the leaves

_MODELS: dict[type, Callable[..., nnx.Module]] = {
    ViTConfig: ViT,
    BertConfig: Bert,
    DecoderConfig: Decoder,
}
# kind of data -> (its task, the models that it is for)
_TASKS: dict[type, tuple[Callable[[Config], Task], tuple[type, ...]]] = {
    ImageData: (Classify.from_config, (ViTConfig,)),
    MaskedData: (MaskedLm.from_config, (BertConfig,)),
    LabelledData: (TextClassify.from_config, (BertConfig,)),
    TagData: (TokenClassify.from_config, (BertConfig,)),
    QuestionData: (QuestionAnswer.from_config, (BertConfig,)),
    LmData: (CausalLM.from_config, (DecoderConfig,)),
}


def make_task(config: Config) -> Task:
    """The task of a config: that of its kind of data."""
    return _TASKS[type(config.data)][0](config)


def check_model(config: Config) -> None:
    """Raises a UserError where the model is not for the kind of data."""
    families = _TASKS[type(config.data)][1]
    if not isinstance(config.model, families):
        fitting = " or ".join(repr(_tag(family)) for family in families)
        raise UserError(
            f"config.data.kind {_tag(config.data)!r} is for a model of family {fitting}, "
            f"not {_tag(config.model)!r}"
        )


def _tag(section: Any) -> str:  # of a section or its class
    return section.__struct_config__.tag


def build_model(config: Config, rngs: nnx.Rngs) -> nnx.Module:
    """The model of a config, with fresh parameters."""
    return _MODELS[type(config.model)](config.model, rngs=rngs)


def abstract_model(config: Config) -> tuple[nnx.GraphDef, nnx.State]:
    """The model's structure and the shapes of its parameters, with nothing allocated."""
    return nnx.split(nnx.eval_shape(lambda: build_model(config, nnx.Rngs(0))))


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
    return nnx.to_pure_dict(nnx.split(build_model(config, nnx.Rngs(key)))[1])
