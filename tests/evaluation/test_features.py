"""Frozen features: k-NN and a linear probe, on clusters whose answer is known."""

import jax
import numpy as np
import pytest
from flax import nnx
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from tests.tiny import tiny_config
from zoo.data.sources import open_source
from zoo.evaluation.features import Features, extract_features, knn_accuracy, probe_accuracy
from zoo.models.vit import ViT
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import abstract_model, init_params

SPLIT = "test[:20]"


def clusters(seed, spread, count=60):
    """Points around three directions of a plane, at lengths that say nothing."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 3
    angle = label * 2 * np.pi / 3 + spread * rng.normal(size=count)
    length = rng.uniform(0.1, 10, count)
    x = np.stack([np.cos(angle), np.sin(angle)], 1) * length[:, None]
    return Features(x.astype(np.float32), label)


@pytest.mark.parametrize("neighbours", [1, 5])
def test_neighbours_vote_by_direction(neighbours):
    train, test = clusters(0, 0.5), clusters(1, 0.5)
    assert knn_accuracy(clusters(0, 0.01), clusters(1, 0.01), neighbours) == 1
    reference = KNeighborsClassifier(neighbours, metric="cosine").fit(train.x, train.label)
    found = knn_accuracy(train, test, neighbours)
    assert found == reference.score(test.x, test.label)
    by_distance = KNeighborsClassifier(neighbours).fit(train.x, train.label)
    assert found != by_distance.score(test.x, test.label)


def test_the_probe_is_logistic_regression_on_standardised_features():
    train, test = clusters(0, 0.5), clusters(1, 0.5)
    mean, std = train.x.mean(0), train.x.std(0)
    reference = LogisticRegression(max_iter=1000).fit((train.x - mean) / std, train.label)
    assert probe_accuracy(train, test) == reference.score((test.x - mean) / std, test.label)
    assert 0.5 < probe_accuracy(train, test) < 1
    shifted = [Features(1e4 + 1e3 * part.x, part.label) for part in (train, test)]
    assert probe_accuracy(*shifted) == pytest.approx(probe_accuracy(train, test), abs=0.02)


def test_features_are_those_of_the_model_each_example_once():
    """Twenty examples in batches of eight: the padding of the last one is left out."""
    config = tiny_config(data={"eval_batch_size": 8})
    params = init_params(config, jax.random.key(0))
    found = extract_features(config, make_mesh(config.mesh), params, SPLIT)
    source = open_source(config.data, SPLIT)
    image = np.stack([source[i]["image"] for i in range(20)])
    np.testing.assert_array_equal(found.label, [source[i]["label"] for i in range(20)])
    graphdef, _ = abstract_model(config)
    model = nnx.merge(graphdef, params)
    assert isinstance(model, ViT)
    pixels = jax.numpy.array(image / 127.5 - 1, np.float32)
    _, captured = model(pixels, capture=("representation",))
    np.testing.assert_allclose(found.x, captured["representation"], atol=1e-5)
