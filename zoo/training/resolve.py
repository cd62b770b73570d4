"""Fills what a config leaves to its data and to the checkpoint that it starts from."""

from dataclasses import dataclass

from zoo.config import UserError
from zoo.config.duration import Clock
from zoo.config.load import nearest
from zoo.config.schema import Config
from zoo.data.sources import open_source
from zoo.evaluation.evaluate import METRICS
from zoo.training.weights import open_weights


@dataclass(frozen=True)
class Run:
    """A config with nothing left open, and what its data told."""

    config: Config
    classes: tuple[str, ...]
    clock: Clock

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.clock.steps(self.config.total)


def resolve(config: Config) -> Run:
    """Opens the data, and fills `best_metric` and the model's `num_classes`, `image_size`,
    `channels` and `position_grid`.

    Raises:
      UserError: data that is not there or is too small; classes or channels that contradict it; a
        metric that there is not.
    """
    data, model = config.data, config.model
    source = open_source(data, data.train_split)
    if len(source) < data.batch_size:
        raise UserError(
            f"config.data.batch_size {data.batch_size} is more than the {len(source)} examples "
            f"of {data.name} {data.train_split!r}"
        )
    if model.num_classes not in (None, len(source.classes)):
        raise UserError(
            f"config.model.num_classes is {model.num_classes}, but {data.name} has "
            f"{len(source.classes)} classes; leave it out to take the data's"
        )
    if model.channels not in (None, data.channels):
        raise UserError(
            f"config.model.channels is {model.channels}, but config.data.channels is "
            f"{data.channels}; leave the model's out to take the data's"
        )
    model = model.replace(
        num_classes=len(source.classes),
        image_size=model.image_size or data.image_size,
        channels=data.channels,
    )
    if config.init_from and model.position in ("sincos2d", "rotary") and not model.position_grid:
        # Positions that are computed keep the layout that the weights were trained with.
        model = model.replace(position_grid=open_weights(config.init_from).config.model.grid)
    known = [f"{split}/{name}" for split in data.eval_splits for name in METRICS]
    best = config.best_metric or next(iter(known), None)
    if best not in (None, *known):
        raise UserError(f"config.best_metric {best!r} is not measured{nearest(best, known)}")
    config = config.replace(model=model, best_metric=best)
    return Run(config, tuple(source.classes), Clock(data.batch_size, len(source)))
