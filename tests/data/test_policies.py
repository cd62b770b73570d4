"""Random augmentations draw what their papers and code say, as often as they say."""

from collections import Counter

import numpy as np
import pytest

from zoo.data import augment, policies

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def calls(monkeypatch):
    """Records (name, amount) of each elementary operation, and runs none of them."""
    recorded = []

    def recorder(name):
        def record(image, *args, **kwargs):
            recorded.append((name, *args))
            return image

        return record

    names = {name for variant in policies._VARIANTS.values() for name in variant.ops}
    for name in names | {"blur", "grayscale"}:
        assert callable(getattr(augment, name))
        monkeypatch.setattr(augment, name, recorder(name))
    return recorded


def amounts(calls, name):
    return {call[1] for call in calls if call[0] == name}


def draw(function, count, **options):
    rng = np.random.default_rng(0)
    for _ in range(count):
        function(IMAGE, rng=rng, **options)


def test_big_vision_draws_16_ops_equally_at_full_strength(calls):
    draw(policies.randaugment, 1600)
    counts = Counter(call[0] for call in calls)
    assert len(counts) == 16
    assert sum(counts.values()) == 3200
    assert 150 < min(counts.values()) <= max(counts.values()) < 250
    assert amounts(calls, "rotate") == {-30.0, 30.0}
    assert amounts(calls, "shear_x") == amounts(calls, "shear_y") == {-0.3, 0.3}
    assert amounts(calls, "posterize") == {4}
    assert amounts(calls, "solarize") == {256}
    assert amounts(calls, "solarize_add") == {110}
    for name in ("color", "contrast", "brightness", "sharpness"):
        assert list(amounts(calls, name)) == pytest.approx([1.9])
    assert {call[2:] for call in calls if call[0] == "rotate"} == {(128, "nearest")}


def test_big_vision_moves_by_its_pixels_at_224_and_in_proportion_elsewhere(calls):
    rng = np.random.default_rng(0)
    for side, translate, cut in [(224, 100, 40), (32, 100 / 7, 5)]:
        calls.clear()
        for _ in range(200):
            policies.randaugment(np.zeros((side, side, 1), np.uint8), rng=rng)
        assert amounts(calls, "cutout") == {cut}
        for name in ("translate_x", "translate_y"):
            assert sorted(amounts(calls, name)) == pytest.approx([-translate, translate])


def test_big_vision_goes_beyond_ten(calls):
    draw(policies.randaugment, 300, magnitude=20.0)
    assert amounts(calls, "rotate") == {-60.0, 60.0}
    assert amounts(calls, "color") == {3.7}
    assert amounts(calls, "posterize") == {8}


def test_timm_is_rand_m9_mstd05_inc1(calls):
    draw(policies.randaugment, 3000, variant="timm")
    counts = Counter(call[0] for call in calls)
    assert len(counts) == 15
    assert "cutout" not in counts
    assert 2800 < sum(counts.values()) < 3200  # half of 6,000
    degrees = np.abs([call[1] for call in calls if call[0] == "rotate"])
    assert degrees.max() == 30.0  # magnitudes are clipped at 10
    assert abs(degrees.mean() - 27) < 0.4
    assert abs(degrees.std() - 1.5) < 0.3
    signs = [np.sign(call[1]) for call in calls if call[0] in ("rotate", "shear_x", "shear_y")]
    assert abs(np.mean(signs)) < 0.15
    factors = amounts(calls, "color")
    assert min(factors) >= 0.1
    assert max(factors) <= 1.9
    assert any(f < 0.5 for f in factors)
    assert any(f > 1.5 for f in factors)
    assert not any(0.5 < f < 1.5 for f in factors)
    assert {call[2:] for call in calls if call[0] == "shear_y"} == {((124, 116, 104), "bicubic")}


def test_timm_grows_stronger_with_magnitude(calls):
    draw(policies.randaugment, 200, variant="timm", magnitude=9.0, magnitude_std=0.0)
    assert amounts(calls, "posterize") == {1}
    assert amounts(calls, "solarize") == {26}
    assert amounts(calls, "solarize_add") == {99}
    assert sorted(amounts(calls, "translate_x")) == pytest.approx([-0.405 * 30, 0.405 * 30])
    assert sorted(amounts(calls, "translate_y")) == pytest.approx([-0.405 * 20, 0.405 * 20])


def test_torchvision_is_9_of_30_and_two_sided(calls):
    draw(policies.randaugment, 1400, variant="torchvision")
    counts = Counter(call[0] for call in calls)
    assert set(counts) == set(policies._TORCHVISION)
    assert 140 < min(counts.values()) <= max(counts.values()) < 260
    assert sorted(amounts(calls, "rotate")) == pytest.approx([-9, 9])
    assert sorted(amounts(calls, "sharpness")) == pytest.approx([0.73, 1.27])
    assert amounts(calls, "posterize") == {7}
    assert amounts(calls, "solarize") == {178.5}
    assert amounts(calls, "translate_x") == {-4.0, 4.0}


def test_options_replace_a_variants_defaults(calls):
    options = {"num_ops": 5, "probability": 0.0, "fill": 7, "interpolation": "bicubic"}
    draw(policies.randaugment, 100, **options)
    assert not calls
    draw(policies.randaugment, 100, **options | {"probability": 1.0})
    assert len(calls) == 500
    assert {call[2:] for call in calls if call[0] == "rotate"} == {(7, "bicubic")}


