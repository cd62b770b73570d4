"""The `zoo` command."""

import logging
import os
import sys
from collections.abc import Sequence

from zoo.commands.exits import EXIT_DONE, complain
from zoo.commands.parser import make_parser
from zoo.config import UserError
from zoo.config.load import nearest
from zoo.planning.topology import quiet_without_tpu


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit code: one of `zoo.commands.exits`; 1 is a traceback."""
    argv, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="zoo: %(message)s")
    # Orbax logs tracebacks of what it also raises.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    quiet_without_tpu()
    try:
        args, unknown = make_parser().parse_known_args(argv)
        if unknown:
            flags = [*args.flags, "--config.KEY"]
            raise UserError(f"unknown argument {unknown[0]!r}{nearest(unknown[0], flags)}")
        if overrides and "--config" not in args.flags and not getattr(args, "rungs", None):
            raise UserError("--config.KEY=VALUE changes a config, and this command takes none")
        args.overrides = overrides
        return args.run(args) or EXIT_DONE
    except (UserError, KeyboardInterrupt, OSError) as error:
        code = complain(error)
        if code is None:
            raise
        return code


def split_overrides(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes `--config.KEY=VALUE` and `--config.KEY VALUE` out of the arguments."""
    rest, overrides, words = [], {}, iter(argv)
    for word in words:
        if not word.startswith("--config."):
            rest.append(word)
            continue
        key, equals, value = word.removeprefix("--config.").partition("=")
        overrides[key] = value if equals else next(words, "")
    return rest, overrides


if __name__ == "__main__":
    sys.exit(main())
