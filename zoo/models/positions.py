"""Where a token is: sines, rotations; a patch's tables, and resizing them to other grids."""

import math

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from zoo.config.transformer import RELATIVE_BUCKETS, RELATIVE_DISTANCE

Grid = tuple[int, int]
# Cosines and sines, for every example alike or for each its own.
Rotation = tuple[Float[Array, "*B T half"], Float[Array, "*B T half"]]


def sinusoids(
    position: Int[Array, "*at"], width: int, *, last: bool = True
) -> Float[Array, "*at D"]:
    """Sines, then cosines (Vaswani 2017, arXiv 1706.03762), float32.

    The frequencies are 10,000^-i for i from 0 to 1 in width / 2 steps, both ends included, as in
    tensor2tensor and Flax's examples; without `last`, 1 is left out, as in the paper and Marian.
    """
    steps = np.linspace(0, 1, width // 2, endpoint=last)
    omega = jnp.asarray(10_000.0**-steps, jnp.float32)
    angles = _angles(position, omega)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def relative_bucket(distance: Int[Array, "*B"], *, both_ways: bool) -> Int[Array, "*B"]:
    """T5's bucket of each distance, key minus query.

    Half of the buckets hold one distance each, the others ever more of them up to
    RELATIVE_DISTANCE, and the last one all beyond. Both ways, half of all are for keys that
    follow the query; else those share the bucket of distance 0, which a causal mask covers.
    """
    num = RELATIVE_BUCKETS // 2 if both_ways else RELATIVE_BUCKETS
    back = jnp.abs(distance) if both_ways else jnp.maximum(-distance, 0)
    exact = num // 2
    far = jnp.log(jnp.maximum(back, exact).astype(jnp.float32) / exact)
    far = exact + (far / math.log(RELATIVE_DISTANCE / exact) * (num - exact)).astype(jnp.int32)
    bucket = jnp.where(back < exact, back, jnp.minimum(far, num - 1))
    return bucket + num * (distance > 0) if both_ways else bucket


def rope_frequencies(
    head_size: int, base: float, *, scaling: float = 1.0, original_length: int = 8192
) -> Float[Array, " half"]:
    """Radians a token of each pair of `rotate` (Su 2021, arXiv 2104.09864), float32.

    Llama 3's way to longer texts: what turns less than once in `original_length` tokens turns
    `scaling` times slower, what turns more than four times as before, the rest in between.
    """
    frequency = base ** -np.arange(0, 1, 2 / head_size)
    turns = original_length * frequency / (2 * np.pi)
    kept = np.clip((turns - 1) / (4 - 1), 0, 1)
    return jnp.asarray(frequency * (kept + (1 - kept) / scaling), jnp.float32)


def rope(position: Int[Array, "*at"], frequencies: Float[Array, " half"]) -> Rotation:
    """Cosines and sines of the angles that `rotate` turns queries and keys by."""
    angles = _angles(position, frequencies)
    return jnp.cos(angles), jnp.sin(angles)


def _angles(
    position: Int[Array, "*at"], frequencies: Float[Array, " half"]
) -> Float[Array, "*at half"]:
    position = position.astype(jnp.float32)[..., None]
    return position * frequencies.reshape((1,) * (position.ndim - 1) + (-1,))


def sincos2d(grid: Grid, width: int, *, temperature: float = 10_000.0) -> np.ndarray:
    """Fixed sines and cosines of column and row, float32 [rows * cols, width].

    As in big_vision and MoCo v3 (arXiv 2104.02057): the frequencies are
    temperature^-i for i from 0 to 1 in width / 4 steps, both ends included.
    """
    y, x = np.mgrid[: grid[0], : grid[1]].reshape(2, -1, 1).astype(np.float64)
    omega = temperature ** -np.linspace(0, 1, width // 4)[None]
    table = [np.sin(x * omega), np.cos(x * omega), np.sin(y * omega), np.cos(y * omega)]
    return np.concatenate(table, 1).astype(np.float32)


def rotations(grid: Grid, head_size: int, *, num_prefix: int, base: float = 100.0) -> Rotation:
    """Cosines and sines of the angles that `rotate` turns queries and keys by.

    Axial rotary positions as in DINOv3 (arXiv 2508.10104): a patch's centre lies between -1 and 1
    along each axis whatever the grid; half of the angles follow the row, half the column. Prefix
    tokens are not turned.
    """
    y, x = (2 * (np.arange(n) + 0.5) / n - 1 for n in grid)
    centres = np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2, 1)
    frequencies = base ** -np.arange(0, 1, 4 / head_size)
    angles = (2 * np.pi * centres * frequencies[None, None]).reshape(len(centres), -1)
    angles = np.concatenate([np.zeros((num_prefix, angles.shape[1])), angles])
    return jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)


