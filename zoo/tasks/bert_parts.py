"""What the tasks of a BERT share: its config, its head, and how it reads a batch."""

from typing import Any, TypeVar

from jaxtyping import Array, Float, Key

from zoo.config import UserError
from zoo.config.bert import BertConfig
from zoo.config.data import TextData
from zoo.config.schema import Config
from zoo.tasks.base import Batch, row_keys

D = TypeVar("D", bound=TextData)


def bert_parts(config: Config, kind: type[D], head: str | None = None) -> tuple[BertConfig, D]:
    """The model and the data of a config for BERT.

    Args:
      kind: of data.
      head: that the model must have.

    Raises:
      UserError: it is for something else.
    """
    model, data = config.model, config.data
    if not isinstance(model, BertConfig) or not isinstance(data, kind):
        tag = config.data.__struct_config__.tag
        raise UserError(f"this is for a BERT, and the model was trained on {tag!r}")
    if head is not None and model.head != head:
        raise UserError(
            f"config.model.head is {model.head!r}, but config.data.kind "
            f"{kind.__struct_config__.tag!r} needs {head!r}: set the one to fit the other"
        )
    return model, data


def refuse_options(config: Config, *names: str) -> None:
    """Raises a UserError where `config.task` asks for what a task's loss does not have."""
    kind = config.data.__struct_config__.tag
    for name in names:
        if getattr(config.task, name):
            raise UserError(
                f"config.task.{name} is {getattr(config.task, name)}, which the loss of "
                f"config.data.kind {kind!r} does not have: leave it out"
            )


def read_rows(batch: Batch, key: Key[Array, ""]) -> Batch:
    """What `encode` takes of a batch, with a key for each row."""
    inputs = {name: batch[name] for name in ("tokens", "type", "segment")}
    return {**inputs, "keys": row_keys(key, batch["tokens"].shape[0])}


def encode(model: Any, batch: Batch) -> Float[Array, "B T D"]:
    """The vectors of a batch's tokens; with dropout where the batch has keys."""
    return model.hidden(
        batch["tokens"], type=batch["type"], segment=batch["segment"], keys=batch.get("keys")
    )
