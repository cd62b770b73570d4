"""Reads weights for use: from a workdir, or from one checkpoint in it."""

import sys
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.sharding import Mesh

from zoo.config import UserError, parse_config
from zoo.config.schema import Config
from zoo.models.vit import resize_positions
from zoo.tasks.build import Params, abstract_params
from zoo.training.checkpoint import Checkpoints, DamagedCheckpoint, flatten, unflatten


@dataclass(frozen=True)
class Weights:
    """Where weights lie, and what they belong to; no array is read yet."""

    checkpoints: Checkpoints
    step: int
    config: Config
    classes: tuple[str, ...]

    def load(self, mesh: Mesh, config: Config | None = None) -> Params:
        """The parameters to predict with, placed on a mesh; averaged ones where they were kept.

        Args:
          config: of the model to load into; default the weights' own.

        Raises:
          UserError: the weights are of another model, or damaged.
        """
        like = abstract_params(config or self.config, mesh)
        item = "ema" if "ema" in self.checkpoints.shapes(self.step) else "params"
        try:
            restored = self.checkpoints.restore_items(self.step, {item: flatten(like)})
        except DamagedCheckpoint as error:
            raise UserError(
                f"checkpoint {self.checkpoints.directory / str(self.step)} is damaged ({error}); "
                f"there are also steps {[s for s in self.checkpoints.steps() if s != self.step]}"
            ) from error
        return unflatten(like, restored[item])


def open_weights(path: str | Path) -> Weights:
    """Finds a checkpoint: `WORKDIR` (its best one) or `WORKDIR/checkpoints/STEP`.

    Raises:
      UserError: there is none.
    """
    path = Path(path)
    step = None
    if path.name.isdigit() and (path / "meta").exists():
        directory, step = path.parent, int(path.name)
    else:
        directory = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    steps = []
    if directory.is_dir():
        checkpoints = Checkpoints(directory, read_only=True)
        steps = checkpoints.steps()
    if not steps:
        raise UserError(
            f"no checkpoint in {path}: give a workdir of `zoo train`, or WORKDIR/checkpoints/STEP"
        )
    try:
        newest = checkpoints.meta(steps[-1])
        config = parse_config(newest["config"], origin=str(directory))
        step = step or checkpoints.best_step(config.best_metric or "") or steps[-1]
        meta = checkpoints.meta(step)
    except DamagedCheckpoint as error:
        raise UserError(f"the checkpoints in {directory} cannot be read: {error}") from error
    return Weights(checkpoints, step, config, tuple(meta["classes"]))


def params_from(path: str, config: Config, fresh: Params, mesh: Mesh) -> Params:
    """Another run's parameters, made to fit: `config.init_from`.

    Learned positions of another grid are interpolated, and a head for other classes stays
    `fresh`; everything else must have the same shape.

    Raises:
      UserError: the weights are of another model.
    """
    weights = open_weights(path)
    own, theirs = config.model, weights.config.model
    source = config.replace(
        model=own.replace(
            num_classes=theirs.num_classes,
            image_size=theirs.image_size,
            position_grid=theirs.position_grid,
        )
    )
    params = weights.load(mesh, source)
    if own.position == "learned" and own.grid != theirs.grid:
        params["pos_embed"] = resize_positions(
            params["pos_embed"], theirs.grid, own.grid, method=own.position_resize
        )
    if own.num_classes != theirs.num_classes:
        print(
            f"zoo: {path} has {theirs.num_classes} classes, the config {own.num_classes}: "
            "the head starts fresh",
            file=sys.stderr,
        )
        params["head"] = fresh["head"]
    return jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), params, fresh)
