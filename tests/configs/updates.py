"""The optimizers of published recipes, as their papers and codes have them, in float64 NumPy.

Each takes (gradients of each step, params, rung, factor) and gives the updates of each step, all
by path; the learning rate is `rung.peak` times `factor`. A parameter under `blocks` is a stack of
layers, each of which is a tensor of its own to LAMB and Adafactor.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

Tree = dict[str, np.ndarray]


class Update(NamedTuple):
    """A published formula, and the name that Zoo has for it."""

    name: str
    run: Callable[[list[Tree], Tree, Any, float], list[Tree]]


def clipped(grads: Tree, clip: float | None) -> Tree:
    """Scaled down to a global norm of `clip`, where it is larger."""
    if clip is None:
        return grads
    norm = np.sqrt(sum(np.sum(g**2) for g in grads.values()))
    return {path: g * min(1.0, clip / norm) for path, g in grads.items()}


def decays(rung: Any, path: str) -> float:
    """The source's weight decay of a parameter."""
    return rung.decay if rung.decayed(path) else 0.0


def over_steps(step, grads, params, rung) -> list[Tree]:
    """`step(t, g, m, v, p, path)` -> (update, m, v), t from 1, for each parameter and step."""
    zeros = {path: np.zeros_like(p) for path, p in params.items()}
    m, v, moved = dict(zeros), dict(zeros), []
    for t, grad in enumerate(grads, 1):
        updates = {}
        for path, g in clipped(grad, rung.clip).items():
            updates[path], m[path], v[path] = step(t, g, m[path], v[path], params[path], path)
        params = {path: p + updates[path] for path, p in params.items()}
        moved.append(updates)
    return moved


def moments(g, m, v, b1, b2):
    return b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2


def adamw(grads, params, rung, factor):
    """Loshchilov 2019 as PyTorch has it: the decay is multiplied by the rate."""
    b1, b2, eps = (rung.options[name] for name in ("b1", "b2", "eps"))

    def step(t, g, m, v, p, path):
        m, v = moments(g, m, v, b1, b2)
        u = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        return -rung.peak * factor * (u + decays(rung, path) * p), m, v

    return over_steps(step, grads, params, rung)


def big_vision(grads, params, rung, factor):
    """Clip, Adam with its first moment in bfloat16, the peak rate, the decay as it is, schedule."""
    b1, b2, eps = (rung.options[name] for name in ("b1", "b2", "eps"))

    def step(t, g, m, v, p, path):
        m, v = moments(g, m, v, b1, b2)
        u = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        kept = m.astype(ml_dtypes.bfloat16).astype(np.float64)
        return -factor * (rung.peak * u + decays(rung, path) * p), kept, v

    return over_steps(step, grads, params, rung)


def nadamw(grads, params, rung, factor):
    """Dozat 2016 with a constant momentum, whose bias is corrected for the step that it is of."""
    b1, b2, eps = (rung.options[name] for name in ("b1", "b2", "eps"))

    def step(t, g, m, v, p, path):
        m, v = moments(g, m, v, b1, b2)
        ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        u = ahead / (np.sqrt(v / (1 - b2**t)) + eps)
        return -rung.peak * factor * (u + decays(rung, path) * p), m, v

    return over_steps(step, grads, params, rung)


def algoperf_nadamw(grads, params, rung, factor):
    """The same as target_setting_algorithms/jax_nadamw.py: both biases are of this step."""
    b1, b2, eps = (rung.options[name] for name in ("b1", "b2", "eps"))

    def step(t, g, m, v, p, path):
        m, v = moments(g, m, v, b1, b2)
        ahead = (b1 * m + (1 - b1) * g) / (1 - b1**t)
        u = ahead / (np.sqrt(v / (1 - b2**t)) + eps)
        return -rung.peak * factor * (u + decays(rung, path) * p), m, v

    return over_steps(step, grads, params, rung)


def bert_adam(grads, params, rung, factor):
    """google-research/bert, optimization.py: moments that are not corrected for their start."""
    b1, b2, eps = (rung.options[name] for name in ("b1", "b2", "eps"))

    def step(t, g, m, v, p, path):
        m, v = moments(g, m, v, b1, b2)
        u = m / (np.sqrt(v) + eps)
        return -rung.peak * factor * (u + decays(rung, path) * p), m, v

    return over_steps(step, grads, params, rung)


def by_layer(path, function, *arrays):
    """`function` of each layer's arrays, where they are stacks."""
    if "blocks" not in path.split("/"):
        return function(*arrays)
    return np.stack([function(*layer) for layer in zip(*arrays, strict=True)])


def lamb(grads, params, rung, factor):
    """You 2020 as MLPerf and apex have it: no trust ratio without decay."""
    b1, b2, eps = (rung.options[name] for name in ("b1", "b2", "eps"))

    def trusted(u, p):
        return u * np.linalg.norm(p) / np.linalg.norm(u)

    def step(t, g, m, v, p, path):
        m, v = moments(g, m, v, b1, b2)
        u = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        if decays(rung, path):
            u = by_layer(path, trusted, u + decays(rung, path) * p, p)
        return -rung.peak * factor * u, m, v

    return over_steps(step, grads, params, rung)


def sgd(grads, params, rung, factor):
    """Heavy ball: what is kept is kept in bfloat16."""

    def step(t, g, m, v, p, path):
        m = g + rung.options["momentum"] * m
        kept = m.astype(ml_dtypes.bfloat16).astype(np.float64)
        return -rung.peak * factor * m, kept, v

    return over_steps(step, grads, params, rung)


def adafactor(grads, params, rung, factor):
    """Shazeer 2018 as in T5X: relative steps, factored where both sides have 128 or more.

    The averages of rows and of columns are those of a matrix of averages; so the whole of it is
    kept here, and the factors are made of it.
    """

    def scaled(g, v, p):
        if v.ndim == 2 and min(v.shape) >= 128:
            v = v.mean(1, keepdims=True) * v.mean(0, keepdims=True) / v.mean()
        u = g / np.sqrt(v)
        u = u / max(1.0, np.sqrt(np.mean(u**2)))
        return u * max(1e-3, np.sqrt(np.mean(p**2)))

    def step(t, g, m, v, p, path):
        b2 = 1 - t ** -rung.options["decay_rate"]
        v = b2 * v + (1 - b2) * (g**2 + 1e-30)
        return -rung.peak * factor * by_layer(path, scaled, g, v, p), m, v

    return over_steps(step, grads, params, rung)


UPDATES = {
    "adamw": Update("adamw", adamw),
    "big_vision": Update("adamw", big_vision),
    "nadamw": Update("adamw", nadamw),
    "bert_adam": Update("bert_adamw", bert_adam),
    "lamb": Update("lamb", lamb),
    "sgd": Update("sgd", sgd),
    "adafactor": Update("adafactor", adafactor),
}
