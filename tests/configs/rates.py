"""Learning rates as sources give them: number of updates made before this one -> rate."""

import numpy as np


def warmup_cosine(peak, warmup, total, end=0.0, start=0.0):
    """From `start` on a line, then half a cosine from the warm-up's end (big_vision, optax)."""

    def rate(t):
        rising = start + (peak - start) * t / max(warmup, 1)
        falling = end + (peak - end) * (1 + np.cos(np.pi * (t - warmup) / (total - warmup))) / 2
        return np.where(t < warmup, rising, falling)

    return rate


def timm_cosine(peak, warmup, total, end=1e-5):
    """timm's: the cosine starts at step 0, and the warm-up, from 1e-6, hides its beginning."""

    def rate(t):
        falling = end + (peak - end) * (1 + np.cos(np.pi * t / total)) / 2
        return np.where(t < warmup, 1e-6 + (peak - 1e-6) * t / warmup, falling)

    return rate


def scratch_vit(peak, epochs, per_epoch):
    """s-chh: in epoch e, (e + 1) / 10 of the peak, from the tenth half a cosine to 1e-5."""

    def rate(t):
        e = np.floor(t / per_epoch)
        falling = 1e-5 + (peak - 1e-5) * (1 + np.cos(np.pi * (e - 10) / (epochs - 10))) / 2
        return np.where(e < 10, peak * (e + 1) / 10, falling)

    return rate


def compact(peak, epochs, per_epoch):
    """Compact-Transformers: peak / (5 - e) in epochs 0 to 4, then half a cosine to 0."""

    def rate(t):
        e = np.floor(t / per_epoch)
        falling = peak * (1 + np.cos(np.pi * (e - 5) / (epochs - 5))) / 2
        return np.where(e < 5, peak / np.maximum(5 - e, 1), falling)

    return rate


def vaswani(width, warmup=4000):
    """width^-0.5 min(t^-0.5, t warmup^-1.5)."""

    def rate(t):
        return width**-0.5 * np.minimum(np.maximum(t, 1.0) ** -0.5, t * warmup**-1.5)

    return rate


def flax_rsqrt(peak, warmup):
    """Flax's examples: on a line to the peak, then peak sqrt(warmup / t)."""
    return lambda t: np.where(
        t < warmup, peak * t / warmup, peak * np.sqrt(warmup / np.maximum(t, 1))
    )


def t5_rsqrt(warmup=10_000):
    """1 / sqrt(max(t, warmup))."""
    return lambda t: np.maximum(t, warmup) ** -0.5


def bert_line(peak, warmup, total, first=0):
    """BERT's: a line from step 0 to 0 at `total`, which is cut off by the line of the warm-up.

    `first`: steps made before, in an earlier phase.
    """

    def rate(t):
        at = t + first
        return np.where(at < warmup, peak * at / max(warmup, 1), peak * (1 - at / total))

    return rate
