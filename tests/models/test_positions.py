"""Positions: fixed tables, rotations, and interpolation to other grids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from zoo.models.positions import (
    resize_positions,
    rope,
    rope_frequencies,
    rotate,
    rotations,
    sincos2d,
    sinusoids,
)


def test_sincos2d_against_loops():
    table = sincos2d((2, 3), 16)
    for y in range(2):
        for x in range(3):
            for i in range(4):
                omega = 1 / 10_000 ** (i / 3)
                expected = [
                    np.sin(x * omega),
                    np.cos(x * omega),
                    np.sin(y * omega),
                    np.cos(y * omega),
                ]
                np.testing.assert_allclose(table[y * 3 + x][i::4], expected, atol=1e-6)


def test_rotations_follow_the_patch_centres():
    cos, sin = rotations((2, 4), 8, num_prefix=1)
    assert cos.shape == sin.shape == (9, 4)
    np.testing.assert_array_equal(cos[0], 1)  # the cls token is not turned
    np.testing.assert_array_equal(sin[0], 0)
    # Patch (1, 0): centres at y = 1/2, x = -3/4; frequencies 1 and 100^-(1/2).
    angles = 2 * np.pi * np.array([0.5, 0.05, -0.75, -0.075])
    np.testing.assert_allclose(sin[1 + 4], np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(cos[1 + 4], np.cos(angles), atol=1e-6)


def test_rotated_scores_depend_on_relative_positions():
    q, k = (jax.random.normal(jax.random.key(i), (1, 1, 1, 16)) for i in range(2))
    rotation = rotations((1, 6), 16, num_prefix=0)
    everywhere = lambda x: rotate(jnp.broadcast_to(x, (1, 6, 1, 16)), rotation)[0, :, 0]
    scores = np.asarray(everywhere(q) @ everywhere(k).T)
    for offset in range(-5, 6):
        np.testing.assert_allclose(np.ptp(np.diag(scores, offset)), 0, atol=1e-4)
    assert np.abs(scores[0, 1] - scores[1, 0]) > 1e-2


METHODS = ["bilinear", "bicubic", "bicubic_antialias", "bilinear_align_corners"]


@pytest.mark.parametrize("method", METHODS)
def test_resizing_keeps_the_cls_row_and_constant_tables(method):
    table = jnp.concatenate([jnp.full((1, 2), 7.0), jnp.full((12, 2), 3.0)])
    resized = resize_positions(table, (3, 4), (5, 2), method)
    assert resized.shape == (11, 2)
    np.testing.assert_array_equal(resized[0], 7)
    np.testing.assert_allclose(resized[1:], 3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_resizing_to_the_same_grid_changes_nothing(method):
    table = jax.random.normal(jax.random.key(0), (12, 2))
    assert resize_positions(table, (3, 4), (3, 4), method) is table


def test_bilinear_is_half_pixel_bilinear():
    table = jax.random.normal(jax.random.key(0), (12, 5))
    for new in ((6, 9), (2, 3), (3, 7)):
        expected = jax.image.resize(table.reshape(3, 4, 5), (*new, 5), "bilinear", antialias=False)
        actual = resize_positions(table, (3, 4), new, "bilinear").reshape(*new, 5)
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_align_corners_is_scipy_zoom():
    table = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    for new in ((6, 8), (2, 3), (3, 9)):
        zoom = (new[0] / 3, new[1] / 4, 1)
        expected = scipy.ndimage.zoom(table.reshape(3, 4, 5), zoom, order=1)
        actual = resize_positions(jnp.asarray(table), (3, 4), new, "bilinear_align_corners")
        np.testing.assert_allclose(actual.reshape(*new, 5), expected, atol=1e-5)


def test_too_few_positions_are_refused():
    with pytest.raises(ValueError, match=r"11 positions are too few for a grid of \(3, 4\)"):
        resize_positions(jnp.ones((11, 2)), (3, 4), (6, 8), "bilinear")


def test_sinusoids_are_flaxs_examples():
    width, places = 10, np.array([[0, 1, 7], [500, 2, 3]])
    table = sinusoids(jnp.asarray(places), width)
    for (b, t), place in np.ndenumerate(places):
        for i in range(width // 2):
            angle = place * np.exp(-i * np.log(10_000.0) / (width // 2 - 1))
            np.testing.assert_allclose(table[b, t, i], np.sin(angle), atol=1e-4)
            np.testing.assert_allclose(table[b, t, width // 2 + i], np.cos(angle), atol=1e-4)


def test_sinusoids_without_the_last_frequency_are_the_papers():
    width, place = 10, 7
    table = sinusoids(jnp.asarray([place]), width, last=False)[0]
    angles = [place / 10_000 ** (2 * i / width) for i in range(width // 2)]
    np.testing.assert_allclose(table, [*np.sin(angles), *np.cos(angles)], atol=1e-5)


def test_rope_turns_faster_pairs_first():
    frequencies = rope_frequencies(8, 100.0)
    np.testing.assert_allclose(frequencies, [1, 100**-0.25, 0.1, 100**-0.75], rtol=1e-6)
    cos, sin = rope(jnp.array([0, 3]), frequencies)
    np.testing.assert_allclose(cos[0], 1)
    np.testing.assert_allclose(jnp.arctan2(sin, cos)[1], 3 * frequencies, atol=1e-6)


def test_scaling_slows_what_does_not_come_round():
    plain = np.asarray(rope_frequencies(64, 10_000.0))
    scaled = np.asarray(rope_frequencies(64, 10_000.0, scaling=8.0, original_length=1000))
    turns = 1000 * plain / (2 * np.pi)
    np.testing.assert_allclose(scaled[turns > 4], plain[turns > 4], rtol=1e-6)
    np.testing.assert_allclose(scaled[turns < 1], plain[turns < 1] / 8, rtol=1e-6)
    between = (turns > 1) & (turns < 4)
    assert between.sum() > 2
    assert (scaled[between] < plain[between]).all()
    assert (scaled[between] > plain[between] / 8).all()
    assert (np.diff(scaled) < 0).all()
