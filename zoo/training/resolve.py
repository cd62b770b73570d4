"""Fills what a config leaves to its data and to the checkpoint that it starts from."""

from dataclasses import dataclass
from typing import Any

from zoo.config import UserError
from zoo.config.data import ImageData, TextData
from zoo.config.duration import Clock
from zoo.config.load import nearest
from zoo.config.schema import Config
from zoo.config.sizes import row_tokens
from zoo.config.vit import ViTConfig
from zoo.data.base import Rows
from zoo.data.rows import open_rows
from zoo.data.text.tokenizers import Tokenizer, load_tokenizer
from zoo.tasks.build import check_model, make_task
from zoo.training.weights import open_weights


@dataclass(frozen=True)
class Run:
    """A config with nothing left open, and what its data told."""

    config: Config
    classes: tuple[str, ...]
    clock: Clock
    tokenizer: Tokenizer | None  # of text

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.clock.steps(self.config.total)


def resolve(config: Config) -> Run:
    """Opens the data, and fills `best_metric` and what the model takes from its data.

    Raises:
      UserError: data that is not there, is too small or is not for the model; sizes that
        contradict it; a metric that there is not.
    """
    check_model(config)
    data = config.data
    rows = open_rows(data, data.train_split, train=True)
    if len(rows) < data.batch_size:
        raise UserError(
            f"config.data.batch_size {data.batch_size} is more than the {len(rows)} examples "
            f"of {data.name} {data.train_split!r}"
        )
    tokenizer = load_tokenizer(data.tokenizer) if isinstance(data, TextData) else None
    if isinstance(data, ImageData) and isinstance(config.model, ViTConfig):
        config = config.replace(model=_fill_vit(config.model, data, rows, config.init_from))
    elif tokenizer is not None:
        config = config.replace(model=_fill_text_model(config, rows, tokenizer))
    known = [f"{split}/{m}" for split in data.eval_splits for m in make_task(config).metric_names]
    best = config.best_metric or next(iter(known), None)
    if best not in (None, *known):
        raise UserError(f"config.best_metric {best!r} is not measured{nearest(best, known)}")
    config = config.replace(best_metric=best)
    tokens = row_tokens(config)
    tokens_per_batch = None if tokens is None else tokens * data.batch_size
    clock = Clock(data.batch_size, len(rows), tokens_per_batch)
    return Run(config, tuple(rows.classes), clock, tokenizer)


def _fill_text_model(config: Config, rows: Rows, tokenizer: Tokenizer) -> Any:
    """Fills `vocab_size`, `max_length`, and `num_classes` of a head that has classes."""
    model: Any = config.model
    data, theirs = config.data, open_weights(config.init_from) if config.init_from else None
    # Published models have more rows than tokens, for a round number of them.
    rows_there = theirs and getattr(theirs.config.model, "vocab_size", None)
    filled = {"vocab_size": model.vocab_size or max(rows_there or 0, tokenizer.size)}
    assert isinstance(data, TextData)
    if filled["vocab_size"] < tokenizer.size:
        raise UserError(
            f"config.model.vocab_size is {model.vocab_size}, but the tokenizer {data.tokenizer} "
            f"has {tokenizer.size} tokens; leave it out to take the tokenizer's"
        )
    known = theirs.tokenizer if theirs else None
    if known is not None and known.fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"{config.init_from} was trained with another tokenizer than {data.tokenizer}: set "
            f"config.data.tokenizer to {known.path}"
        )
    longest = max(data.length, getattr(data, "target_length", 0))
    if hasattr(model, "max_length"):
        filled["max_length"] = model.max_length or longest
        if filled["max_length"] < longest:
            raise UserError(
                f"config.data has rows of {longest} tokens, but config.model.max_length is "
                f"{model.max_length}"
            )
    if getattr(model, "has_classes", False):
        filled["num_classes"] = len(rows.classes) or 1
        if model.num_classes not in (None, filled["num_classes"]):
            raise UserError(
                f"config.model.num_classes is {model.num_classes}, but {data.name} has "
                f"{len(rows.classes)} classes; leave it out to take the data's"
            )
    return model.replace(**filled)


def _fill_vit(model: ViTConfig, data: ImageData, rows: Rows, init_from: str | None) -> ViTConfig:
    """Fills `num_classes`, `image_size`, `channels` and `position_grid`."""
    if model.num_classes not in (None, len(rows.classes)):
        raise UserError(
            f"config.model.num_classes is {model.num_classes}, but {data.name} has "
            f"{len(rows.classes)} classes; leave it out to take the data's"
        )
    if model.channels not in (None, data.channels):
        raise UserError(
            f"config.model.channels is {model.channels}, but config.data.channels is "
            f"{data.channels}; leave the model's out to take the data's"
        )
    model = model.replace(
        num_classes=len(rows.classes),
        image_size=model.image_size or data.image_size,
        channels=data.channels,
    )
    if init_from and model.position in ("sincos2d", "rotary") and not model.position_grid:
        # Positions that are computed keep the layout that the weights were trained with.
        theirs = open_weights(init_from).config.model
        if isinstance(theirs, ViTConfig):
            model = model.replace(position_grid=theirs.grid)
    return model
