"""The TPU codebases' `.npz`: against a forward pass in numpy, and against timm, which reads it."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tests.models.vits import apply, make_images
from tests.pretrained.published import load, random_arrays
from zoo.cli import main
from zoo.config import UserError
from zoo.pretrained.opening import open_pretrained

D, F, N, P, L, C = 16, 24, 2, 4, 3, 5
H = D // N
IMAGES = make_images(2, 8, 8)


def attention(name):
    parts = {f"{name}/{part}/kernel": (D, N, H) for part in ("query", "key", "value")}
    parts |= {f"{name}/{part}/bias": (N, H) for part in ("query", "key", "value")}
    return parts | {f"{name}/out/kernel": (N, H, D), f"{name}/out/bias": (D,)}


def norm(name):
    return {f"{name}/scale": (D,), f"{name}/bias": (D,)}


def mlp(name):
    return {
        f"{name}/Dense_0/kernel": (D, F), f"{name}/Dense_0/bias": (F,),
        f"{name}/Dense_1/kernel": (F, D), f"{name}/Dense_1/bias": (D,),
    }  # fmt: skip


ENDS = {
    "embedding/kernel": (P, P, 3, D), "embedding/bias": (D,),
    **norm("Transformer/encoder_norm"), "head/kernel": (D, C), "head/bias": (C,),
}  # fmt: skip


def blocks(first, attn, second, dense):
    return {
        f"Transformer/encoderblock_{i}/{name}": shape
        for i in range(L)
        for name, shape in (norm(first) | attention(attn) | norm(second) | mlp(dense)).items()
    }


OLD = ("LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3")
NEW = ("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")
PRE_LOGITS = {"pre_logits/kernel": (D, D), "pre_logits/bias": (D,)}
MAP = {
    "MAPHead_0/probe": (1, 1, D), **attention(f"MAPHead_0/{NEW[1]}"),
    **norm("MAPHead_0/LayerNorm_0"), **mlp("MAPHead_0/MlpBlock_0"),
}  # fmt: skip
OLD_POSITIONS = {"cls": (1, 1, D), "Transformer/posembed_input/pos_embedding": (1, 5, D)}
KINDS = {
    "augreg": ENDS | blocks(*OLD) | OLD_POSITIONS,
    "vit 21k": ENDS | blocks(*OLD) | OLD_POSITIONS | PRE_LOGITS,
    "big_vision, tok": ENDS | blocks(*NEW) | {"cls": (1, 1, D), "pos_embedding": (1, 4, D)},
    "big_vision, gap": ENDS | blocks(*NEW) | {"pos_embedding": (1, 4, D)},
    "big_vision, map": ENDS | blocks(*NEW) | {"pos_embedding": (1, 4, D)} | MAP,
}


def layer_norm(w, name, x):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * w[f"{name}/scale"] + w[f"{name}/bias"]


def attend(w, name, x, context):
    q, k, v = (
        np.einsum("btd,dnh->btnh", y, w[f"{name}/{part}/kernel"]) + w[f"{name}/{part}/bias"]
        for part, y in (("query", x), ("key", context), ("value", context))
    )
    scores = np.exp(np.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(H))
    y = np.einsum("bnts,bsnh->btnh", scores / scores.sum(-1, keepdims=True), v)
    return np.einsum("btnh,nhd->btd", y, w[f"{name}/out/kernel"]) + w[f"{name}/out/bias"]


def run_mlp(w, name, x):
    x = x @ w[f"{name}/Dense_0/kernel"] + w[f"{name}/Dense_0/bias"]
    x = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x @ w[f"{name}/Dense_1/kernel"] + w[f"{name}/Dense_1/bias"]


def forward(arrays, names, images):
    w = {name: array.astype(np.float64) for name, array in arrays.items()}
    x = np.asarray(images, np.float64).reshape(2, 2, P, 2, P, 3)
    x = np.einsum("brpcqk,pqkd->brcd", x, w["embedding/kernel"]).reshape(2, 4, D)
    x = x + w["embedding/bias"]
    if "pos_embedding" in w:
        x = x + w["pos_embedding"]
    if "cls" in w:
        x = np.concatenate([np.broadcast_to(w["cls"], (2, 1, D)), x], 1)
    x = x + w.get("Transformer/posembed_input/pos_embedding", 0)
    for i in range(L):
        first, attn, second, dense = (f"Transformer/encoderblock_{i}/{name}" for name in names)
        y = layer_norm(w, first, x)
        x = x + attend(w, attn, y, y)
        x = x + run_mlp(w, dense, layer_norm(w, second, x))
    x = layer_norm(w, "Transformer/encoder_norm", x)
    if "MAPHead_0/probe" in w:
        y = attend(w, f"MAPHead_0/{NEW[1]}", np.broadcast_to(w["MAPHead_0/probe"], (2, 1, D)), x)
        x = (y + run_mlp(w, "MAPHead_0/MlpBlock_0", layer_norm(w, "MAPHead_0/LayerNorm_0", y)))[
            :, 0
        ]
    else:
        x = x[:, 0] if "cls" in w else x.mean(1)
    if "pre_logits/kernel" in w:
        x = np.tanh(x @ w["pre_logits/kernel"] + w["pre_logits/bias"])
    return x @ w["head/kernel"] + w["head/bias"]


def write(path, arrays, prefix=""):
    np.savez(path, **{prefix + name: array for name, array in arrays.items()})
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_published_layout(kind, tmp_path):
    arrays = random_arrays(KINDS[kind])
    prefix = {"augreg": "opt/target/", "big_vision, gap": "params/"}.get(kind, "")
    cfg, params = load(write(tmp_path / "model.npz", arrays, prefix))
    expected = forward(arrays, OLD if "big" not in kind else NEW, IMAGES)
    found = apply(cfg, params, IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_scanned_layers_in_bfloat16_beside_a_tower_of_text(tmp_path):
    arrays = random_arrays(KINDS["big_vision, map"])
    arrays = {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}
    stacked = {
        "Transformer/encoderblock/" + name.split("/", 2)[2]: np.stack(
            [arrays[name.replace("block_0", f"block_{i}")] for i in range(L)]
        )
        for name in arrays
        if "encoderblock_0/" in name
    }
    rest = {name: array for name, array in arrays.items() if "encoderblock" not in name}
    both = {f"params/img/{name}": array for name, array in (stacked | rest).items()}
    both |= {"params/txt/Embed_0/embedding": np.ones((7, D)), "params/t": np.ones(1)}
    path = write(tmp_path / "model.npz", both)
    cfg, params = load(path)
    expected = forward(arrays, NEW, IMAGES)
    found = apply(cfg, params, IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    states = {entry.name: entry.state for entry in open_pretrained(path).mapped.report}
    assert [name for name, state in states.items() if state == "skipped"] == [
        "params/t", "params/txt/Embed_0/embedding",
    ]  # fmt: skip


def test_positions_that_are_computed_have_no_array(tmp_path):
    shapes = {n: s for n, s in KINDS["big_vision, gap"].items() if n != "pos_embedding"}
    cfg, _ = load(write(tmp_path / "model.npz", random_arrays(shapes)))
    assert (cfg.position, cfg.pool, cfg.image_size, cfg.gelu) == ("sincos2d", "gap", 224, "tanh")


def test_it_becomes_timms(tmp_path):
    source = write(tmp_path / "model.npz", random_arrays(KINDS["big_vision, map"]))
    timm = tmp_path / "timm"
    assert main(["convert", "--from", str(source), "--to", str(timm), "--format", "timm"]) == 0
    (cfg, params), (again, same) = load(source), load(timm)
    np.testing.assert_array_equal(apply(cfg, params, IMAGES), apply(again, same, IMAGES))


@pytest.mark.parametrize(("pool", "format"), [("gap", "timm"), ("tok", "timm"), ("tok", "hf")])
def test_positions_that_are_computed_go_out_as_learned_ones(pool, format, tmp_path):
    shapes = KINDS[f"big_vision, {pool}"]
    arrays = random_arrays({n: s for n, s in shapes.items() if n != "pos_embedding"})
    source, out = write(tmp_path / "model.npz", arrays), tmp_path / format
    assert main(["convert", "--from", str(source), "--to", str(out), "--format", format]) == 0
    (cfg, params), (again, same) = load(source), load(out)
    assert (cfg.position, again.position) == ("sincos2d", "learned")
    images = make_images(1, 224, 224)
    np.testing.assert_array_equal(apply(cfg, params, images), apply(again, same, images))


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_come_out_as_they_came_in(kind, tmp_path):
    arrays = random_arrays(KINDS[kind])
    source, back = write(tmp_path / "model.npz", arrays), tmp_path / "back"
    assert main(["convert", "--from", str(source), "--to", str(back), "--format", "npz"]) == 0
    with np.load(back / "model.npz") as found:
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
    assert open_pretrained(back).config == open_pretrained(source).config


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ({"conv_root/kernel": (7, 7, 3, 64)}, "a ResNet with a ViT on top"),
        ({"pos_embedding": (1, 7, D)}, "7 positions, which are no square"),
        ({"head/kernel": (D + 1, C)}, r"head/kernel is \[17, 5\]"),
        ({"mystery": (1,)}, "holds mystery"),
        ({"embedding/kernel": (P, P + 1, 3, D)}, "only squares"),
        ({"embedding/kernel": (P, P, D)}, "is no ViT"),
    ],
)
def test_what_is_no_vit_is_named(shapes, complaint, tmp_path):
    arrays = random_arrays(KINDS["big_vision, gap"] | shapes)
    with pytest.raises(UserError, match=complaint):
        open_pretrained(write(tmp_path / "model.npz", arrays))


@pytest.mark.oracle
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["augreg", "big_vision, map"])
def test_timm_reads_the_same_model_from_it(kind, tmp_path):
    from tests.torch_library import torch

    timm = pytest.importorskip("timm")
    arrays = random_arrays(KINDS[kind])
    path = write(tmp_path / "model.npz", arrays, "params/" if "map" in kind else "")
    options = {"class_token": False, "global_pool": "map"} if "map" in kind else {}
    theirs = timm.create_model(
        "vit_base_patch16_224", img_size=8, patch_size=P, embed_dim=D, depth=L, num_heads=N,
        mlp_ratio=F / D, num_classes=C, act_layer="gelu_tanh", **options,
    ).eval()  # fmt: skip
    theirs.load_pretrained(str(path))
    if "map" in kind:  # timm leaves a head out that big_vision has
        theirs.head.weight.data = torch.tensor(arrays["head/kernel"].T.copy())
        theirs.head.bias.data = torch.tensor(arrays["head/bias"])
    cfg, params = load(path)
    expected = theirs(torch.tensor(np.asarray(IMAGES)).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(
        apply(cfg, params, jnp.asarray(IMAGES)), expected, atol=1e-5 * np.abs(expected).max()
    )
