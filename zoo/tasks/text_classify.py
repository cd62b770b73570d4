"""Classes of texts and of pairs of texts, or a number for each: sentiment, entailment, likeness."""

import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

from zoo.config import UserError
from zoo.config.data import LabelledData
from zoo.config.schema import Config
from zoo.data.base import Rows
from zoo.tasks.base import Batch, Metrics, shares, softmax_only
from zoo.tasks.bert_parts import bert_parts, encode, read_rows, refuse_options


@dataclass(frozen=True)
class TextClassify:
    """The mathematics of text classification, and of regression with its mean squared error."""

    num_classes: int
    label_smoothing: float
    regression: bool

    @classmethod
    def from_config(cls, config: Config) -> "TextClassify":
        """The task of a config whose `model.num_classes` is filled in."""
        softmax_only(config.task)
        model, data = bert_parts(config, LabelledData, "classification")
        refuse_options(config, "z_loss")
        assert model.num_classes is not None
        if data.regression:
            refuse_options(config, "label_smoothing")
            if model.num_classes != 1:
                raise UserError(
                    f"config.model.num_classes is {model.num_classes}, and regression has one "
                    "output: leave it out"
                )
        return cls(model.num_classes, config.task.label_smoothing, data.regression)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Of an evaluation."""
        if self.regression:
            return ("pearson", "spearman", "loss")
        return ("accuracy", "f1", "matthews_correlation", "loss")

    def prepare(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Adds each row's share of the batch.

        Args:
          batch: as `LabelledRows` makes it, with `weight` float32 [B].
          key: of this step.
        """
        return {
            **read_rows(batch, key),
            "label": batch["label"],
            "weight": shares(batch["weight"]),
        }

    def loss(self, model, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Some rows' part of the mean loss, and of the accuracy, of a prepared batch."""
        logits = model.class_logits(encode(model, batch), keys=batch.get("keys"))
        loss = jnp.sum(self._losses(logits, batch["label"], self.label_smoothing) * batch["weight"])
        if self.regression:
            return loss, {"loss": loss}
        correct = jnp.argmax(logits, -1) == batch["label"]
        return loss, {"loss": loss, "accuracy": jnp.sum(correct * batch["weight"])}

    def _losses(
        self, logits: Float[Array, "B classes"], label: Array, smoothing: float
    ) -> Float[Array, " B"]:
        if self.regression:
            return jnp.square(logits[:, 0] - label)
        target = optax.smooth_labels(jax.nn.one_hot(label, self.num_classes), smoothing)
        return optax.softmax_cross_entropy(logits, target)

    def predict(self, model, batch: Batch) -> dict[str, Array]:
        """Each row's label, loss and prediction, and a class's probability, all [B]."""
        logits = model.class_logits(encode(model, batch))
        results = {"label": batch["label"], "loss": self._losses(logits, batch["label"], 0.0)}
        if self.regression:
            return {**results, "prediction": logits[:, 0]}
        return {
            **results,
            "prediction": jnp.argmax(logits, -1).astype(jnp.int32),
            "probability": jnp.max(jax.nn.softmax(logits), -1),
        }

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """GLUE's metrics (Wang 2018, arXiv 1804.07461), all in -1 to 1."""
        label, prediction = results["label"], results["prediction"]
        loss = float(np.mean(results["loss"], dtype=np.float64))
        if self.regression:
            return {**correlations(label, prediction), "loss": loss}
        return {**class_scores(label, prediction, self.num_classes), "loss": loss}


def class_scores(label: np.ndarray, prediction: np.ndarray, num_classes: int) -> dict[str, float]:
    """`accuracy`, `matthews_correlation`, and `f1`: of class 1 where there are two, else the mean
    of all classes'; a class that is neither there nor predicted has 0."""
    classes = [1] if num_classes == 2 else list(range(num_classes))
    options: dict[str, Any] = {"labels": classes, "average": "macro", "zero_division": 0}
    f1 = f1_score(label, prediction, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one class alone has no correlation: it gives 0
        matthews = matthews_corrcoef(label, prediction)
    return {
        "accuracy": float(np.mean(label == prediction)),
        "f1": float(f1),
        "matthews_correlation": float(matthews),
    }


def correlations(label: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`pearson` and `spearman`; 0 where either side is the same number throughout."""
    if len(label) < 2 or np.ptp(label) == 0 or np.ptp(prediction) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    label, prediction = label.astype(np.float64), prediction.astype(np.float64)
    found: dict[str, Any] = {
        "pearson": stats.pearsonr(label, prediction),
        "spearman": stats.spearmanr(label, prediction),
    }
    return {name: float(result.statistic) for name, result in found.items()}