def rotate(x: Float[Array, "B T N H"], rotation: Rotation) -> Float[Array, "B T N H"]:
    """Turns the pairs (x[i], x[i + H/2]) of every head, in float32."""
    cos, sin = (r[..., None, :] if r.ndim == 3 else r[None, :, None] for r in rotation)
    a, b = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def resize_positions(
    table: Float[Array, "positions D"], grid: Grid, new_grid: Grid, method: str
) -> Float[Array, "new_positions D"]:
    """Interpolates a table of positions to another patch grid.

    Rows before the grid's (the cls token's) stay as they are.

    Args:
      method: `bilinear` with half-pixel centres (PyTorch's and TensorFlow's), `bicubic` (PyTorch's,
        a = -0.75, no antialiasing, as DeiT and Hugging Face resize), `bicubic_antialias` (PyTorch's
        too, a = -0.5, wider where the grid shrinks, as timm resizes), or `bilinear_align_corners`
        (`scipy.ndimage.zoom(order=1)`, as vision_transformer resizes).
    """
    if tuple(grid) == tuple(new_grid):
        return table
    num_prefix = table.shape[0] - grid[0] * grid[1]
    if num_prefix < 0:
        raise ValueError(f"{table.shape[0]} positions are too few for a grid of {grid}")
    prefix, patches = table[:num_prefix], table[num_prefix:]
    weights = [_weights(old, new, method) for old, new in zip(grid, new_grid, strict=True)]
    resized = jnp.einsum(
        "yr,xc,rcD->yxD", *weights, patches.reshape(*grid, -1), precision="highest"
    )
    return jnp.concatenate([prefix, resized.reshape(-1, table.shape[1]).astype(table.dtype)])


def _weights(old: int, new: int, method: str) -> np.ndarray:
    """The matrix [new, old] that interpolates along one axis."""
    if method == "bicubic_antialias":
        width = max(old / new, 1.0)
        # Taps beyond an edge are left out, and what is left adds up to 1.
        centre = (np.arange(new) + 0.5)[:, None] * old / new
        weights = _cubic(np.abs(np.arange(old)[None] + 0.5 - centre) / width, -0.5)
        return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    if method == "bilinear_align_corners":
        at = np.linspace(0, old - 1, new)
    else:
        at = (np.arange(new) + 0.5) * old / new - 0.5
    if method == "bicubic":
        taps, kernel = (-1, 0, 1, 2), _cubic
    else:
        at = np.clip(at, 0, old - 1)
        taps, kernel = (0, 1), lambda distance: np.maximum(1 - distance, 0.0)
    weights = np.zeros((new, old))
    for tap in taps:
        column = np.floor(at) + tap
        # Taps beyond an edge repeat the edge.
        np.add.at(
            weights,
            (np.arange(new), np.clip(column, 0, old - 1).astype(int)),
            kernel(np.abs(at - column)),
        )
    return weights.astype(np.float32)


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' cubic convolution kernel with PyTorch's a (Keys himself, and TensorFlow, take -0.5)."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
