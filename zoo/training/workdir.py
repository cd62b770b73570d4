"""A run's directory: the config in it, and whether a new run may go on there."""

import json
import os
import shutil
from pathlib import Path

import jax

from zoo.config import UserError
from zoo.config.load import flat_config, to_dict
from zoo.config.schema import Config
from zoo.data.text.tokenizers import Tokenizer, load_tokenizer

# Keys that say how a run is carried out, not what it computes: they may change on resuming.
FREE_KEYS = (
    "total", "mesh", "mode", "accumulate", "max_in_flight", "log_every", "eval_every", "save_every",
    "keep_last", "hang_minutes", "profile_at", "profile_steps", "data.dir", "data.tokenizer",
    "data.workers", "data.threads",
    "data.prefetch", "data.eval_batch_size", "model.scan", "model.remat",
)  # fmt: skip
_FREE_PREFIXES = tuple(f"{key}." for key in FREE_KEYS)


def has_checkpoints(workdir: Path) -> bool:
    """Whether a run has saved anything there."""
    return any((workdir / "checkpoints").glob("[0-9]*"))


def check_workdir(workdir: Path, config: Config) -> None:
    """Raises a UserError where a workdir holds a run with another config."""
    path = workdir / "config.json"
    if not path.exists() or not has_checkpoints(workdir):
        return
    try:
        stored = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f"{path} is no JSON ({error}): give another --workdir, or remove that file to resume "
            "with the config at hand"
        ) from error
    old, new = flat_config(stored), flat_config(to_dict(config))
    differing = [
        key
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not f"{key}.".startswith(_FREE_PREFIXES)
    ]
    if differing:
        shown = ", ".join(
            f"config.{k} {old.get(k)} there, {new.get(k)} here" for k in differing[:3]
        )
        raise UserError(
            f"{workdir} holds a run of another config ({shown}): give another --workdir, or the "
            "same config to resume"
        )


def check_tokenizer(workdir: Path, tokenizer: Tokenizer | None) -> None:
    """Raises a UserError where a workdir holds a run with another tokenizer."""
    stored = stored_tokenizer(workdir) if has_checkpoints(workdir) else None
    if stored is None or tokenizer is None or stored.fingerprint == tokenizer.fingerprint:
        return
    raise UserError(
        f"{workdir} holds a run with another tokenizer: set config.data.tokenizer to "
        f"{stored.path}, or give another --workdir"
    )


def store_tokenizer(workdir: Path, tokenizer: Tokenizer | None) -> None:
    """Copies a run's tokenizer into its directory, which is then enough to use the model."""
    target = (workdir / "tokenizer").absolute()
    if tokenizer is not None and jax.process_index() == 0 and tokenizer.path != target:
        shutil.rmtree(target, ignore_errors=True)
        tokenizer.save(target)


def stored_tokenizer(workdir: Path) -> Tokenizer | None:
    """The tokenizer of the run in a directory; None where there is none."""
    path = workdir / "tokenizer"
    return load_tokenizer(path) if path.is_dir() else None


def write_config(workdir: Path, config: Config) -> None:
    """Stores the resolved config, enough to run again: `zoo train --config WORKDIR/config.json`."""
    if jax.process_index() == 0:
        write_text(workdir / "config.json", json.dumps(to_dict(config), indent=2) + "\n")


def write_length(workdir: Path, total_steps: int) -> None:
    """Stores `run.json`, what of a run only its data tells: the steps of the whole of it."""
    if jax.process_index() == 0:
        write_text(workdir / "run.json", json.dumps({"total_steps": total_steps}) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file at once: whoever is killed here leaves the old one whole."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
