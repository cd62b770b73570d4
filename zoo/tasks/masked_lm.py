"""Guessing masked tokens, and whether one text follows the other (Devlin 2018, 1810.04805)."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from zoo.config.data import MaskedData
from zoo.config.schema import Config, TaskConfig
from zoo.data.base import Rows
from zoo.tasks.base import Batch, Metrics, shares, softmax_only
from zoo.tasks.bert_parts import bert_parts, encode, read_rows
from zoo.tasks.token_loss import TokenLosses, token_losses


@dataclass(frozen=True)
class MaskedLm:
    """The mathematics of BERT's pre-training.

    The loss is the mean over the masked tokens of the global batch, plus, where next sentences
    are guessed, the mean over its rows.
    """

    vocab_size: int
    cfg: TaskConfig
    next_sentence: bool

    @classmethod
    def from_config(cls, config: Config) -> "MaskedLm":
        """The task of a config whose `model.vocab_size` is filled in."""
        softmax_only(config.task)
        next_sentence = getattr(config.data, "next_sentence", False)
        head = "pretraining" if next_sentence else "masked_lm"
        model, _ = bert_parts(config, MaskedData, head)
        assert model.vocab_size is not None
        return cls(model.vocab_size, config.task, next_sentence)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Of an evaluation."""
        names = ("loss", "masked_lm_loss", "masked_lm_accuracy")
        more = ("next_sentence_loss", "next_sentence_accuracy")
        return names + more if self.next_sentence else names

    def prepare(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Adds weights: each masked token's share of the batch's, and each row's.

        Args:
          batch: as `MaskedRows` makes it, with `weight` float32 [B].
          key: of this step.
        """
        weight = batch["weight"]
        prepared = {
            **read_rows(batch, key),
            "masked_positions": batch["masked_positions"],
            "masked_targets": batch["masked_targets"],
            "masked_weight": shares(batch["mask"] * weight[:, None]),
        }
        if self.next_sentence:
            prepared |= {"next_sentence": batch["next_sentence"], "weight": shares(weight)}
        return prepared

    def loss(self, model, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Some rows' part of the loss and of the metrics of a prepared batch."""
        hidden, weight = encode(model, batch), batch["masked_weight"]
        masked = self._masked(model, hidden, batch)
        loss = jnp.sum(masked.loss * weight)
        metrics = {
            "masked_lm_loss": jnp.sum(masked.nll * weight),
            "masked_lm_accuracy": jnp.sum(masked.correct * weight),
        }
        if self.next_sentence:
            losses, correct = next_sentence(model, hidden, batch["next_sentence"])
            metrics["next_sentence_loss"] = jnp.sum(losses * batch["weight"])
            metrics["next_sentence_accuracy"] = jnp.sum(correct * batch["weight"])
            loss += metrics["next_sentence_loss"]
        return loss, {"loss": loss, **metrics}

    def _masked(self, model, hidden: Float[Array, "B T D"], batch: Batch) -> TokenLosses:
        return token_losses(
            model.logits,
            model.masked_hidden(hidden, batch["masked_positions"]),
            batch["masked_targets"],
            vocab_size=self.vocab_size,
            label_smoothing=self.cfg.label_smoothing,
            z_loss=self.cfg.z_loss,
        )

    def predict(self, model, batch: Batch) -> dict[str, Array]:
        """Each row's sums over its masked tokens, and how many it has, all [B]."""
        hidden, mask = encode(model, batch), batch["mask"]
        masked = self._masked(model, hidden, batch)
        results = {
            "masked_nll": jnp.sum(masked.nll * mask, 1),
            "masked_correct": jnp.sum(masked.correct & mask, 1),
            "masked_count": jnp.sum(mask, 1),
        }
        if self.next_sentence:
            losses, correct = next_sentence(model, hidden, batch["next_sentence"])
            results |= {"next_sentence_nll": losses, "next_sentence_correct": correct}
        return results

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """Means over all masked tokens of the split, and over its rows."""
        count = max(int(results["masked_count"].sum()), 1)
        nll = float(results["masked_nll"].sum(dtype=np.float64)) / count
        metrics: dict[str, float | int] = {
            "loss": nll,
            "masked_lm_loss": nll,
            "masked_lm_accuracy": int(results["masked_correct"].sum()) / count,
        }
        if self.next_sentence:
            loss = float(np.mean(results["next_sentence_nll"], dtype=np.float64))
            metrics["loss"] += loss
            metrics["next_sentence_loss"] = loss
            metrics["next_sentence_accuracy"] = float(np.mean(results["next_sentence_correct"]))
        return metrics


def next_sentence(
    model, hidden: Float[Array, "B T D"], label: Int[Array, " B"]
) -> tuple[Float[Array, " B"], Array]:
    """Each row's loss, and whether the guess is right."""
    logits = model.next_sentence_logits(hidden)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return losses, jnp.argmax(logits, -1) == label
