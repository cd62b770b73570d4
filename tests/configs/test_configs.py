"""Every shipped config loads, builds and is as large and as long as its source says."""

import ast
import importlib.util
import re

import jax
import numpy as np
import pytest
from flax import nnx

from zoo.config import ConfigError, load_config
from zoo.config.data import ImageData
from zoo.config.duration import Clock
from zoo.config.load import CONFIG_DIR
from zoo.config.vit import num_params
from zoo.data.catalog import DATASETS
from zoo.data.images import build_ops
from zoo.tasks.build import abstract_model
from zoo.training.optimizer import describe_optimizer, make_optimizer
from zoo.training.schedules import make_schedule

IN1K = 1_281_167
# dataset: (examples of the training split, classes), where the catalog cannot know them
TFDS = {
    "tfds:imagenet2012": (IN1K, 1000),
    "tfds:imagenet21k": (14_197_122, 21_843),
    "tfds:oxford_iiit_pet": (3_680, 37),
    "tfds:oxford_flowers102": (1_020, 102),
}
# config: (parameters, steps of the whole run), by arithmetic from the published counts of
# vit_jax/models_test.py and timm and from the sizes of the data sets. ViT-Lite has 3.717 M there,
# without biases of q, k and v, which are 7 x 3 x 256 here.
PINS = {
    "algoperf_vit": (22_122_472, 139_999),
    "augreg_in1k:Ti/16": (5_754_280, 92_897),
    "augreg_in1k:S/32": (23_026_408, 92_897),
    "augreg_in1k:S/16": (22_198_120, 92_897),
    "augreg_in1k:B/32": (88_814_056, 92_897),
    "augreg_in1k:B/16": (87_157_480, 92_897),
    "augreg_in1k:L/16": (305_375_208, 92_897),
    "augreg_in21k:Ti/16": (9_739_731, 1_036_078),
    "augreg_in21k:S/32": (30_902_739, 1_036_078),
    "augreg_in21k:S/16": (30_074_451, 1_036_078),
    "augreg_in21k:B/32": (104_250_963, 1_036_078),
    "augreg_in21k:B/16": (102_594_387, 1_036_078),
    "augreg_in21k:L/16": (325_688_659, 1_036_078),
    "cifar_vit:cifar10": (2_697_610, 39_062),
    "cifar_vit:cifar100": (2_714_980, 39_062),
    "cifar_vit_lite:cifar10": (3_722_250, 78_125),
    "cifar_vit_lite:cifar100": (3_745_380, 78_125),
    "deit3_in1k:S": (22_059_496, 500_456),
    "deit3_in1k:S,400": (22_059_496, 250_228),
    "deit3_in1k:S,800": (22_059_496, 500_456),
    "deit3_in1k:B": (86_545_384, 500_456),
    "deit3_in1k:B,400": (86_545_384, 250_228),
    "deit3_in1k:B,800": (86_545_384, 500_456),
    "deit3_in1k:L": (304_321_512, 500_456),
    "deit3_in1k:L,400": (304_321_512, 250_228),
    "deit3_in1k:L,800": (304_321_512, 500_456),
    "deit3_in1k:H": (631_953_640, 500_456),
    "deit3_in1k:H,400": (631_953_640, 250_228),
    "deit3_in1k:H,800": (631_953_640, 500_456),
    "deit3_in1k_finetune:B": (86_585_320, 50_046),
    "deit3_in1k_finetune:L": (304_374_760, 50_046),
    "deit3_in1k_finetune:H": (632_126_440, 50_046),
    "deit_in1k:Ti": (5_717_416, 375_342),
    "deit_in1k:S": (22_050_664, 375_342),
    "deit_in1k:B": (86_567_656, 375_342),
    "fashion_mnist_vit": (210_058, 93_750),
    "finetune:cifar10": (87_535_882, 10_000),
    "finetune:cifar100": (87_605_092, 10_000),
    "finetune:in1k": (88_297_192, 20_000),
    "finetune:pets": (87_556_645, 500),
    "finetune:flowers": (87_606_630, 500),
    "mnist_vit": (210_058, 46_875),
    "s16_in1k:90": (22_122_472, 111_477),
    "s16_in1k:150": (22_122_472, 185_794),
    "s16_in1k:300": (22_122_472, 371_588),
    "s16_in1k:90,linear": (21_974_632, 111_477),
    "s16_in1k:90,full": (22_122_472, 112_603),
    "s16_in1k:90,linear,full": (21_974_632, 112_603),
    "s16_in1k:300,linear": (21_974_632, 371_588),
    "s16_in1k:300,full": (22_122_472, 375_342),
}


