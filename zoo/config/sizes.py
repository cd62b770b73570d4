"""How large a config's model is, and how much work a row of its data; imports no jax."""

from zoo.config import bert, decoder, vit
from zoo.config.bert import BertConfig
from zoo.config.data import MaskedData, TextData
from zoo.config.decoder import DecoderConfig
from zoo.config.schema import Config
from zoo.config.vit import ViTConfig


def num_params(config: Config) -> int:
    """Numbers that the model learns."""
    match config.model:
        case ViTConfig():
            return vit.num_params(config.model)
        case BertConfig():
            return bert.num_params(config.model)
        case DecoderConfig():
            return decoder.num_params(config.model)


def row_macs(config: Config) -> int:
    """Multiply-adds of the matrix products for one row of a batch, forward.

    A training step is 3 x as much, and 2 FLOPs each.
    """
    model, data = config.model, config.data
    if isinstance(model, ViTConfig):
        return vit.macs(model)
    assert isinstance(data, TextData)
    if isinstance(model, BertConfig):
        masked = data.max_predictions if isinstance(data, MaskedData) else 0
        return bert.macs(model, data.length, masked)
    return decoder.macs(model, data.length)


def row_tokens(config: Config) -> int | None:
    """Tokens of a row that count in durations and rates, padding too; None for images."""
    data = config.data
    return data.length + getattr(data, "target_length", 0) if isinstance(data, TextData) else None
