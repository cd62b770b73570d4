"""How large a config's model is, and how much work a row of its data; imports no jax."""

from zoo.config import vit
from zoo.config.schema import Config


def num_params(config: Config) -> int:
    """Numbers that the model learns."""
    return vit.num_params(config.model)


def row_macs(config: Config) -> int:
    """Multiply-adds of the matrix products for one row of a batch, forward.

    A training step is 3 x as much, and 2 FLOPs each.
    """
    return vit.macs(config.model)


def row_tokens(config: Config) -> int | None:
    """Tokens of a row that count in durations and rates; None for images."""
    return None
