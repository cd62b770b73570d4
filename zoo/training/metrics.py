"""Where metrics go: a JSON line and TensorBoard, a progress bar or lines on stderr."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

from zoo.config.schema import Config
from zoo.config.sizes import row_macs, row_tokens
from zoo.sharding.devices import peak_flops
from zoo.training.workdir import write_text


class MetricsWriter:
    """Appends to `metrics.jsonl` and to TensorBoard's event files; silent on all hosts but one.

    What a run that was cut logged after `start`, the step that it goes on from, is dropped.
    """

    def __init__(self, workdir: Path, start: int):
        self._file = self._board = None
        if jax.process_index() == 0:
            path = workdir / "metrics.jsonl"
            if path.exists():
                lines = path.read_text(errors="replace").splitlines(keepends=True)
                write_text(path, "".join(line for line in lines if _is_kept(line, start)))
            self._file = path.open("a")
            self._board = SummaryWriter(str(workdir), purge_step=start + 1, write_to_disk=True)

    def write(self, step: int, metrics: dict[str, float | int]) -> None:
        """One line; numbers that are not finite become null, as JSON knows none."""
        if self._file is None or self._board is None:
            return
        finite = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes the files."""
        if self._file is not None and self._board is not None:
            # Closing flushes: on a full disk it fails after what has already been complained of.
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._board.close()


def _is_kept(line: str, start: int) -> bool:
    try:
        return json.loads(line)["step"] <= start
    except (ValueError, KeyError, TypeError):  # a run that was killed may leave a torn line
        return False


class Progress:
    """A bar with the time left on a terminal; a line at each logged step elsewhere."""

    def __init__(self, start: int, total: int):
        self._total = total
        self._first: tuple[int, float] | None = None  # a step, and when it was done
        self._bar: Any = None
        if sys.stderr.isatty() and jax.process_index() == 0:
            self._bar = tqdm(initial=start, total=total, unit="step", dynamic_ncols=True)

    def update(self, step: int) -> None:
        """One more step is done."""
        # The first one compiles, so the time left follows from those after it.
        self._first = self._first or (step, time.perf_counter())
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def log(self, step: int, metrics: dict[str, float | int]) -> None:
        """Shows metrics of a step."""
        shown = ("loss", "accuracy", "learning_rate", "tokens_per_second", "mfu")
        if "tokens_per_second" not in metrics:
            shown = ("loss", "accuracy", "learning_rate", "examples_per_second", "mfu")
        text = "  ".join(f"{name} {metrics[name]:.4g}" for name in shown if name in metrics)
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            self.say(f"step {step}/{self._total}  {text}{self._left(step)}")

    def _left(self, step: int) -> str:
        first, began = self._first or (step, 0.0)
        if step == first:
            return ""
        seconds = (time.perf_counter() - began) / (step - first) * (self._total - step)
        return f"  left {tqdm.format_interval(seconds)}"

    def say(self, text: str) -> None:
        """A line on stderr, above the bar; on the first host only."""
        if jax.process_index() == 0:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar where it is."""
        if self._bar is not None:
            self._bar.close()


class Meter:
    """Examples a second and MFU between logged steps, without evaluations and checkpoints.

    Until it is started it counts nothing: a run's first step compiles.
    """

    def __init__(self, config: Config):
        self._batch_size = config.data.batch_size
        macs = row_macs(config)
        self._flops = 3 * 2 * macs
        self._row_tokens = row_tokens(config)
        self._peak = peak_flops(jax.local_devices()[0]) * jax.device_count()
        self.formula = (
            f"MFU = examples/s x {self._flops:.4g} model FLOPs an example (3 x 2 x "
            f"{macs:.4g} MACs) / {self._peak:.4g} FLOP/s of {jax.device_count()} x "
            f"{jax.devices()[0].device_kind}"
        )
        self._step: int | None = None
        self._since = 0.0

    def start(self, step: int) -> None:
        """Begins to count at a step."""
        self._step, self._since = step, time.perf_counter()

    def rates(self, step: int) -> dict[str, float | int]:
        """Rates since the last call; none before the start."""
        if self._step is None:
            return {}
        seconds = max(time.perf_counter() - self._since, 1e-9)
        rate = (step - self._step) * self._batch_size / seconds
        self.start(step)
        rates = {"examples_per_second": rate, "mfu": rate * self._flops / self._peak}
        return (
            rates
            if not self._row_tokens
            else rates | {"tokens_per_second": rate * self._row_tokens}
        )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began


@contextlib.contextmanager
def profiler(workdir: Path, config: Config) -> Iterator[Callable[[int], None]]:
    """Traces the steps of the config's window to `workdir/profile`.

    Yields:
      What to call before each step, with the number of steps done.
    """
    first, running = config.profile_at, False

    def before(step: int) -> None:
        nonlocal running
        inside = first is not None and first <= step < first + config.profile_steps
        if inside and not running:
            jax.profiler.start_trace(str(workdir / "profile"))
        elif running and not inside:
            jax.profiler.stop_trace()
        running = inside

    try:
        yield before
    finally:
        if running:  # the run ends within the window
            jax.profiler.stop_trace()
