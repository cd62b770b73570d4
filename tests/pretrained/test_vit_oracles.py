"""timm's and transformers' ViTs load here with their logits, and what is saved here loads there."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.vits import apply, make_images
from tests.pretrained.oracles import close, round_trip, torch, transformers
from tests.pretrained.published import load
from zoo.cli import main

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]
timm = pytest.importorskip("timm")

IMAGES = make_images(2, 8, 8)
HF = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "image_size": 8, "patch_size": 4, "num_labels": 5, "initializer_range": 0.3,
}  # fmt: skip


def shaken(model):
    """All parameters random, also those that begin at 0 or 1."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return model.eval()


def pixels():
    return torch.tensor(np.asarray(IMAGES)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("act", ["gelu", "gelu_new"])
def test_hugging_faces_vit(act, tmp_path):
    kind = transformers.ViTForImageClassification
    theirs = shaken(kind(transformers.ViTConfig(**HF, hidden_act=act)))
    theirs.save_pretrained(tmp_path / "theirs")
    cfg, params = load(tmp_path / "theirs")
    expected = theirs(pixels()).logits
    close(apply(cfg, params, IMAGES), expected)
    again = round_trip(tmp_path, kind)
    assert torch.equal(again(pixels()).logits, expected)


def test_hugging_faces_vit_without_classes_gives_what_its_pooler_gives(tmp_path):
    theirs = shaken(transformers.ViTModel(transformers.ViTConfig(**HF)))
    theirs.save_pretrained(tmp_path / "theirs")
    cfg, params = load(tmp_path / "theirs")
    expected = theirs(pixels()).pooler_output
    close(apply(cfg, params, IMAGES), expected)
    again = round_trip(tmp_path, transformers.ViTModel)
    assert torch.equal(again(pixels()).pooler_output, expected)


@pytest.mark.parametrize("kind", ["ViTImageProcessor", "DeiTImageProcessor"])
def test_pixels_are_prepared_as_their_processor_does(kind, tmp_path):
    from PIL import Image

    from zoo.inference.predict import load_classifier

    theirs = shaken(transformers.ViTForImageClassification(transformers.ViTConfig(**HF)))
    theirs.save_pretrained(tmp_path / "theirs")
    crop = {"do_center_crop": True, "crop_size": {"height": 8, "width": 8}}
    options = {"size": {"height": 8, "width": 8}} if kind.startswith("ViT") else crop
    if kind.startswith("DeiT"):
        options["size"] = {"height": 10, "width": 10}
    processor = getattr(transformers, kind)(**options, image_mean=[0.4, 0.5, 0.6])
    processor.save_pretrained(tmp_path / "theirs")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))
    image.save(tmp_path / "image.png")
    expected = theirs(processor(image, return_tensors="pt")["pixel_values"]).logits
    model = load_classifier(tmp_path / "theirs")
    found = model.probabilities([model.read(tmp_path / "image.png")])[0]
    # Pillow rounds what it resizes to whole numbers, torchvision does not.
    np.testing.assert_allclose(found, expected.softmax(-1)[0].detach(), atol=0.02)
    round_trip(tmp_path, transformers.ViTForImageClassification)
    again = transformers.AutoImageProcessor.from_pretrained(tmp_path / "back")
    assert torch.allclose(
        again(image, return_tensors="pt")["pixel_values"],
        processor(image, return_tensors="pt")["pixel_values"],
        atol=1e-5,
    )


DINOV2 = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_ratio": 2,
    "patch_size": 4, "num_labels": 5,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters"])
@pytest.mark.parametrize("size", [8, 12, 20], ids=["as made", "larger made", "smaller made"])
@pytest.mark.parametrize("top", ["ForImageClassification", "Model"])
def test_dinov2_at_its_own_size_and_at_others(kind, size, top, tmp_path):
    made = getattr(transformers, kind + top)
    theirs = shaken(made(getattr(transformers, f"{kind}Config")(**DINOV2, image_size=size)))
    inner = theirs if top == "Model" else theirs.base_model
    inner.embeddings.mask_token.data.zero_()  # no image has it
    theirs.save_pretrained(tmp_path / "theirs")
    crop = {"do_center_crop": True, "crop_size": {"height": 8, "width": 8}}
    processor = transformers.BitImageProcessor(size={"shortest_edge": 10}, **crop)
    processor.save_pretrained(tmp_path / "theirs")
    cfg, params = load(tmp_path / "theirs")
    assert (cfg.image_size, cfg.grid) == (8, (size // 4, size // 4))
    take = lambda output: output.pooler_output if top == "Model" else output.logits
    expected = take(theirs(pixels()))
    close(apply(cfg, params, IMAGES), expected)
    again = round_trip(tmp_path, made)
    assert torch.equal(take(again(pixels())), expected)


def test_a_distilled_deit(tmp_path):
    kind = transformers.DeiTForImageClassificationWithTeacher
    theirs = shaken(kind(transformers.DeiTConfig(**HF)))
    theirs.save_pretrained(tmp_path / "theirs")
    cfg, params = load(tmp_path / "theirs")
    expected = theirs(pixels()).logits
    close(apply(cfg, params, IMAGES), expected)
    again = round_trip(tmp_path, kind)
    assert torch.equal(again(pixels()).logits, expected)


# Their names, with the sizes of the tests.
NAMES = {"distilled": "deit_tiny_distilled_patch16_224", "dinov2": "vit_small_patch14_reg4_dinov2"}
TIMM = {
    "vit": {},
    "distilled": {},
    "dinov2": {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True},
    "deit3": {"no_embed_class": True, "init_values": 0.1},
    "registers": {"no_embed_class": True, "reg_tokens": 3, "init_values": 0.1},
    "gap": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "fc_norm": {"class_token": False, "global_pool": "avg", "fc_norm": True},
    "siglip": {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"},
    "qk_norm": {"qk_norm": True},
    "no head": {"num_classes": 0},
}


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, tmp_path):
    args = {
        "img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2,
        "mlp_ratio": 1.5, "num_classes": 5, **TIMM[name],
    }  # fmt: skip
    theirs = shaken(timm.create_model(NAMES.get(name, "vit_base_patch16_224"), **args))
    source, ours, back = (tmp_path / name for name in ("theirs", "ours", "back"))
    source.mkdir()
    timm.models.save_for_hf(theirs, source, safe_serialization=True, model_args=args)
    cfg, params = load(source)
    expected = theirs(pixels())
    close(apply(cfg, params, jnp.asarray(IMAGES)), expected)
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "timm"]) == 0
    again = timm.create_model(f"local-dir:{back}", pretrained=True).eval()
    assert torch.equal(again(pixels()), expected)
    arrays = [(path / "model.safetensors").read_bytes() for path in (source, back)]
    assert arrays[0] == arrays[1]


def test_timms_small_sizes_by_name(tmp_path):
    theirs = shaken(timm.create_model("vit_tiny_patch16_224", num_classes=7))
    timm.models.save_for_hf(theirs, tmp_path, safe_serialization=True)
    cfg, params = load(tmp_path)
    assert (cfg.width, cfg.num_heads, cfg.image_size) == (192, 3, 224)
    images = make_images(1, 224, 224)
    expected = theirs(torch.tensor(np.asarray(images)).permute(0, 3, 1, 2))
    close(apply(cfg, params, images), expected, 3e-5)  # of a published size: longer sums
