"""A class for each word of a text: named entities, parts of speech."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from zoo.config.data import TagData
from zoo.config.schema import Config
from zoo.data.base import Rows
from zoo.tasks.base import Batch, Metrics, shares, softmax_only
from zoo.tasks.bert_parts import bert_parts, encode, read_rows, refuse_options


@dataclass(frozen=True)
class TokenClassify:
    """The mathematics of token classification: means are over the words of the global batch."""

    num_classes: int
    label_smoothing: float

    metric_names = ("accuracy", "loss", "f1", "precision", "recall")

    @classmethod
    def from_config(cls, config: Config) -> "TokenClassify":
        """The task of a config whose `model.num_classes` is filled in."""
        softmax_only(config.task)
        model, _ = bert_parts(config, TagData, "token_classification")
        refuse_options(config, "z_loss")
        assert model.num_classes is not None
        return cls(model.num_classes, config.task.label_smoothing)

    def prepare(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Adds each word's share of the batch's words.

        Args:
          batch: as `TagRows` makes it, with `weight` float32 [B].
          key: of this step.
        """
        weight = shares(batch["mask"] * batch["weight"][:, None])
        return {**read_rows(batch, key), "label": batch["label"], "weight": weight}

    def loss(self, model, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Some rows' part of the mean loss and accuracy of a prepared batch."""
        logits = model.token_logits(encode(model, batch), keys=batch.get("keys"))
        losses = self._losses(logits, batch["label"], self.label_smoothing)
        loss = jnp.sum(losses * batch["weight"])
        correct = jnp.argmax(logits, -1) == batch["label"]
        return loss, {"loss": loss, "accuracy": jnp.sum(correct * batch["weight"])}

    def _losses(
        self, logits: Float[Array, "B T classes"], label: Array, smoothing: float
    ) -> Float[Array, "B T"]:
        target = optax.smooth_labels(jax.nn.one_hot(label, self.num_classes), smoothing)
        return optax.softmax_cross_entropy(logits, target)

    def predict(self, model, batch: Batch) -> dict[str, Array]:
        """Classes [B, T], true and predicted, `mask` where they count, and `loss` [B], a sum."""
        logits, mask = model.token_logits(encode(model, batch)), batch["mask"]
        return {
            "label": batch["label"],
            "mask": mask,
            "prediction": jnp.argmax(logits, -1).astype(jnp.int32),
            "loss": jnp.sum(self._losses(logits, batch["label"], 0.0) * mask, -1),
        }

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """Over all words: `loss` and `accuracy`; and of named entities, where the classes' names
        are O, B-... and I-..., `f1`, `precision` and `recall`."""
        mask, count = results["mask"], max(int(results["mask"].sum()), 1)
        correct = (results["prediction"] == results["label"]) & mask
        metrics: dict[str, float | int] = {
            "loss": float(results["loss"].sum(dtype=np.float64)) / count,
            "accuracy": int(correct.sum()) / count,
        }
        if are_entity_tags(rows.classes):
            found = {
                name: [
                    entities([rows.classes[c] for c in row[here]])
                    for row, here in zip(results[name], mask, strict=True)
                ]
                for name in ("label", "prediction")
            }
            metrics |= entity_scores(found["label"], found["prediction"])
        return metrics


Entity = tuple[str, int, int]  # its type, its first word, and the one after its last


def are_entity_tags(classes: Sequence[str]) -> bool:
    """Whether classes are named O, B-TYPE and I-TYPE."""
    return "O" in classes and all(c == "O" or c[:2] in ("B-", "I-") for c in classes)


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities of a sentence, by the rules of CoNLL's conlleval: one ends before O, B- and
    another type, and an I- that continues nothing begins one."""
    found, kind, start = set(), "", 0
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, own = tag.partition("-")
        if kind and (prefix != "I" or own != kind):
            found.add((kind, start, i))
            kind = ""
        if prefix != "O" and not kind:
            kind, start = own, i
    return found


def entity_scores(
    label: Sequence[set[Entity]], prediction: Sequence[set[Entity]]
) -> dict[str, float]:
    """`f1`, `precision` and `recall` over all sentences: an entity counts if all of it is right."""
    correct = sum(len(a & b) for a, b in zip(label, prediction, strict=True))
    there, said = (sum(map(len, found)) for found in (label, prediction))
    return {
        "f1": 2 * correct / max(there + said, 1),
        "precision": correct / max(said, 1),
        "recall": correct / max(there, 1),
    }
