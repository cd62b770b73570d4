"""Runs a rung of the ladder: data, plan, training, evaluation, comparison, a line of results."""

import datetime
import importlib.metadata
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import msgspec

from zoo.config import UserError, load_config
from zoo.config.schema import Config
from zoo.config.vit import ViTConfig
from zoo.experiment.convert import convert
from zoo.experiment.evaluate import evaluate_weights
from zoo.experiment.history import read_history, training_seconds
from zoo.experiment.run import run
from zoo.reproduction.inputs import Inputs
from zoo.reproduction.ladder import Rung, by_name
from zoo.reproduction.plans import planned
from zoo.reproduction.results import Result, Scale, append, as_flags, mean_and_spread, shown
from zoo.reproduction.small import small
from zoo.training.checkpoint import Checkpoints, lower_is_better
from zoo.training.resolve import resolve
from zoo.training.weights import open_weights


@dataclass(frozen=True)
class Place:
    """Where runs and results go.

    Attributes:
      workdir: of all runs: WORKDIR/RUNG/seed0, in stages before the last seed0-stage1, ...; of
        small ones WORKDIR/small/RUNG/...
      results: the file that a line is appended to.
    """

    workdir: Path
    results: Path

    def runs(self, rung: Rung, scale: Scale) -> Path:
        """The folder of a rung's runs."""
        return (self.workdir / "small" if scale == "small" else self.workdir) / rung.name


class StoppedBySignal(Exception):
    """A run saved and ended: the same command goes on."""


class Outcome(NamedTuple):
    """What `zoo reproduce` says at its end, and its exit code."""

    found: list[dict[str, Any]]
    lines: list[str]
    code: int


def reproduce_all(
    rungs: Sequence[Rung],
    place: Place,
    *,
    scale: Scale,
    seeds: int,
    changes: Mapping[str, str],
) -> Outcome:
    """Runs rungs one after the other; of several, one that cannot run does not stop the others.

    The exit code: 0 where all passed, 1 where one's number is not what it should be, 2 where one
    could not run, 75 where a signal came.

    Raises:
      UserError: the only rung cannot run.
    """
    found, lines, code = [], [], 0
    first = jax.process_index() == 0  # of several hosts

    def say(text: str) -> None:
        if first:
            print(text, file=sys.stderr, flush=True)

    for rung in rungs:
        try:
            results = reproduce(rung, place, scale=scale, seeds=seeds, changes=changes, say=say)
        except StoppedBySignal:
            line = "stopped by a signal, saved; the same command goes on"
            return Outcome(found, [*lines, line] if first else [], 75)
        except UserError as error:
            if len(rungs) == 1:
                raise
            lines.append(f"{rung.name:<20} {error}")
            code = 2
            continue
        told = verdict(rung, results)
        good = passed(rung, results)
        found.append(
            {
                "rung": rung.name,
                "passed": good,
                "verdict": told,
                "results": [msgspec.to_builtins(one) for one in results],
            }
        )
        lines.append(f"{rung.name:<20} {told}")
        code = code or (0 if good else 1)
        jax.clear_caches()  # programs of forty models are more than a small machine holds
    return Outcome(found, lines if first else [], code)


