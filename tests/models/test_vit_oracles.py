"""The same random weights in timm's and Hugging Face's PyTorch models give the same numbers."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.torch_weights import (
    HF_DINOV3,
    HF_VIT,
    to_torch,
    torch,
)
from tests.models.vits import apply, make_images, make_params, small_config
from tests.pretrained.published import exported
from zoo.models.positions import resize_positions
from zoo.pretrained import timm_vit as pretrained_vit

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def timm_vit():
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    return vision_transformer.VisionTransformer


def make_timm(VisionTransformer, cfg, *, img_size=(8, 12), **options):
    erf = cfg.gelu == "erf"
    return VisionTransformer(
        img_size=img_size,
        patch_size=cfg.patch_size,
        num_classes=cfg.num_classes,
        embed_dim=cfg.width,
        depth=cfg.depth,
        num_heads=cfg.num_heads,
        mlp_ratio=cfg.mlp_dim / cfg.width,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=cfg.norm_epsilon),
        act_layer=functools.partial(torch.nn.GELU, approximate="none" if erf else "tanh"),
        **options,
    ).eval()


def to_nchw(images):
    return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)


def compare(actual, expected, tolerance=1e-5):
    expected = expected.detach().numpy()
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max())


CASES = {
    "cls": ({}, {"global_pool": "token"}),
    "cls without position, tanh": (
        {"cls_position": False, "gelu": "tanh"},
        {"global_pool": "token", "no_embed_class": True},
    ),
    "registers and layer scale, as DINOv2": (
        {"cls_position": False, "num_registers": 4, "layer_scale": 0.1},
        {"global_pool": "token", "no_embed_class": True, "reg_tokens": 4, "init_values": 0.1},
    ),
    "gap": (
        {"pool": "gap"},
        {"global_pool": "avg", "class_token": False, "fc_norm": False},
    ),
    "gap with fc_norm": (
        {"pool": "gap", "norm_after_pool": True, "num_registers": 1},
        {
            "global_pool": "avg",
            "class_token": False,
            "fc_norm": True,
            "reg_tokens": 1,
            "no_embed_class": True,
        },
    ),
    "qk_norm": ({"qk_norm": True}, {"global_pool": "token", "qk_norm": True}),
    "map, as SigLIP": (
        {"pool": "map", "gelu": "tanh"},
        {"global_pool": "map", "class_token": False},
    ),
    "map with registers": (
        {"pool": "map", "num_registers": 2},
        {
            "global_pool": "map",
            "class_token": False,
            "reg_tokens": 2,
            "no_embed_class": True,
            "pool_include_prefix": False,
        },
    ),
}


@pytest.mark.parametrize(("changes", "options"), CASES.values(), ids=CASES)
def test_timm(timm_vit, changes, options):
    cfg = small_config(**{"gelu": "erf", "depth": 3, **changes})
    params = make_params(cfg)
    theirs = make_timm(timm_vit, cfg, **options)
    arrays = exported(pretrained_vit, cfg, params)
    theirs.load_state_dict({name: torch.tensor(np.array(x)) for name, x in arrays.items()})
    compare(apply(cfg, params, make_images()), theirs(to_nchw(make_images())))


def test_hugging_face_vit():
    transformers = pytest.importorskip("transformers")
    cfg = small_config(gelu="erf", norm_epsilon=1e-12, depth=3)
    params = make_params(cfg)
    config = transformers.ViTConfig(
        hidden_size=cfg.width,
        num_hidden_layers=cfg.depth,
        num_attention_heads=cfg.num_heads,
        intermediate_size=cfg.mlp_dim,
        image_size=(8, 12),
        patch_size=cfg.patch_size,
        num_labels=cfg.num_classes,
    )
    theirs = transformers.ViTForImageClassification(config).eval()
    theirs.load_state_dict(to_torch(params, HF_VIT, cfg.patch_size))
    logits, arrays = apply(cfg, params, make_images(), capture=("blocks",))
    expected = theirs(to_nchw(make_images()), output_hidden_states=True)
    compare(logits, expected.logits)
    # hidden_states starts with the embeddings; the blocks' outputs follow.
    compare(arrays["blocks"], torch.stack(expected.hidden_states[1:]))


def test_hugging_face_vit_at_another_resolution():
    transformers = pytest.importorskip("transformers")
    cfg = small_config(gelu="erf", norm_epsilon=1e-12, position_resize="bicubic", image_size=16)
    params = make_params(cfg)
    config = transformers.ViTConfig(
        hidden_size=cfg.width,
        num_hidden_layers=cfg.depth,
        num_attention_heads=cfg.num_heads,
        intermediate_size=cfg.mlp_dim,
        image_size=16,
        patch_size=cfg.patch_size,
        num_labels=cfg.num_classes,
    )
    theirs = transformers.ViTForImageClassification(config).eval()
    theirs.load_state_dict(to_torch(params, HF_VIT, cfg.patch_size))
    images = make_images(2, 20, 32)
    expected = theirs(to_nchw(images), interpolate_pos_encoding=True).logits
    compare(apply(cfg, params, images), expected)


def test_hugging_face_dinov3_has_the_same_rotary_positions():
    transformers = pytest.importorskip("transformers")
    cfg = small_config(
        position="rotary",
        num_registers=2,
        layer_scale=1.0,
        gelu="erf",
        norm_epsilon=1e-5,
        num_classes=0,
        depth=3,
    )
    params = make_params(cfg)
    params["blocks"]["attn"]["k"]["bias"] = jnp.zeros_like(params["blocks"]["attn"]["k"]["bias"])
    config = transformers.DINOv3ViTConfig(
        hidden_size=cfg.width,
        num_hidden_layers=cfg.depth,
        num_attention_heads=cfg.num_heads,
        intermediate_size=cfg.mlp_dim,
        image_size=(8, 12),
        patch_size=cfg.patch_size,
        num_register_tokens=cfg.num_registers,
    )
    theirs = transformers.DINOv3ViTModel(config).eval()
    weights = to_torch(params, HF_DINOV3, cfg.patch_size)
    expected_missing = {"embeddings.mask_token"}
    no_bias = {name for name in weights if name.endswith("k_proj.bias")}
    result = theirs.load_state_dict(weights, strict=False)
    assert set(result.missing_keys) == expected_missing
    assert set(result.unexpected_keys) == no_bias
    for images in (make_images(), make_images(2, 16, 20)):
        _, arrays = apply(cfg, params, images, capture=("tokens",))
        compare(arrays["tokens"], theirs(to_nchw(images)).last_hidden_state)


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "bicubic_antialias"])
@pytest.mark.parametrize("new", [(6, 9), (2, 2), (3, 11)])
def test_resizing_is_pytorchs(method, new):
    table = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    mode, _, antialias = method.partition("_")
    expected = torch.nn.functional.interpolate(
        torch.tensor(table).permute(2, 0, 1)[None],
        new,
        mode=mode,
        align_corners=False,
        antialias=bool(antialias),
    )[0].permute(1, 2, 0)
    actual = resize_positions(jnp.asarray(table.reshape(12, 5)), (3, 4), new, method)
    compare(actual.reshape(*new, 5), expected, 1e-6)
