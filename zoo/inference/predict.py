"""A trained classifier, ready to use: images in, named classes out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from zoo.config import UserError
from zoo.config.schema import Config, MeshConfig
from zoo.data.images import build_ops, decode
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import Params, abstract_model
from zoo.tasks.classify import Classify, vision_parts
from zoo.training.weights import open_weights


class Classifier:
    """A model with its preprocessing and class names, on one device.

    Attributes:
      config: the resolved config that it was trained with.
      classes: names, by class index.
      params: nested dict of arrays.
    """

    def __init__(self, config: Config, classes: Sequence[str], params: Params):
        self.config, self.classes, self.params = config, tuple(classes), params
        _, self._data = vision_parts(config)
        task, (graphdef, _) = Classify.from_config(config), abstract_model(config)
        self._preprocess = build_ops(self._data.eval_ops, self._data.image_size)
        self._predict = jax.jit(
            lambda params, image: task.probabilities(
                nnx.merge(graphdef, params)(task.normalize(image))
            )
        )

    def read(self, path: str | Path) -> np.ndarray:
        """A PNG or JPEG file -> uint8 [rows, cols, C], as the model sees it in evaluation.

        Raises:
          UserError: no such file, or no image in it.
        """
        try:
            image = decode(Path(path).read_bytes(), self._data.channels)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{path} is no image that can be read: {error}") from error
        return self._preprocess(image, np.random.default_rng(0))

    def probabilities(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Preprocessed images -> float32 [images, classes]; one at a time, compiled once."""
        rows = [self._predict(self.params, image[None]) for image in images]
        return np.concatenate(jax.device_get(rows))

    def predict(self, path: str | Path, *, top: int = 5) -> list[dict[str, Any]]:
        """The `top` classes of an image file, likeliest first: `class`, `index`, `probability`."""
        probability = self.probabilities([self.read(path)])[0]
        best = np.argsort(-probability, kind="stable")[:top]
        return [
            {"class": self.classes[i], "index": int(i), "probability": float(probability[i])}
            for i in best
        ]


def load_classifier(path: str | Path) -> Classifier:
    """A trained model from a workdir (its best checkpoint) or from `WORKDIR/checkpoints/STEP`.

    Raises:
      UserError: there is no checkpoint, or it cannot be read.
    """
    weights = open_weights(path)
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    return Classifier(weights.config, weights.classes, weights.load(mesh))
