"""Opening a trained model of text for use, on one device."""

from pathlib import Path
from typing import NamedTuple

import jax

from zoo.config import UserError
from zoo.config.schema import Config, MeshConfig
from zoo.data.text.tokenizers import Tokenizer
from zoo.pretrained.opening import Pretrained
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import Params
from zoo.training.weights import open_weights


class TextModel(NamedTuple):
    """What a run of text left behind, or what others publish of one."""

    config: Config  # resolved
    classes: tuple[str, ...]
    tokenizer: Tokenizer
    params: Params
    published: bool = False  # as others publish them, or converted from that: not a run


def open_text_model(
    path: str | Path, kinds: tuple[type, ...], purpose: str, *, average: int = 1
) -> TextModel:
    """A trained model from a workdir (its best checkpoint) or from `WORKDIR/checkpoints/STEP`.

    Args:
      kinds: of data that it may have been trained on.
      purpose: what only such a model does, for the complaint.
      average: use the mean of so many checkpoints, as `Weights.load` does.

    Raises:
      UserError: there is no checkpoint, it cannot be read, or it is of another kind of model.
    """
    weights = open_weights(path, newest=average > 1)
    if not isinstance(weights.config.data, kinds):
        wanted, found = (
            ", ".join(repr(kind.__struct_config__.tag) for kind in some)
            for some in (kinds, (type(weights.config.data),))
        )
        raise UserError(f"{path} was trained on {found}: only a model of {wanted} {purpose}")
    if weights.tokenizer is None:
        raise UserError(
            f"{path} has no tokenizer beside it: copy all of the run's directory, or put the "
            "tokenizer.json or vocab.txt that was published with the weights there"
        )
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    params = weights.load(mesh, average=average)
    published = isinstance(weights, Pretrained)
    return TextModel(weights.config, weights.classes, weights.tokenizer, params, published)