def test_autoaugment_draws_25_pairs_with_their_probabilities(calls):
    assert len(policies._CIFAR_POLICY) == 25
    draw(policies.autoaugment_cifar, 2500)
    counts = Counter(call[0] for call in calls)
    expected = Counter()
    for pair in policies._CIFAR_POLICY:
        for name, probability, strength in pair:
            assert 0 <= strength <= 9
            expected[name] += 100 * probability
    assert set(counts) == {name for name, count in expected.items() if count}
    for name, count in expected.items():
        assert abs(counts[name] - count) < 5 * np.sqrt(count) + 1
    assert sorted(amounts(calls, "rotate")) == pytest.approx([-60 / 9, 60 / 9])
    assert amounts(calls, "translate_y") == {-9.0, -3.0, 3.0, 9.0}
    assert amounts(calls, "posterize") == {5}
    assert sorted(amounts(calls, "color")) == pytest.approx(
        [0.1, 0.2, 0.3, 0.7, 1.0, 1.3, 1.7, 1.8, 1.9]
    )


def test_three_augment_draws_each_of_the_three(calls):
    draw(policies.three_augment, 900, sigma=(0.5, 1.5), threshold=99)
    counts = Counter(call[0] for call in calls)
    assert set(counts) == {"grayscale", "solarize", "blur"}
    assert min(counts.values()) > 250
    assert amounts(calls, "solarize") == {99}
    sigmas = amounts(calls, "blur")
    assert 0.5 < min(sigmas) < 0.52
    assert 1.48 < max(sigmas) < 1.5


def test_color_jitter_draws_factors_in_any_order(calls):
    draw(policies.color_jitter, 600, brightness=0.2, contrast=0.5, saturation=2.0)
    orders = Counter(tuple(c[0] for c in calls[i : i + 3]) for i in range(0, 1800, 3))
    assert len(orders) == 6
    assert min(orders.values()) > 60
    for name, least, most in [("brightness", 0.8, 1.2), ("contrast", 0.5, 1.5), ("color", 0, 3)]:
        factors = amounts(calls, name)
        assert least <= min(factors) < least + 0.02
        assert most - 0.02 < max(factors) <= most


def test_gaussian_blur_leaves_the_other_images_alone(calls):
    draw(policies.gaussian_blur, 400, probability=0.3)
    assert 90 < len(calls) < 150


def import_torchvision():
    """Declares the operators that torchvision looks for, where it has no compiled part."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return pytest.importorskip("torchvision.transforms")


TORCHVISION_NAMES = {
    "AutoContrast": "autocontrast",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "translate_x",
    "TranslateXRel": "translate_x",
    "TranslateY": "translate_y",
    "TranslateYRel": "translate_y",
    "SolarizeAdd": "solarize_add",
}


@pytest.mark.oracle
def test_the_cifar_policy_and_its_strengths_are_torchvisions():
    transforms = import_torchvision()
    theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    space = theirs._augmentation_space(10, (20, 30))
    for ours, pair in zip(policies._CIFAR_POLICY, theirs.policies, strict=True):
        for (name, probability, strength), (their_name, their_probability, index) in zip(
            ours, pair, strict=True
        ):
            assert name == TORCHVISION_NAMES.get(their_name, their_name.lower())
            assert probability == their_probability
            if index is not None:
                assert strength == index
                _compare_with_torchvision(name, space[their_name], index, 9)


@pytest.mark.oracle
def test_randaugment_has_torchvisions_operations_and_strengths():
    space = import_torchvision().RandAugment()._augmentation_space(31, (20, 30))
    names = [TORCHVISION_NAMES.get(name, name.lower()) for name in space]
    assert set(names) == set(policies._TORCHVISION)
    for name, entry in zip(names, space.values(), strict=True):
        if entry[0].ndim:
            for index in range(31):
                _compare_with_torchvision(name, entry, index, 30)


def _compare_with_torchvision(name, entry, index, top):
    magnitudes, signed = entry
    expected = float(magnitudes[index])
    side = {"translate_x": 30, "translate_y": 20}.get(name, 20)
    ours = policies._TORCHVISION[name](index / top, 1, side)
    other = policies._TORCHVISION[name](index / top, -1, side)
    if name.startswith("translate"):
        expected = int(expected)
    if name in ("brightness", "color", "contrast", "sharpness"):
        assert ours + other == pytest.approx(2)
        expected += 1
    else:
        assert other == (-ours if signed else ours)
    assert ours == pytest.approx(expected, abs=1e-4)


@pytest.mark.oracle
def test_randaugment_has_timms_operations_and_strengths():
    import_torchvision()
    theirs = pytest.importorskip("timm.data.auto_augment")
    names = {}
    for name in theirs._RAND_INCREASING_TRANSFORMS:
        short = name.removesuffix("Increasing")
        names[TORCHVISION_NAMES.get(short, short.lower())] = name
    assert set(names) == set(policies._TIMM)
    for ours, name in names.items():
        for magnitude in (0.0, 3.3, 8.7, 10.0):
            if (function := theirs.LEVEL_TO_ARG[name]) is None:
                assert policies._TIMM[ours] is None
                continue
            (expected,) = function(magnitude, {"translate_pct": 0.45})
            both = {policies._TIMM[ours](magnitude / 10, sign, 1) for sign in (1, -1)}
            assert any(value == pytest.approx(expected) for value in both)
