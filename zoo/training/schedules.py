"""Learning rates over time: linear warm-up, a body, and for some bodies a linear cooldown."""

import jax.numpy as jnp
import numpy as np
import optax

from zoo.config import UserError
from zoo.config.schema import OptimizerConfig


def make_schedule(
    cfg: OptimizerConfig, *, total_steps: int, warmup_steps: int, cooldown_steps: int
) -> optax.Schedule:
    """The learning rate as a function of the number of updates made before this one.

    With t that number, W, T and C the three arguments, and P the peak `cfg.lr`: the rate is
    P t / W until W, then

      constant, wsd  P
      rsqrt          P sqrt(W / t), as in Vaswani 2017 (arXiv 1706.03762)
      linear         on a line from P to final_lr at T
      cosine         final_lr + (P - final_lr) (1 + cos(pi (t - W) / (T - W))) / 2

    and, where there is a cooldown, on a line from the value at T - C to final_lr at T. As in
    big_vision, timm and PyTorch, t = 0 is the first update and t = T the end of training: the last
    update, t = T - 1, is one stride short of final_lr. Later than T it stays what it is at T.
    wsd is Hu 2024 (arXiv 2404.06395) with a linear decay: a constant rate that must come down.

    Args:
      cfg: `schedule`, `lr`, `final_lr`; its durations come resolved in the other arguments.
      total_steps: length of the training run, with warm-up and cooldown.
      warmup_steps: 0 starts at the peak.
      cooldown_steps: 0 ends without one.

    Raises:
      UserError: settings that contradict each other.
    """
    _check(cfg, total_steps, warmup_steps, cooldown_steps)
    body_steps = max(total_steps - warmup_steps, 1)
    body = _body(cfg, body_steps, warmup_steps)
    pieces, borders = [body], []
    if warmup_steps:
        pieces, borders = [optax.linear_schedule(0.0, cfg.lr, warmup_steps), body], [warmup_steps]
    if cooldown_steps:
        top = float(np.asarray(body(body_steps - cooldown_steps)))
        pieces.append(optax.linear_schedule(top, cfg.final_lr, cooldown_steps))
        borders.append(total_steps - cooldown_steps)
    return optax.join_schedules(pieces, borders)


def _body(cfg: OptimizerConfig, steps: int, warmup_steps: int) -> optax.Schedule:
    """What follows the warm-up, counted from its end; without the cooldown."""
    if cfg.schedule == "cosine":
        return optax.cosine_decay_schedule(cfg.lr, steps, alpha=cfg.final_lr / cfg.lr)
    if cfg.schedule == "linear":
        return optax.linear_schedule(cfg.lr, cfg.final_lr, steps)
    if cfg.schedule == "rsqrt":
        # join_schedules evaluates it before its beginning too, where the count is negative.
        return lambda t: cfg.lr * jnp.sqrt(warmup_steps / (warmup_steps + jnp.clip(t, 0, steps)))
    return optax.constant_schedule(cfg.lr)


def _check(cfg: OptimizerConfig, total: int, warmup: int, cooldown: int) -> None:
    name = f"optimizer.schedule {cfg.schedule!r}"
    if cfg.lr <= 0:
        raise UserError(
            f"optimizer.lr is {cfg.lr}: it must be above 0; use freeze to train nothing"
        )
    if warmup + cooldown > total:
        raise UserError(
            f"optimizer: {warmup} steps of warmup and {cooldown} of cooldown do not fit in the "
            f"{total} steps of training: shorten them, or train for longer"
        )
    if cfg.schedule in ("cosine", "linear") and cooldown:
        raise UserError(
            f"{name} comes down by itself: drop optimizer.cooldown, or use constant, rsqrt or wsd"
        )
    if cfg.schedule == "wsd" and not cooldown:
        raise UserError(
            f"{name} decays during the cooldown: set optimizer.cooldown, or use constant"
        )
    if cfg.schedule == "rsqrt" and not warmup:
        raise UserError(f"{name} falls as sqrt(warmup / step): set optimizer.warmup")
    if cfg.schedule in ("constant", "rsqrt") and cfg.final_lr and not cooldown:
        raise UserError(
            f"{name} never comes to optimizer.final_lr {cfg.final_lr} without optimizer.cooldown: "
            "set that, or drop final_lr"
        )
