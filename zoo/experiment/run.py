"""A whole experiment: train, look at what was learnt, write the report."""

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.config.schema import Config
from zoo.config.sizes import num_params
from zoo.evaluation.evaluate import evaluate
from zoo.experiment.findings import find
from zoo.experiment.report import ReportArtifacts, write_report
from zoo.experiment.samples import Samples
from zoo.training.loop import Diverged, TrainResult
from zoo.training.loop import train as train_loop


@dataclass(frozen=True)
class Outcome:
    """What `zoo train` prints and returns."""

    lines: tuple[str, ...]
    metrics: dict[str, float | int]
    report: Path | None
    stopped_by_signal: bool


def run(config: Config, workdir: Path, *, stop_at: int | None = None) -> Outcome:
    """Trains and writes `report.html`; see `zoo.training.loop.train` for what it raises."""
    new = not workdir.exists()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make --workdir {workdir}: {error.strerror}") from error
    try:
        result = train_loop(config, workdir, stop_at=stop_at, look=Samples(workdir).look)
    except Diverged:
        if jax.process_index() == 0:
            write_report(workdir, artifacts=None)  # the curves show how it came to that
        raise
    except UserError:
        if new and not any(path.is_file() for path in workdir.rglob("*")):
            shutil.rmtree(workdir, ignore_errors=True)  # nothing was begun
        raise
    if result.stopped_by_signal:
        line = f"stopped by a signal after step {result.step}, saved; the same command goes on"
        lines = (line,) if jax.process_index() == 0 else ()
        return Outcome(lines, result.metrics, None, True)
    found = artifacts(result)  # on every host: they evaluate together
    metrics = result.metrics
    if found is not None and not metrics:  # the run had ended before
        metrics = {f"{found.split}/{name}": value for name, value in found.metrics.items()}
    if jax.process_index() != 0:
        return Outcome((), metrics, None, False)
    report = write_report(workdir, artifacts=found)
    lines = [f"{name:<24} {value:.6g}" for name, value in metrics.items()]
    lines.append(f"{'report':<24} {report}")
    return Outcome(tuple(lines), metrics, report, False)


def train(
    config: Config, workdir: str | Path, *, stop_at: int | None = None
) -> dict[str, float | int]:
    """Trains as `zoo train` does; returns the last evaluation's metrics."""
    return run(config, Path(workdir), stop_at=stop_at).metrics


def artifacts(result: TrainResult) -> ReportArtifacts | None:
    """What the report shows of the finished model: None where there is nothing to evaluate on."""
    config = result.run.config
    if not config.data.eval_splits:
        return None
    found = find(result) if isinstance(config.data, ImageData) else scores(result)
    device = jax.devices()[0]
    return ReportArtifacts(
        classes=result.run.classes,
        num_params=num_params(config),
        device=f"{jax.device_count()} x {device.device_kind}",
        command=command_line(),
        **found,
    )


def scores(result: TrainResult) -> dict[str, Any]:
    """The metrics of the first evaluation split, and no pictures: those are of images."""
    data = result.run.config.data
    name, split = next(iter(data.eval_splits.items()))
    metrics = {
        key.removeprefix(f"{name}/"): value
        for key, value in result.metrics.items()
        if key.startswith(f"{name}/")
    }
    if not metrics:  # the run had ended before
        metrics = evaluate(result.evaluator, result.state.eval_params, data, split).metrics
    return {
        "split": name, "metrics": metrics, "confusion": None, "mistakes": (), "attention": (),
    }  # fmt: skip


def command_line() -> str:
    """The command that runs, as one would type it."""
    import_name = Path(sys.argv[0]).name
    words = ["zoo" if import_name in ("zoo", "cli.py") else import_name, *sys.argv[1:]]
    return shlex.join(words)
