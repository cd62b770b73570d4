"""Hugging Face's and timm's ViTs: in by their names, with their preprocessing, out as they came."""

import json

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.pretrained.published import load, random_arrays, write_published
from zoo.cli import main
from zoo.config import UserError
from zoo.pretrained.opening import open_pretrained

D, F, P = 16, 24, 4
HF_LAYER = {
    "layernorm_before.weight": (D,), "layernorm_before.bias": (D,),
    "attention.attention.query.weight": (D, D), "attention.attention.query.bias": (D,),
    "attention.attention.key.weight": (D, D), "attention.attention.key.bias": (D,),
    "attention.attention.value.weight": (D, D), "attention.attention.value.bias": (D,),
    "attention.output.dense.weight": (D, D), "attention.output.dense.bias": (D,),
    "layernorm_after.weight": (D,), "layernorm_after.bias": (D,),
    "intermediate.dense.weight": (F, D), "intermediate.dense.bias": (F,),
    "output.dense.weight": (D, F), "output.dense.bias": (D,),
}  # fmt: skip
HF = {
    "vit.embeddings.cls_token": (1, 1, D),
    "vit.embeddings.position_embeddings": (1, 1 + 6, D),
    "vit.embeddings.patch_embeddings.projection.weight": (D, 3, P, P),
    "vit.embeddings.patch_embeddings.projection.bias": (D,),
    "vit.layernorm.weight": (D,), "vit.layernorm.bias": (D,),
    "classifier.weight": (3, D), "classifier.bias": (3,),
    **{f"vit.encoder.layer.{i}.{n}": s for i in range(2) for n, s in HF_LAYER.items()},
}  # fmt: skip
HF_CONFIG = {
    "model_type": "vit", "hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": F, "image_size": [8, 12], "patch_size": P, "num_channels": 3,
    "id2label": {"0": "cat", "1": "dog", "2": "fox"},
}  # fmt: skip
TIMM_BLOCK = {
    "norm1.weight": (D,), "norm1.bias": (D,), "attn.qkv.weight": (3 * D, D),
    "attn.qkv.bias": (3 * D,), "attn.proj.weight": (D, D), "attn.proj.bias": (D,),
    "norm2.weight": (D,), "norm2.bias": (D,), "mlp.fc1.weight": (F, D), "mlp.fc1.bias": (F,),
    "mlp.fc2.weight": (D, F), "mlp.fc2.bias": (D,),
}  # fmt: skip
TIMM = {
    "cls_token": (1, 1, D), "pos_embed": (1, 1 + 4, D), "patch_embed.proj.weight": (D, 3, P, P),
    "patch_embed.proj.bias": (D,), "norm.weight": (D,), "norm.bias": (D,),
    "head.weight": (3, D), "head.bias": (3,),
    **{f"blocks.{i}.{n}": s for i in range(2) for n, s in TIMM_BLOCK.items()},
}  # fmt: skip
TIMM_CONFIG = {
    "architecture": "vit_tiny_patch4_8", "num_classes": 3, "num_features": D,
    "global_pool": "token", "model_args": {"num_heads": 2, "img_size": 8},
    "label_names": ["cat", "dog", "fox"],
    "pretrained_cfg": {
        "input_size": [3, 8, 8], "interpolation": "bicubic", "crop_pct": 0.8,
        "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "url": "...", "num_classes": 3,
    },
}  # fmt: skip


def publish(directory, kind, **changes):
    tree, shapes = {"hf": (HF_CONFIG, HF), "timm": (TIMM_CONFIG, TIMM)}[kind]
    path = write_published(directory, {**tree, **changes}, random_arrays(shapes))
    if kind == "hf":
        crop = {"do_center_crop": True, "crop_size": {"height": 8, "width": 12}, "resample": 3}
        mean = {"image_mean": [0.4, 0.5, 0.6], "size": {"height": 10, "width": 15}}
        (path / "preprocessor_config.json").write_text(json.dumps({**crop, **mean}))
    return path


@pytest.mark.parametrize("kind", ["hf", "timm"])
def test_weights_come_out_as_they_came_in(kind, tmp_path):
    source = publish(tmp_path / "source", kind)
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", kind]) == 0
    there, here = open_pretrained(source), open_pretrained(back)
    for path in there.mapped.shapes:
        np.testing.assert_array_equal(there.mapped.read(path), here.mapped.read(path))
    assert here.config.model == there.config.model
    assert here.classes == there.classes == ("cat", "dog", "fox")
    for a, b in ((here, there), (open_pretrained(ours), there)):
        assert a.config.data.eval_ops == b.config.data.eval_ops
        for key in ("pixel_mean", "pixel_std"):  # one number for all channels, or one for each
            here, there = (np.broadcast_to(getattr(x.config.data, key), 3) for x in (a, b))
            np.testing.assert_allclose(here, there)


def test_one_format_becomes_the_other(tmp_path):
    source, timm, hf = publish(tmp_path / "a", "timm"), tmp_path / "b", tmp_path / "c"
    argv = ["convert", "--from", str(source), "--to", str(hf), "--format", "hf"]
    assert main(argv) == 0
    assert main(["convert", "--from", str(hf), "--to", str(timm), "--format", "timm"]) == 0
    first, last = open_pretrained(source), open_pretrained(timm)
    np.testing.assert_array_equal(
        first.mapped.read("blocks/attn/k/kernel"), last.mapped.read("blocks/attn/k/kernel")
    )


