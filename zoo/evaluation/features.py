"""What frozen features are worth: k-NN and a linear probe, by scikit-learn."""

from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from zoo.config.schema import Config
from zoo.data.stream import eval_batches
from zoo.evaluation.evaluate import eval_batch_size
from zoo.sharding.batches import own_rows, put_batch
from zoo.tasks.build import Params, abstract_model
from zoo.tasks.classify import Classify


class Features(NamedTuple):
    """The representation of each image of a split, before the head."""

    x: Float[np.ndarray, "examples D"]
    label: Int[np.ndarray, " examples"]


def extract_features(config: Config, mesh: Mesh, params: Params, split: str) -> Features:
    """Runs the model over a split with its evaluation preprocessing."""
    task, (graphdef, _) = Classify.from_config(config), abstract_model(config)

    def represent(params, batch):
        model, image = nnx.merge(graphdef, params), task.normalize(batch["image"])
        _, captured = model(image, capture=("representation",))
        return captured["representation"], batch["label"], batch["weight"]

    jit_represent = jax.jit(represent, out_shardings=NamedSharding(mesh, P()))
    parts = []
    size = eval_batch_size(config)
    for batch in eval_batches(config.data, split, own=own_rows(mesh, size)):
        with jax.set_mesh(mesh):
            placed = put_batch(batch, mesh, size)
            x, label, weight = jax.device_get(jit_represent(params, placed))
        parts.append((x[weight > 0].astype(np.float32), label[weight > 0]))
    x, label = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Features(x, label)


def knn_accuracy(train: Features, test: Features, neighbours: int) -> float:
    """Accuracy of a k-nearest-neighbour vote by cosine similarity (unweighted)."""
    classifier = KNeighborsClassifier(n_neighbors=neighbours)
    classifier.fit(normalize(train.x), train.label)
    return float(classifier.score(normalize(test.x), test.label))


def probe_accuracy(train: Features, test: Features, *, seed: int = 0) -> float:
    """Accuracy of multinomial logistic regression (L2, C=1) on standardised features."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))
    probe.fit(train.x, train.label)
    return float(probe.score(test.x, test.label))
