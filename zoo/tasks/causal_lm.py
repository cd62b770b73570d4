"""Language modelling: each token from those before it in its document."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from zoo.config.decoder import DecoderConfig
from zoo.config.schema import Config, TaskConfig
from zoo.data.base import Rows
from zoo.tasks.base import Batch, Metrics, row_keys, shares, softmax_only
from zoo.tasks.token_loss import TokenLosses, token_losses


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
        share = shares(batch["mask"] * batch["weight"][:, None])
        return {**batch, "share": share, "keys": row_keys(key, len(share))}

    def loss(self, model, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Some rows' part of the mean loss and accuracy over the batch's targets."""
        found = self._losses(model, batch, batch["keys"])
        loss = jnp.sum(found.loss * batch["share"])
        return loss, {"loss": loss, "accuracy": jnp.sum(found.correct * batch["share"])}

    def predict(self, model, batch: Batch) -> dict[str, Array]:
        """Sums over each row's targets: `nll` in nats, `correct`, `tokens`, `num_bytes`."""
        found, mask = self._losses(model, batch), batch["mask"]
        return {
            "nll": jnp.sum(found.nll * mask, -1),
            "correct": jnp.sum(found.correct & mask, -1),
            "tokens": jnp.sum(mask, -1),
            "num_bytes": batch["num_bytes"],
        }

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """`loss` in nats a token, `perplexity`, `bits_per_byte`, `accuracy`, and `tokens`.

        Bits per byte: all the nats of the text's tokens, the end of each document included, over
        the bytes of its UTF-8. It does not depend on the tokenizer, as perplexity does.
        """
        nll = float(np.sum(results["nll"], dtype=np.float64))
        tokens, num_bytes = (int(np.sum(results[name])) for name in ("tokens", "num_bytes"))
        return {
            "loss": nll / tokens,
            "perplexity": float(np.exp(nll / tokens)),
            "bits_per_byte": nll / np.log(2) / num_bytes,
            "accuracy": float(np.sum(results["correct"]) / tokens),
            "tokens": tokens,
        }

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