def test_patches_and_joint_kernels_find_their_places(tmp_path):
    arrays = random_arrays(TIMM)
    cfg, params = load(publish(tmp_path, "timm"))
    assert (cfg.pool, cfg.gelu, cfg.norm_epsilon, cfg.cls_position) == ("cls", "erf", 1e-6, True)
    patch = arrays["patch_embed.proj.weight"]
    kernel = np.asarray(params["patch_embed"]["kernel"]).reshape(P, P, 3, D)
    assert kernel[1, 2, 0, 5] == patch[5, 0, 1, 2]
    parts = np.split(arrays["blocks.1.attn.qkv.weight"], 3)
    for name, part in zip("qkv", parts, strict=True):
        np.testing.assert_array_equal(params["blocks"]["attn"][name]["kernel"][1], part.T)


def test_names_of_transformers_5_are_the_same_model(tmp_path):
    arrays = random_arrays(HF)
    new = {}
    for name, array in arrays.items():
        for old, later in (
            ("vit.encoder.layer.", "vit.layers."),
            ("attention.attention.query", "attention.q_proj"),
            ("attention.attention.key", "attention.k_proj"),
            ("attention.attention.value", "attention.v_proj"),
            ("attention.output.dense", "attention.o_proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
        ):
            name = name.replace(old, later)
        new[name] = array
    old = load(publish(tmp_path / "old", "hf"))[1]
    params = load(write_published(tmp_path / "new", HF_CONFIG, new))[1]
    for name in ("up", "down"):
        np.testing.assert_array_equal(
            params["blocks"]["mlp"][name]["kernel"], old["blocks"]["mlp"][name]["kernel"]
        )


@pytest.mark.parametrize("kind", ["hf", "timm"])
def test_an_image_is_classified_by_name(kind, tmp_path, capsys):
    image = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(image)
    source = publish(tmp_path / kind, kind)
    assert main(["predict", "--weights", str(source), str(image), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]["top"]
    assert {one["class"] for one in found} == {"cat", "dog", "fox"}
    assert zoo.load(source).predict(image, top=1)[0] == found[0]


@pytest.mark.parametrize(
    ("kind", "changes", "complaint"),
    [
        ("hf", {"qkv_bias": False}, "qkv_bias is False"),
        ("hf", {"patch_size": 3}, r"projection.weight is \[16, 3, 4, 4\]"),
        ("hf", {"image_size": 8}, r"position_embeddings is \[1, 7, 16\]"),
        ("hf", {"image_size": [8]}, "image_size"),
        ("timm", {"architecture": "vit_base_patch32_clip_quickgelu_224"}, "activation of"),
        ("timm", {"model_args": {}}, "no size is known by a name"),
        ("timm", {"model_args": {"num_heads": 2, "global_pool": "avg"}}, "global_pool 'avg'"),
    ],
)
def test_what_zoos_vit_does_not_compute_is_refused(kind, changes, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        open_pretrained(publish(tmp_path, kind, **changes))


DIST = {"dist_token": (1, 1, D), "head_dist.weight": (3, D), "head_dist.bias": (3,)}


def test_a_distilled_model_of_timms_comes_out_as_it_came_in(tmp_path):
    source, ours, back = (tmp_path / name for name in ("source", "ours", "back"))
    arrays = random_arrays(TIMM | DIST | {"pos_embed": (1, 2 + 4, D)})
    write_published(source, TIMM_CONFIG, arrays)
    assert open_pretrained(source).config.model.distilled
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "timm"]) == 0
    there, here = open_pretrained(source), open_pretrained(back)
    assert here.config.model == there.config.model
    for path in there.mapped.shapes:
        np.testing.assert_array_equal(there.mapped.read(path), here.mapped.read(path))
    np.testing.assert_array_equal(here.mapped.read("dist")[0], arrays["dist_token"][0, 0])


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"dist_token": (1, 1, D), "pos_embed": (1, 2 + 4, D)}, "lacks head_dist.weight"),
        ({"dist_token": (1, 1, D), "reg_token": (1, 1, D)}, "registers beside a distillation"),
        ({"blocks.0.mlp.fc2.weight": (D, F // 2)}, "a gated MLP"),
    ],
)
def test_what_timms_others_have_is_named(extra, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        open_pretrained(write_published(tmp_path, TIMM_CONFIG, random_arrays(TIMM | extra)))


def test_a_crop_that_keeps_the_aspect_goes_out_as_one(tmp_path):
    out = tmp_path / "out"
    source = publish(tmp_path / "source", "timm")
    assert main(["convert", "--from", str(source), "--to", str(out), "--format", "hf"]) == 0
    written = json.loads((out / "preprocessor_config.json").read_text())
    assert written["image_processor_type"] == "BitImageProcessor"
    assert written["size"] == {"shortest_edge": 10}  # 8 / 0.8
    assert written["crop_size"] == {"height": 8, "width": 8}
    ops = [open_pretrained(path).config.data.eval_ops for path in (source, out)]
    assert ops[0] == ops[1]
