"""A run in which nothing moves any more must end, or it holds its machines for ever."""

import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator

from zoo.sharding.roll_call import HostLost

SLOW = 10  # times the patience for what may rightly take long: compiling, evaluating, saving


@contextlib.contextmanager
def watchdog(minutes: float) -> Iterator[Callable[..., None]]:
    """Ends the process, with the stack traces of all threads, where no sign of life comes in time.

    Yields:
      `alive(slow=False)`, the sign: the next one must come within `minutes`, or ten times that.
    """
    tick_s = min(1.0, 6 * minutes)
    left_s = SLOW * 60 * minutes
    ended = threading.Event()

    def alive(*, slow: bool = False) -> None:
        nonlocal left_s
        left_s = (SLOW if slow else 1) * 60 * minutes

    def watch() -> None:
        nonlocal left_s
        # Ticks are counted, not time: a process that was suspended is not hanging.
        while not ended.wait(tick_s):
            left_s -= tick_s
            if left_s < 0:
                faulthandler.dump_traceback(sys.stderr)
                print(
                    f"zoo: nothing has moved for longer than config.hang_minutes {minutes:g} (or "
                    f"{SLOW} times that, in evaluations): the traces above show where it hangs. "
                    "Start again to go on from the last checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(HostLost.exit_code)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield alive
    finally:
        ended.set()
