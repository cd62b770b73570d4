"""Sequence to sequence: each target token from the source and the target tokens before it."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from zoo.config.schema import Config, TaskConfig
from zoo.config.transformer import TransformerConfig
from zoo.data.base import Rows
from zoo.tasks.base import Batch, Metrics, softmax_only
from zoo.tasks.token_loss import (
    TokenLosses,
    share_targets,
    split_means,
    target_means,
    target_sums,
    token_losses,
)


@dataclass(frozen=True)
class Seq2Seq:
    """The mathematics of pairs (`zoo.data.text.pairs`) and of T5's pretraining (`.spans`)."""

    vocab_size: int
    cfg: TaskConfig

    metric_names = ("loss", "perplexity", "accuracy")

    @classmethod
    def from_config(cls, config: Config) -> "Seq2Seq":
        """The task of a config whose `model.vocab_size` is filled in."""
        assert isinstance(config.model, TransformerConfig)
        assert config.model.vocab_size is not None
        softmax_only(config.task)
        return cls(config.model.vocab_size, config.task)

    def prepare(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Adds the shares of all targets that count, and a key for each row."""
        return share_targets(batch, key)

    def loss(self, model, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Some rows' part of the mean loss and accuracy over the batch's targets."""
        return target_means(self._losses(model, batch, batch["keys"]), batch["share"])

    def predict(self, model, batch: Batch) -> dict[str, Array]:
        """Sums over each row's targets: `nll` in nats, `correct`, `tokens`."""
        return target_sums(self._losses(model, batch), batch["mask"])

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """`loss` in nats a target token, the end included, `perplexity`, `accuracy`, `tokens`."""
        return split_means(results)

    def _losses(self, model, batch: Batch, keys: Key[Array, " B"] | None = None) -> TokenLosses:
        hidden = model.hidden(
            batch["source"],
            shift_right(batch["target"], batch["target_segment"], start_token(model.cfg)),
            source_segment=batch["source_segment"],
            target_segment=batch["target_segment"],
            source_position=batch.get("source_position"),  # a row with one text has none
            target_position=batch.get("target_position"),
            keys=keys,
        )
        return token_losses(
            model.logits,
            hidden,
            batch["target"],
            vocab_size=self.vocab_size,
            label_smoothing=self.cfg.label_smoothing,
            z_loss=self.cfg.z_loss,
        )


def start_token(cfg: TransformerConfig) -> int:
    """What a decoder reads before a target's first token; T5's padding, where nothing is said."""
    return 0 if cfg.start_token is None else cfg.start_token


def shift_right(
    target: Int[Array, "B T"], segment: Int[Array, "B T"], start: int = 0
) -> Int[Array, "B T"]:
    """What the decoder reads: `start`, then each target but the last, in each document of a row."""
    previous = jnp.pad(target[:, :-1], ((0, 0), (1, 0)))
    before = jnp.pad(segment[:, :-1], ((0, 0), (1, 0)))
    return jnp.where(segment == before, previous, start)
