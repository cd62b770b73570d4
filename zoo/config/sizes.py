"""How large a config's model is, and how much work a row of its data; imports no jax."""

from zoo.config import bert, decoder, transformer, vit
from zoo.config.bert import BertConfig
from zoo.config.data import MaskedData, PairData, SpanData, TextData
from zoo.config.decoder import DecoderConfig
from zoo.config.schema import Config
from zoo.config.spans import noise_of, raw_length
from zoo.config.transformer import TransformerConfig
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
        case TransformerConfig():
            return transformer.num_params(config.model)


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
    if isinstance(model, TransformerConfig):
        return transformer.macs(model, data.length, target_tokens(data))
    return decoder.macs(model, data.length)


def row_tokens(config: Config) -> int | None:
    """Tokens of a row that count in durations and rates, padding too; None for images."""
    data = config.data
    return data.length + target_tokens(data) if isinstance(data, TextData) else None


def model_tokens(config: Config) -> dict[str, int]:
    """How long the sequences inside the model are, by what a message calls them."""
    model, data = config.model, config.data
    if isinstance(model, ViTConfig):
        rows, cols = model.patches
        prefix, patches = model.num_prefix, rows * cols
        told = f"{prefix} + {patches}" if prefix else str(patches)
        return {f"an image's {told} tokens": prefix + patches}
    assert isinstance(data, TextData)
    target = target_tokens(data)
    lengths = {f"config.data.length {data.length}": data.length}
    return lengths | ({f"a target's {target} tokens": target} if target else {})


def target_tokens(data: TextData) -> int:
    """Tokens of a row's output, 0 where it has none.

    Raises:
      UserError: span corruption with a rate or a length at which nothing can be corrupted.
    """
    if isinstance(data, PairData):
        return data.target_length
    if isinstance(data, SpanData):
        raw = raw_length(data.length, data.mask_rate, data.mean_span)
        return noise_of(raw, data.mask_rate, data.mean_span).target
    return 0
