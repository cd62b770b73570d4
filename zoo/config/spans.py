"""Lengths of T5's span corruption, in closed form; imports no jax."""

from typing import NamedTuple

from zoo.config import UserError


class Noise(NamedTuple):
    """How much of a text is taken out, and what that makes of it."""

    tokens: int  # of the text that are taken out
    spans: int  # in which they are
    source: int  # length of what is left, with a sentinel a span, and EOS
    target: int  # length of what was taken out, likewise


def noise_of(length: int, mask_rate: float, mean_span: float) -> Noise:
    """The noise of a text of `length` tokens, 2 or more."""
    tokens = min(max(round(length * mask_rate), 1), length - 1)
    # A span and the text before it have a token each at least.
    spans = min(max(round(tokens / mean_span), 1), tokens, length - tokens)
    return Noise(tokens, spans, length - tokens + spans + 1, tokens + spans + 1)


def raw_length(source: int, mask_rate: float, mean_span: float) -> int:
    """The most tokens of text whose corrupted input has `source` tokens or fewer.

    Raises:
      UserError: nothing can be corrupted at that rate, or within that length.
    """
    if not 0 < mask_rate < 1:
        raise UserError(f"data.mask_rate is {mask_rate}: spans need more than 0 and less than 1")
    length = 2
    if noise_of(length, mask_rate, mean_span).source > source:
        raise UserError(f"data.length is {source}: an input with a sentinel and EOS has 3 tokens")
    while noise_of(length + 1, mask_rate, mean_span).source <= source:
        length += 1
    # T5's own exception, for lengths that people choose round.
    noise = noise_of(length, mask_rate, mean_span)
    return length - 1 if mask_rate == 0.5 and noise.target > noise.source else length
