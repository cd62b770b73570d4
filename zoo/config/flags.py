"""What flags of a command line take."""

from argparse import ArgumentTypeError

MOST = 2**31 - 1  # what JAX takes a seed of, and counts to


def positive(text: str) -> int:
    """The type of a flag that counts."""
    return _whole(text, least=1)


def not_negative(text: str) -> int:
    """The type of a flag that counts from nothing, or is a seed."""
    return _whole(text, least=0)


def path(text: str) -> str:
    """The type of a flag that is a path: an empty one is a shell variable that is not set."""
    if not text.strip():
        raise ArgumentTypeError("it is empty: give a path")
    return text


def _whole(text: str, *, least: int) -> int:
    if not text.removeprefix("-").isdecimal() or not least <= int(text) <= MOST:
        raise ArgumentTypeError(f"{text!r} is no whole number from {least} to {MOST:,}")
    return int(text)
