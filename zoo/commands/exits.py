"""Exit codes, and what is said in a line where the fault is not ours."""

import errno
import os
import sys

from zoo.config import UserError

# Besides these, 69: another host did not come, left or hangs.
EXIT_DONE, EXIT_USER, EXIT_STOPPED, EXIT_INTERRUPTED = 0, 2, 75, 130
# What a file system refuses, at whatever place: not our fault.
REFUSALS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR,
    errno.ENAMETOOLONG,
)  # fmt: skip


def complain(error: BaseException) -> int | None:
    """Says in a line what went wrong; returns the exit code, None where the fault is ours."""
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    if isinstance(error, UserError):
        print(f"zoo: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        print("zoo: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    if isinstance(error, OSError) and error.errno in REFUSALS:
        where = f"{error.filename}: " if error.filename else ""
        print(f"zoo: {where}{error.strerror}", file=sys.stderr)
        return EXIT_USER
    return None