def reproduce(
    rung: Rung,
    place: Place,
    *,
    scale: Scale = "full",
    seeds: int = 1,
    changes: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> list[Result]:
    """Runs every stage of a rung for each seed, and says how the last step compares.

    Args:
      scale: full, or small.
      changes: dotted key -> text, of every stage; a run with any is a partial one, unless they say
        only where files lie, what it starts from and how it is laid out.
      say: takes lines for people.

    Raises:
      UserError: data or weights that are not there, and whatever training refuses.
      StoppedBySignal: a signal came; all is saved.
    """
    changes = dict(changes or {})
    if scale == "small" and changes:
        raise UserError(
            f"--scale small says all of a config: leave --config.{next(iter(changes))} out"
        )
    if scale == "full" and not PRACTICAL.issuperset(changes):
        scale = "partial"
    say(f"{rung.name}: {rung.title}; {rung.source}")
    for line in planned(rung):
        say(f"  planned    {line}")
    results = []
    for seed in range(seeds):
        result = _one(rung, place, scale, seed, changes, say)
        if jax.process_index() == 0:
            append(place.results, result)
        results.append(result)
    say(f"  compared   {verdict(rung, results)}")
    return results


# What may change without making it another experiment.
PRACTICAL = frozenset(
    {
        "init_from", "data.dir", "data.tokenizer", "data.workers", "data.threads", "data.prefetch",
        "data.eval_batch_size", "mesh.slices", "mesh.data", "mesh.fsdp", "mesh.sequence",
        "mesh.tensor", "accumulate", "mode", "model.remat", "model.scan", "model.attention",
        "hang_minutes", "log_every",
    }
)  # fmt: skip


def passed(rung: Rung, results: list[Result]) -> bool:
    """Whether small runs beat guessing, or full ones are in the band; of partial ones none fails.

    A rung for which nothing is published passes by ending.
    """
    value = mean_and_spread(results)[0]
    match results[0].scale:
        case "small":
            return _beats(results[0].metric, value, rung.cut.guess)
        case "full":
            return rung.band is None or rung.band[0] <= value <= rung.band[1]
    return True


def verdict(rung: Rung, results: list[Result]) -> str:
    """How runs compare with what was published, in words."""
    value, spread = mean_and_spread(results)
    metric, scale = results[0].metric, results[0].scale
    ours = f"{metric} {shown(metric, value)}"
    if len(results) > 1:
        ours += f" +- {shown(metric, spread)} ({len(results)} seeds)"
    if scale == "small":
        guess = f"guessing's {shown(metric, rung.cut.guess)}"
        if passed(rung, results):
            return f"{ours}, better than {guess}: the recipe runs"
        return f"{ours}, NOT better than {guess}"
    if rung.published is None or rung.band is None:
        return f"{ours}; {rung.source}"
    theirs = f"published {shown(metric, rung.published)}"
    if scale == "partial":
        told = as_flags(results[0].changes)
        return f"{ours}; {theirs}; not the published recipe: {told}"
    low, high = (shown(metric, edge) for edge in rung.band)
    word = "reproduced" if passed(rung, results) else "NOT reproduced"
    return f"{ours}; {theirs}: {word} (a band of {low} to {high})"


def _beats(metric: str, value: float, guess: float) -> bool:
    return value < guess if lower_is_better(metric) else value > guess


def _one(
    rung: Rung,
    place: Place,
    scale: Scale,
    seed: int,
    changes: dict[str, str],
    say: Callable[[str], None],
) -> Result:
    """All stages of one seed, and the evaluation of its last step."""
    start = _start(rung, place, scale, say)
    metric = (rung.cut.metric if scale == "small" else "") or rung.metric
    seconds, steps = 0.0, 0
    if rung.evaluate_only:
        config = _config(rung, rung.config, place, scale, seed, changes, start)
        metrics = _evaluate_given(rung, place, scale, config)
    else:
        workdir = place.runs(rung, scale) / f"seed{seed}"
        for number, stage in enumerate(rung.stages, 1):
            last = number == len(rung.stages)
            into = workdir if last else workdir.with_name(f"{workdir.name}-stage{number}")
            config = _config(rung, stage, place, scale, seed, changes, start)
            told = resolve(config)
            rows, size = told.clock.examples_per_epoch, told.clock.batch_size
            say(f"  data       {config.data.name}, {rows:,} examples to train on")
            say(f"  train      {stage}, {told.total_steps:,} steps of {size}: {into}")
            outcome = run(config, into)
            if outcome.stopped_by_signal:
                raise StoppedBySignal
            metrics = {"step": told.total_steps, **outcome.metrics}
            seconds += _seconds(into, size)
            steps, start = told.total_steps, str(into)
        judge = None
        if rung.judged_on and scale != "small":
            judge = _config(
                rung, rung.config, place, scale, seed, {**changes, **rung.judged_on}, None
            )
        average = 1 if scale == "small" else rung.average
        if judge or rung.scores or average > 1 or metric not in metrics:
            newest = Checkpoints(workdir / "checkpoints", read_only=True).steps()[-1]
            weights = str(workdir / "checkpoints" / str(newest))
            metrics = evaluate_weights(weights, judge, scores=rung.scores, average=average)
    value = float(metrics[metric])
    say(f"  evaluated  {metric} {shown(metric, value)} at step {metrics['step']}")
    return Result(
        rung=rung.name,
        scale=scale,
        seed=seed,
        changes=changes,
        metric=metric,
        value=value,
        metrics=metrics,
        steps=steps,
        hours=seconds / 3600,
        device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        versions={name: importlib.metadata.version(name) for name in ("zoo", "jax", "flax")},
        date=datetime.date.today().isoformat(),
        command=shlex.join(["zoo", *sys.argv[1:]]),
    )


def _config(
    rung: Rung,
    stage: str,
    place: Place,
    scale: Scale,
    seed: int,
    changes: Mapping[str, str],
    start: str | None,
) -> Config:
    config = load_config(stage, {**rung.changes, **changes, "seed": str(seed)})
    if start is not None:
        config = config.replace(init_from=start)
    if scale == "small":
        config = small(rung, config, Inputs(place.workdir / "inputs"))
        if rung.start is not None and isinstance(config.model, ViTConfig):
            # The stand-in has another end than the published weights have: the same goes on it.
            theirs = open_weights(start or "").config.model
            keys = ("pool", "cls_position", "representation")
            config = config.replace(
                model=config.model.replace(**{key: getattr(theirs, key) for key in keys})
            )
    return config


def _start(rung: Rung, place: Place, scale: Scale, say: Callable[[str], None]) -> str | None:
    """What the first stage starts from: in a small run, another rung's for the published weights.

    At full length the weights are the user's, by --config.init_from.
    """
    if scale != "small" or rung.start is None:
        return None
    stand_in = place.runs(by_name(rung.start), scale) / "seed0"
    if not (stand_in / "report.html").exists():  # it is written last
        reproduce(by_name(rung.start), place, scale="small", say=say)
    return str(stand_in)


def _evaluate_given(
    rung: Rung, place: Place, scale: Scale, config: Config
) -> dict[str, float | int | str]:
    """Evaluates weights that another made, in the format that they are published in."""
    weights = config.init_from or ""
    if scale == "small":
        published = place.runs(rung, scale) / "weights"
        if not published.exists():
            convert(weights, str(published), "npz")
        weights = str(published)
    model = open_weights(weights).config.model
    return evaluate_weights(weights, config.replace(model=model, init_from=None))


def _seconds(workdir: Path, batch_size: int) -> float:
    history, _ = read_history(workdir / "metrics.jsonl")
    return training_seconds(history, batch_size) if "examples_per_second" in history else 0.0