def module_of(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = sorted(CONFIG_DIR.glob("*.py"))
ALL_CASES = [
    f"{path.stem}:{arg}" if arg else path.stem
    for path in FILES
    for arg in getattr(module_of(path), "ARGS", ()) or (None,)
]
CASES = [case for case in ALL_CASES if isinstance(load_config(case).data, ImageData)]


def filled(case):
    """The config with what its data would fill in, and the clock of its training split."""
    config = load_config(case)
    data = config.data
    if data.name in TFDS:
        count, classes = TFDS[data.name]
    else:
        info = DATASETS[data.name]
        count, classes = info.splits["train"], info.num_classes
    bounds = re.fullmatch(r"\w+(?:\[(\d*):(?:(\d+)%)?\])?", data.train_split)
    assert bounds, data.train_split
    start, percent = int(bounds[1] or 0), float(bounds[2] or 100)
    model = config.model.replace(
        num_classes=classes, image_size=data.image_size, channels=data.channels
    )
    assert config.model.num_classes in (None, classes)
    clock = Clock(data.batch_size, round(count * percent / 100) - start)
    return config.replace(model=model), clock


@pytest.mark.parametrize("case", CASES)
def test_config_builds(case):
    config, clock = filled(case)
    total = clock.steps(config.total)
    if case != "digits_vit":  # tuned here, nothing published
        assert (num_params(config.model), total) == PINS[case]
    # The optimizer and its schedule, on the model's parameters.
    _, state = abstract_model(config)
    params = nnx.to_pure_dict(state)
    sizes = [np.prod(p.shape, dtype=int) for p in jax.tree.leaves(params)]
    assert sum(sizes) == num_params(config.model)
    schedule = make_schedule(
        config.optimizer,
        total_steps=total,
        warmup_steps=clock.steps(config.optimizer.warmup),
        cooldown_steps=clock.steps(config.optimizer.cooldown),
    )
    warmup = clock.steps(config.optimizer.warmup)
    assert float(schedule(warmup)) == pytest.approx(config.optimizer.lr)
    tx = make_optimizer(config.optimizer, params, schedule)
    jax.eval_shape(tx.update, params, jax.eval_shape(tx.init, params), params)


@pytest.mark.parametrize("case", CASES)
def test_config_prepares_images(case):
    config = load_config(case)
    data = config.data
    # The classics have the size that the model takes; photos are larger and of any aspect.
    rows, cols = (data.image_size,) * 2 if data.image_size < 64 else (250, 311)
    if case.startswith("finetune:cifar"):
        rows = cols = 32
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (rows, cols, data.channels), np.uint8)
    for ops in (data.train_ops, data.eval_ops):
        prepared = build_ops(ops, data.image_size)(image, rng)
        assert prepared.shape == (data.image_size, data.image_size, data.channels)
        assert prepared.dtype == np.uint8
    for values in (data.pixel_mean, data.pixel_std):
        assert len(values) in (1, data.channels)
        assert min(values) > 1  # of 0..255, not of 0..1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_is_a_record(path):
    source = path.read_text()
    doc = ast.get_docstring(ast.parse(source))
    assert source.count("\n") <= 100
    assert f"--config {path.stem}" in doc
    if "Source: " not in doc:
        assert re.search(r"^Here(: |,)", doc, re.MULTILINE)  # made for this project
    else:
        first = doc.split("\n")[0]
        assert re.search(r"\d\d\.\d|about 79 %", first), first
        assert re.search(r"eproduced here|^Here: ", doc, re.MULTILINE)
        assert "Differs" in doc


@pytest.mark.parametrize("case", ["s16_in1k:90", "augreg_in1k:S/16", "augreg_in21k:S/16"])
def test_big_vision_decay_is_multiplied_by_our_learning_rate(case):
    config, _ = filled(case)
    assert config.optimizer.lr * config.optimizer.weight_decay == pytest.approx(1e-4)
    _, state = abstract_model(config)
    for row in describe_optimizer(config.optimizer, state):
        assert row.decay == row.path.endswith("/kernel"), row.path


def test_warmup_is_as_published():
    config, clock = filled("deit_in1k:S")
    assert clock.steps(config.optimizer.warmup) == round(5 * IN1K / 1024)
    config, clock = filled("s16_in1k:90,full")
    assert clock.steps(config.optimizer.warmup) == 10_000


@pytest.mark.parametrize("case", ["deit_in1k:L", "s16_in1k:many", "finetune:svhn", "mnist_vit:x"])
def test_an_unknown_argument_is_refused(case):
    with pytest.raises(ConfigError, match=r"'(L|many|svhn|x)'"):
        load_config(case)
