"""llama2.c's files against a forward pass in numpy, as its C program makes it."""

import struct

import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.decoders import apply
from tests.pretrained.published import load
from zoo.cli import main
from zoo.config import UserError
from zoo.pretrained.opening import open_pretrained

L, D, F, N, K, V, T = 2, 16, 24, 4, 2, 20, 12
H = D // N
ORDER = {
    "embed": (V, D), "attn_norm": (L, D), "wq": (L, D, D), "wk": (L, K * H, D),
    "wv": (L, K * H, D), "wo": (L, D, D), "mlp_norm": (L, D), "w1": (L, F, D), "w2": (L, D, F),
    "w3": (L, F, D), "norm": (D,), "cos": (T, H // 2), "sin": (T, H // 2),
}  # fmt: skip


def make(tied=True):
    rng = np.random.default_rng(0)
    shapes = ORDER if tied else ORDER | {"out": (V, D)}
    return {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def write(path, arrays, **header):
    sizes = {"dim": D, "hidden": F, "depth": L, "heads": N, "kv": K, "vocab": V, "length": T}
    tied = "out" not in arrays
    sizes |= {} if tied else {"vocab": -V}
    path.write_bytes(
        struct.pack("<7i", *{**sizes, **header}.values())
        + b"".join(array.tobytes() for array in arrays.values())
    )
    return path


def rms(x, scale):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-5) * scale


def turn(x, heads):
    """Rotates neighbouring pairs of each head by position."""
    x = x.reshape(len(x), heads, H // 2, 2)
    angle = np.arange(len(x))[:, None] * 10_000.0 ** -(np.arange(0, H, 2) / H)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    turned = [x[..., 0] * cos - x[..., 1] * sin, x[..., 0] * sin + x[..., 1] * cos]
    return np.stack(turned, -1).reshape(len(x), heads, H)


def forward(w, tokens):
    x = w["embed"][tokens].astype(np.float64)
    seen = np.tril(np.ones((len(tokens), len(tokens)), bool))
    for i in range(L):
        y = rms(x, w["attn_norm"][i])
        q, k = turn(y @ w["wq"][i].T, N), turn(y @ w["wk"][i].T, K)
        v = (y @ w["wv"][i].T).reshape(len(y), K, H)
        k, v = (np.repeat(a, N // K, 1) for a in (k, v))
        scores = np.where(seen[None], np.einsum("tnh,snh->nts", q, k) / np.sqrt(H), -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        x = x + np.einsum("nts,snh->tnh", scores, v).reshape(len(y), D) @ w["wo"][i].T
        y = rms(x, w["mlp_norm"][i])
        gate = y @ w["w1"][i].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w["w3"][i].T)) @ w["w2"][i].T
    return rms(x, w["norm"]) @ w.get("out", w["embed"]).T


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_program(tied, tmp_path):
    arrays = make(tied)
    cfg, params = load(write(tmp_path / "model.bin", arrays))
    assert cfg.tied == tied
    tokens = np.random.default_rng(1).integers(0, V, 10)
    found = apply(cfg, params, jnp.asarray(tokens[None], jnp.int32))[0]
    expected = forward(arrays, tokens)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_it_becomes_hugging_faces_llama(tmp_path):
    source, hf = write(tmp_path / "model.bin", make()), tmp_path / "hf"
    assert main(["convert", "--from", str(source), "--to", str(hf), "--format", "hf"]) == 0
    (cfg, params), (again, same) = load(source), load(hf)
    assert again.replace(rope_original_length=cfg.rope_original_length) == cfg
    tokens = jnp.arange(10)[None] % V
    np.testing.assert_array_equal(apply(cfg, params, tokens), apply(again, same, tokens))


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ({"depth": 3}, "would have 24,988"),
        ({"dim": 2**30}, "does not begin as llama2.c's files do"),
        ({"heads": 0}, "does not begin as llama2.c's files do"),
        ({"kv": 3}, "does not begin as llama2.c's files do"),
        ({"dim": 2**23, "vocab": 2**23, "heads": 4}, "cut short"),
    ],
)
def test_a_header_that_lies_is_named(header, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        open_pretrained(write(tmp_path / "model.bin", make(), **header))


def test_a_file_cut_short_and_an_empty_one_are_named(tmp_path):
    path = write(tmp_path / "model.bin", make())
    for content in (path.read_bytes()[:-4], path.read_bytes() + b"more", b"", b"PK\x03\x04" * 9):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cut short|does not begin|pickle"):
            open_pretrained(path)
