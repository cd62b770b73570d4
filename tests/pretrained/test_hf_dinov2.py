"""Hugging Face's DINOv2 and its distilled DeiT: in by their names, out as they came, in use."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.models.vits import make_params, small_config
from tests.pretrained.published import load, random_arrays, write_published
from tests.pretrained.test_vits import HF as VIT
from tests.pretrained.test_vits import HF_CONFIG as VIT_CONFIG
from zoo.cli import main
from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.config.schema import Config
from zoo.models.paths import leaves_by_path
from zoo.pretrained.opening import open_pretrained
from zoo.pretrained.saving import Model, save

D, P = 16, 4
LAYER = {
    "norm1.weight": (D,), "norm1.bias": (D,), "norm2.weight": (D,), "norm2.bias": (D,),
    **{
        f"attention.{part}.{leaf}": (D, D) if leaf == "weight" else (D,)
        for part in ("attention.query", "attention.key", "attention.value", "output.dense")
        for leaf in ("weight", "bias")
    },
    "layer_scale1.lambda1": (D,), "layer_scale2.lambda1": (D,), "mlp.fc1.weight": (2 * D, D),
    "mlp.fc1.bias": (2 * D,), "mlp.fc2.weight": (D, 2 * D), "mlp.fc2.bias": (D,),
}  # fmt: skip
BODY = {
    "embeddings.cls_token": (1, 1, D), "embeddings.position_embeddings": (1, 1 + 9, D),
    "embeddings.patch_embeddings.projection.weight": (D, 3, P, P),
    "embeddings.patch_embeddings.projection.bias": (D,),
    "layernorm.weight": (D,), "layernorm.bias": (D,),
    **{f"encoder.layer.{i}.{name}": shape for i in range(2) for name, shape in LAYER.items()},
}  # fmt: skip
CONFIG = {
    "hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2,
    "image_size": 12, "patch_size": P, "use_swiglu_ffn": False,
    "id2label": {"0": "cat", "1": "dog", "2": "fox"},
}  # fmt: skip
PROCESSOR = {
    "image_processor_type": "BitImageProcessor", "do_center_crop": True, "resample": 3,
    "crop_size": {"height": 8, "width": 8}, "size": {"shortest_edge": 10},
    "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4],
}  # fmt: skip


def publish(directory, kind, *, classes=True, **changes):
    """A DINOv2 whose positions are of 3 x 3 patches, and whose images are of 2 x 2."""
    shapes = BODY | (
        {"embeddings.register_tokens": (1, 3, D)} if kind == "dinov2_with_registers" else {}
    )
    if classes:
        shapes = {f"{kind}.{name}": shape for name, shape in shapes.items()}
        shapes |= {"classifier.weight": (3, 2 * D), "classifier.bias": (3,)}
    arrays = random_arrays(shapes)
    prefix = f"{kind}." if classes else ""
    arrays[f"{prefix}embeddings.mask_token"] = np.zeros((1, D), np.float32)
    tree = {**CONFIG, "model_type": kind, "num_register_tokens": 3, **changes}
    path = write_published(directory, tree, arrays)
    (path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return path


@pytest.mark.parametrize("kind", ["dinov2", "dinov2_with_registers"])
@pytest.mark.parametrize("classes", [True, False], ids=["classes", "model"])
def test_dinov2_comes_out_byte_by_byte_as_it_came_in(kind, classes, tmp_path):
    source = publish(tmp_path / "source", kind, classes=classes)
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "hf"]) == 0
    assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    there, here = open_pretrained(source), open_pretrained(back)
    assert here.config.model == there.config.model
    assert here.classes == there.classes == (("cat", "dog", "fox") if classes else ())
    cfg = there.config.model
    assert (cfg.pool, cfg.layer_scale) == ("cls_gap" if classes else "cls", 1.0)
    assert cfg.num_registers == (3 if kind == "dinov2_with_registers" else 0)
    assert json.loads((back / "config.json").read_text())["image_size"] == 12
    states = {entry.name: entry.state for entry in there.mapped.report}
    assert [name for name in states if states[name] == "skipped"] == [
        next(name for name in states if name.endswith("mask_token"))
    ]


def test_images_are_of_the_preprocessors_size_and_positions_of_the_models(tmp_path, capsys):
    source = publish(tmp_path, "dinov2")
    model = open_pretrained(source).config.model
    assert (model.image_size, model.position_grid, model.position_resize) == (8, (3, 3), "bicubic")
    image = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(image)
    assert main(["predict", "--weights", str(source), str(image), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]["top"]
    assert {one["class"] for one in found} == {"cat", "dog", "fox"}
    (source / "preprocessor_config.json").unlink()
    model = open_pretrained(source).config.model
    assert (model.image_size, model.position_grid) == (12, None)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"use_swiglu_ffn": True}, "use_swiglu_ffn is True, and only False is read"),
        ({"qkv_bias": False}, "qkv_bias is False"),
        ({"mlp_ratio": 3}, r"mlp.fc1.weight is \[32, 16\].* made of \[48, 16\]"),
        ({"image_size": 16}, r"position_embeddings is \[1, 10, 16\]"),
        ({"patch_size": [4, 4]}, "patch_size"),
    ],
)
def test_what_zoos_vit_does_not_compute_is_refused(changes, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        open_pretrained(publish(tmp_path, "dinov2", **changes))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"layer_scale": None}, "Hugging Face's DINOv2 has other parameters"),
        ({"mlp_dim": 24}, "an mlp_dim that is a multiple of its width"),
        ({"position_grid": (4, 4), "position_resize": "bilinear"}, "has position_resize bicubic"),
    ],
)
def test_a_model_of_ones_own_that_is_none_is_refused(changes, complaint, tmp_path):
    options = {"pool": "cls_gap", "layer_scale": 1.0, "mlp_dim": 32, "gelu": "erf", **changes}
    cfg = small_config(**options)
    flat = leaves_by_path(make_params(cfg))
    config = Config(model=cfg, data=ImageData(name="folder", image_size=(8, 12)))
    read = lambda path, layer: np.asarray(flat[path] if layer is None else flat[path][layer])
    shapes = {path: leaf.shape for path, leaf in flat.items()}
    with pytest.raises(UserError, match=complaint):
        save(Model(config, ("a", "b", "c", "d", "e"), None, shapes, read), tmp_path / "out", "hf")


def publish_deit(directory, *, drop=(), **changes):
    shapes = {name.replace("vit.", "deit."): shape for name, shape in VIT.items()}
    shapes |= {
        "deit.embeddings.position_embeddings": (1, 2 + 6, D),
        "deit.embeddings.distillation_token": (1, 1, D),
    }
    for head in ("cls_classifier", "distillation_classifier"):
        shapes |= {f"{head}.weight": (3, D), f"{head}.bias": (3,)}
    shapes = {n: s for n, s in shapes.items() if not n.startswith(("classifier.", *drop))}
    tree = {**VIT_CONFIG, "model_type": "deit", **changes}
    return write_published(directory, tree, random_arrays(shapes))


def test_a_distilled_deit_comes_out_byte_by_byte_as_it_came_in(tmp_path):
    source = publish_deit(tmp_path / "source")
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "hf"]) == 0
    assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert open_pretrained(back).config.model == open_pretrained(source).config.model
    cfg, params = load(source)
    assert cfg.distilled
    shapes = {path: leaf.shape for path, leaf in leaves_by_path(params).items()}
    assert (shapes["dist"], shapes["dist_head/kernel"]) == ((1, D), (D, 3))


def test_a_deit_with_another_head_is_named(tmp_path):
    with pytest.raises(UserError, match=r"only DeiTForImageClassificationWithTeacher is read"):
        open_pretrained(publish_deit(tmp_path, drop=("distillation_classifier",)))
