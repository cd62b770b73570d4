"""Image classification: batch -> loss, metrics and predictions."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, UInt8

from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.config.schema import Config, TaskConfig
from zoo.config.vit import ViTConfig
from zoo.data.base import Rows
from zoo.tasks.base import Batch, Metrics, row_keys, shares
from zoo.tasks.mixing import erase, mix


def vision_parts(config: Config) -> tuple[ViTConfig, ImageData]:
    """The model and the data of a config for images.

    Raises:
      UserError: it is for something else.
    """
    if not isinstance(config.model, ViTConfig) or not isinstance(config.data, ImageData):
        kind = config.data.__struct_config__.tag
        raise UserError(f"this is for image classifiers, and the model was trained on {kind!r}")
    return config.model, config.data


@dataclass(frozen=True)
class Classify:
    """The mathematics of image classification."""

    num_classes: int
    cfg: TaskConfig
    data: ImageData

    metric_names = ("accuracy", "loss", "top5_accuracy")

    @classmethod
    def from_config(cls, config: Config) -> "Classify":
        """The task of a config whose `model.num_classes` is filled in."""
        model, data = vision_parts(config)
        assert model.num_classes is not None
        if config.task.z_loss:
            raise UserError("config.task.z_loss is for the token losses of text: leave it out")
        return cls(model.num_classes, config.task, data)

    def prepare(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """What the training loss needs: normalised, erased and mixed images with soft targets.

        Works on the global batch, before it is split into microbatches, and gives every example
        a key of its own: whatever the model draws does not depend on how the batch is split.

        Args:
          batch: `image` uint8 [B, rows, cols, C], `label` int32 [B], `weight` float32 [B].
          key: of this step.
        """
        num_rows = batch["label"].shape[0]
        keys = row_keys(key, num_rows)
        mix_key, erase_keys, mix_keys, model_keys = (
            jax.random.fold_in(key, num_rows),
            *(jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, i) for i in range(3)),
        )
        image = self.normalize(batch["image"])
        target = optax.smooth_labels(
            jax.nn.one_hot(batch["label"], self.num_classes), self.cfg.label_smoothing
        )
        if self.data.mix.erase > 0:
            image = erase(image, erase_keys, self.data.mix)
        if self.data.mix.mixup > 0 or self.data.mix.cutmix > 0:
            # Neighbours may be the same image, augmented twice: mixing those would mean nothing.
            partner = self.data.repeats
            image, target = mix(image, target, mix_key, mix_keys, self.data.mix, partner=partner)
        if self.cfg.binary_targets:
            target = (target > 0).astype(jnp.float32)
        return {
            "image": image,
            "target": target,
            "label": batch["label"],
            "weight": shares(batch["weight"]),
            "keys": model_keys,
        }

    def normalize(self, image: UInt8[Array, "B rows cols C"]) -> Float[Array, "B rows cols C"]:
        """Pixels of 0..255 -> (pixel - mean) / std, float32."""
        mean = jnp.array(self.data.pixel_mean, jnp.float32)
        std = jnp.array(self.data.pixel_std, jnp.float32)
        return (image.astype(jnp.float32) - mean[None, None, None]) / std[None, None, None]

    def loss(self, model, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Some rows' part of the mean loss and accuracy of a prepared batch."""
        logits = model(batch["image"], keys=batch["keys"])
        weight = batch["weight"]
        loss = jnp.sum(self.losses(logits, batch["target"]) * weight)
        correct = jnp.sum((jnp.argmax(logits, -1) == batch["label"]) * weight)
        return loss, {"loss": loss, "accuracy": correct}

    def losses(
        self, logits: Float[Array, "B classes"], target: Float[Array, "B classes"]
    ) -> Float[Array, " B"]:
        """Each example's loss, float32.

        `sigmoid` sums over the classes (big_vision), `sigmoid_mean` averages (PyTorch's BCE).
        """
        logits = logits.astype(jnp.float32)
        if self.cfg.loss == "softmax":
            return optax.softmax_cross_entropy(logits, target)
        each = optax.sigmoid_binary_cross_entropy(logits, target)
        return jnp.sum(each, -1) if self.cfg.loss == "sigmoid" else jnp.mean(each, -1)

    def predict(self, model, batch: Batch) -> dict[str, Array]:
        """Each example's loss and prediction, all [B]: what evaluation and the report look at."""
        logits = model(self.normalize(batch["image"])).astype(jnp.float32)
        label: Int[Array, " B"] = batch["label"]
        probability = self.probabilities(logits)
        own = jnp.take_along_axis(logits, label[:, None], 1)
        # Of equals the first wins, as in argmax; next to a NaN nothing does.
        first = jnp.arange(self.num_classes)[None] < label[:, None]
        rank = jnp.sum(~(logits <= own) | ((logits == own) & first), -1)
        return {
            "label": label,
            "loss": self.losses(logits, jax.nn.one_hot(label, self.num_classes)),
            "prediction": jnp.argmax(logits, -1).astype(jnp.int32),
            "probability": jnp.max(probability, -1),
            "label_probability": jnp.take_along_axis(probability, label[:, None], 1)[:, 0],
            "label_rank": rank.astype(jnp.int32),  # classes that beat the true one; 0: correct
        }

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """`loss`, `accuracy`, and `top5_accuracy` where there are more than 5 classes."""
        rank = results["label_rank"]
        metrics = {
            "loss": float(np.mean(results["loss"], dtype=np.float64)),
            "accuracy": float(np.mean(rank == 0)),
        }
        if len(rows.classes) > 5:
            metrics["top5_accuracy"] = float(np.mean(rank < 5))
        return metrics

    def probabilities(self, logits: Float[Array, "B classes"]) -> Float[Array, "B classes"]:
        """What the loss takes the logits to mean: softmax, or independent sigmoids."""
        return jax.nn.softmax(logits) if self.cfg.loss == "softmax" else jax.nn.sigmoid(logits)
