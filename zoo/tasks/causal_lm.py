"""Language modelling: each token from those before it in its document."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float, Key

from zoo.config.decoder import DecoderConfig
from zoo.config.schema import Config, TaskConfig
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
class CausalLM:
    """The mathematics of language modelling on packed rows (`zoo.data.text.blocks`)."""

    vocab_size: int
    cfg: TaskConfig

    metric_names = ("loss", "perplexity", "bits_per_byte", "accuracy")

    @classmethod
    def from_config(cls, config: Config) -> "CausalLM":
        """The task of a config whose `model.vocab_size` is filled in."""
        assert isinstance(config.model, DecoderConfig)
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
        """Sums over each row's targets: `nll` in nats, `correct`, `tokens`, `num_bytes`."""
        sums = target_sums(self._losses(model, batch), batch["mask"])
        return {**sums, "num_bytes": batch["num_bytes"]}

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """`loss` in nats a token, `perplexity`, `bits_per_byte`, `accuracy`, and `tokens`.

        Bits per byte: all the nats of the text's tokens, the end of each document included, over
        the bytes of its UTF-8. It does not depend on the tokenizer, as perplexity does.
        """
        metrics = split_means(results)
        bits = metrics["loss"] * metrics["tokens"] / np.log(2)
        return {**metrics, "bits_per_byte": float(bits / np.sum(results["num_bytes"]))}

    def _losses(self, model, batch: Batch, keys: Key[Array, " B"] | None = None) -> TokenLosses:
        hidden = model.hidden(
            batch["tokens"], segment=batch["segment"], position=batch["position"], keys=keys
        )
        return token_losses(
            model.logits,
            hidden,
            batch["targets"],
            vocab_size=self.vocab_size,
            label_smoothing=self.cfg.label_smoothing,
            z_loss=self.cfg.z_loss,
        )
