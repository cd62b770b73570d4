"""Stopping on request: a signal asks, the loop saves and leaves."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def stop_requests(start: int) -> Iterator[Callable[[int], bool]]:
    """Listens to SIGTERM and Ctrl-C; a second Ctrl-C stops at once.

    Args:
      start: steps that are done before the first question.

    Yields:
      Whether to stop after a step, to be asked after each one. Several hosts agree: one that was
      asked to stop tells the others, and all get a yes after the same step, a few steps later.
    """
    received: list[int] = []
    several = jax.process_count() > 1

    def note(number, frame):
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    # On several hosts JAX has its own handler of SIGTERM, which tells the others.
    own = (signal.SIGINT,) if several else (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, note) for number in own}
    try:
        if several:
            # JAX counts from 0, and has all stop at one number more than the highest that a host
            # asked for: a request before the first step is answered after it.
            yield lambda step: multihost_utils.reached_preemption_sync_point(step - start)
        else:
            yield lambda step: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
