"""A trained classifier in use: files of any kind in, named classes out."""

import jax
import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_config
from zoo.config import UserError
from zoo.inference.predict import Classifier
from zoo.tasks.build import init_params

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def classifier():
    config = tiny_config(data={"eval_ops": [{"op": "resize", "method": "bilinear"}]})
    return Classifier(config, CLASSES, init_params(config, jax.random.key(3)))


def saved(path, mode, size=(8, 8)):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "L"), ("a.png", "RGB"), ("a.png", "RGBA"), ("a.jpg", "RGB")]
)
def test_grey_and_colour_files_come_as_the_model_wants_them(classifier, tmp_path, name, mode):
    path = saved(tmp_path / name, mode, size=(20, 12))
    image = classifier.read(path)
    assert (image.shape, image.dtype) == ((8, 8, 1), np.uint8)
    with Image.open(path) as file:
        grey = np.asarray(file.convert("RGB").convert("L"), float)
    assert abs(image.mean() - grey.mean()) < 6


def test_the_likeliest_classes_come_first_with_their_probabilities(classifier, tmp_path):
    path = saved(tmp_path / "a.png", "L")
    probability = classifier.probabilities([classifier.read(path)])[0]
    assert probability.shape == (10,)
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    top = classifier.predict(path, top=3)
    assert [one["index"] for one in top] == np.argsort(-probability)[:3].tolist()
    assert [one["class"] for one in top] == [CLASSES[one["index"]] for one in top]
    assert [one["probability"] for one in top] == [probability[one["index"]] for one in top]
    assert len(classifier.predict(path, top=99)) == 10


def test_images_do_not_influence_each_other(classifier, tmp_path):
    images = [np.full((8, 8, 1), value, np.uint8) for value in (0, 90, 255)]
    together = classifier.probabilities(images)
    for image, row in zip(images, together, strict=True):
        np.testing.assert_array_equal(classifier.probabilities([image])[0], row)
    assert len(np.unique(together, axis=0)) == 3


def test_what_is_no_image_is_named(classifier, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(saved(tmp_path / "a.jpg", "RGB").read_bytes()[:60])
    for name, reason in [
        ("torn.jpg", "is no image that can be read"),
        ("none.png", "No such file"),
        (".", "Is a directory"),
    ]:
        with pytest.raises(UserError, match=reason):
            classifier.read(tmp_path / name)
