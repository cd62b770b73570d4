"""Reads weights for use: from a workdir, or from one checkpoint in it."""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from zoo.config import UserError, parse_config
from zoo.config.schema import Config
from zoo.config.vit import ViTConfig
from zoo.data.text.tokenizers import Tokenizer
from zoo.models.paths import leaves_by_path, map_by_path
from zoo.models.vit import resize_positions
from zoo.pretrained.opening import Pretrained, check_settings, is_pretrained, open_pretrained
from zoo.tasks.build import Params, abstract_params
from zoo.training.checkpoint import (
    Checkpoints,
    DamagedCheckpoint,
    best_step,
    check_same,
    flatten,
    unflatten,
)
from zoo.training.workdir import stored_tokenizer

# Paths of what stands on top of a model and is of one task.
HEADS = ("head/", "dist_head/", "pooler/", "masked_lm/", "next_sentence/")


@dataclass(frozen=True)
class Weights:
    """Where weights lie, and what they belong to; no array is read yet."""

    checkpoints: Checkpoints
    step: int
    config: Config
    classes: tuple[str, ...]
    tokenizer: Tokenizer | None  # of text
    metrics: dict[str, float | int]  # of the evaluation before it was saved

    def shapes(self) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
        """Shapes and types of the checkpoint's arrays, by item.

        Raises:
          UserError: the checkpoint is damaged.
        """
        try:
            found = self.checkpoints.shapes(self.step)
            if "params" not in found:
                raise DamagedCheckpoint("the files of params are missing")
            return found
        except DamagedCheckpoint as error:
            raise UserError(damaged(self.checkpoints, self.step, error)) from error

    def load(self, mesh: Mesh, config: Config | None = None, *, average: int = 1) -> Params:
        """The parameters to predict with, placed on a mesh; averaged ones where they were kept.

        Args:
          config: of the model to load into; default the weights' own.
          average: the mean of so many checkpoints, this one and those saved before it, as
            Vaswani 2017 takes it (5 for base, 20 for big).

        Raises:
          UserError: the weights are of another model, or damaged; fewer checkpoints are kept.
        """
        steps = [step for step in self.checkpoints.steps() if step <= self.step][-average:]
        if len(steps) < average:
            raise UserError(
                f"{self.checkpoints.directory} keeps {len(steps)} checkpoints up to step "
                f"{self.step}, not {average} to average: ask for fewer, or train with a larger "
                "config.keep_last"
            )
        like = abstract_params(config or self.config, mesh)
        item = "ema" if "ema" in self.shapes() else "params"
        total: Any = None
        for step in steps:  # one at a time: all at once may not fit
            try:
                one = self.checkpoints.restore_items(step, {item: flatten(like)})[item]
            except DamagedCheckpoint as error:
                raise UserError(damaged(self.checkpoints, step, error)) from error
            total = one if total is None else jax.tree.map(jnp.add, total, one)
        mean = total if average == 1 else jax.tree.map(lambda x: x / average, total)
        return unflatten(like, mean)


def open_weights(path: str | Path, *, newest: bool = False) -> Weights | Pretrained:
    """Finds a checkpoint: `WORKDIR` (its best one) or `WORKDIR/checkpoints/STEP`; or weights as
    others publish them, in any format of `zoo.pretrained`.

    Args:
      newest: of a workdir, take the newest one rather than the best: the last ones are to be
        averaged.

    In a workdir, checkpoints whose `meta` cannot be read are passed over, with a line on stderr.

    Raises:
      UserError: there is none, or none that can be read.
    """
    path = Path(path).expanduser()
    if is_pretrained(path):
        return open_pretrained(path)
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
            f"no checkpoint in {path}: give a workdir of `zoo train`, WORKDIR/checkpoints/STEP, or "
            "a directory or file of published weights"
        )
    if step is None:
        metas = checkpoints.metas()
        if not metas:
            raise UserError(f"none of the checkpoints in {directory} can be read")
    else:
        try:
            metas = {step: checkpoints.meta(step)}
        except DamagedCheckpoint as error:
            raise UserError(damaged(checkpoints, step, error)) from error
    config = parse_config(metas[max(metas)]["config"], origin=str(directory))
    best = None if newest else best_step(metas, config.best_metric or "")
    step = best or max(metas)
    meta = metas[step]
    tokenizer = stored_tokenizer(directory.parent)
    if tokenizer is not None:  # the run's own copy, wherever it was once taken from
        config = config.replace(data=config.data.replace(tokenizer=str(tokenizer.path)))
    classes, metrics = tuple(meta["classes"]), meta["metrics"]
    return Weights(checkpoints, step, config, classes, tokenizer, metrics)


def count_params(shapes: Iterable[tuple[int, ...]]) -> int:
    """The numbers that arrays of these shapes hold together."""
    return sum(math.prod(shape) for shape in shapes)


def damaged(checkpoints: Checkpoints, step: int, error: DamagedCheckpoint) -> str:
    """What to say of a checkpoint that was asked for and cannot be read."""
    directory = checkpoints.directory
    others = [str(directory / str(other)) for other in checkpoints.steps() if other != step]
    hint = f"give another one: {', '.join(others)}" if others else "there is no other"
    return f"checkpoint {directory / str(step)} is damaged ({error}); {hint}"


def params_from(path: str, config: Config, fresh: Params, mesh: Mesh) -> Params:
    """Another run's parameters, made to fit: `config.init_from`.

    A ViT's learned positions of another grid are interpolated, of published weights by the method
    that their own code has. Heads that the other model lacks, or has for other classes, stay
    `fresh`, and its own other heads are left behind; everything else must be there, with the same
    shape.

    Raises:
      UserError: the weights are of another model.
    """
    weights = open_weights(path)
    own, theirs = config.model, weights.config.model
    if isinstance(weights, Pretrained):
        check_settings(path, theirs, own)
    params = weights.load(mesh)
    # Who publishes weights says how they are taken to another resolution.
    method = getattr(theirs if isinstance(weights, Pretrained) else own, "position_resize", "")
    fitted = _fit_positions(params, theirs, own, method)
    there, here = leaves_by_path(fitted), leaves_by_path(fresh)
    bodies = ({k: v for k, v in flat.items() if not k.startswith(HEADS)} for flat in (there, here))
    check_same(path, *bodies)
    # A tagger's two classes are not the start and the end of an answer, though of one shape.
    other = () if getattr(own, "head", None) == getattr(theirs, "head", None) else ("head/",)
    kept = {n: leaf for n, leaf in there.items() if not n.startswith(other)}
    anew = {n for n, leaf in here.items() if n not in kept or kept[n].shape != leaf.shape}
    if anew and jax.process_index() == 0:
        heads = ", ".join(sorted({name.split("/")[0] for name in anew}))
        print(f"zoo: {path} has no {heads} of this kind: it starts fresh", file=sys.stderr)

    def take(name, leaf):
        return leaf if name in anew else jax.device_put(there[name], leaf.sharding)

    return map_by_path(take, fresh)


def _fit_positions(params: Params, theirs: Any, own: Any, method: str) -> Params:
    """A ViT's learned positions, on the grid of another one; other parameters as they are."""
    vits = isinstance(own, ViTConfig) and isinstance(theirs, ViTConfig)
    if not vits or {own.position, theirs.position} != {"learned"} or own.grid == theirs.grid:
        return params
    resized = resize_positions(params["pos_embed"], theirs.grid, own.grid, method=method)
    return {**params, "pos_embed": resized}
