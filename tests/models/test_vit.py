"""The ViT: sizes, options, and that every way of running it gives the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from tests.config.test_vit import CONVENTIONS, FILLED, PARAMS
from tests.models.vits import (
    EVERYTHING,
    OPTIONS,
    apply,
    init_params,
    loss_and_grads,
    make_images,
    make_keys,
    make_model,
    make_params,
    small_config,
)
from zoo.config.vit import ViTConfig, macs, num_params
from zoo.models.vit import CAPTURES, ViT


def shapes(cfg):
    return nnx.state(nnx.eval_shape(lambda: ViT(cfg, rngs=nnx.Rngs(0))))


def count(cfg):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(cfg)))


@pytest.mark.parametrize("size", PARAMS)
def test_every_size_has_the_published_number_of_parameters(size):
    configs = [ViTConfig(size=size, **FILLED, **convention) for convention in CONVENTIONS]
    assert tuple(count(cfg) for cfg in configs) == PARAMS[size]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_formulas_agree_with_the_model(options):
    cfg = small_config(**options)
    assert count(cfg) == num_params(cfg)
    params = make_params(cfg)
    images = jax.ShapeDtypeStruct((2, *cfg.image_size, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda x: make_model(cfg, params)(x))(images)
    assert matmul_flops(jaxpr.jaxpr) == 2 * 2 * macs(cfg)


def matmul_flops(jaxpr) -> int:
    """FLOPs of all matrix products, loops multiplied by their length."""
    total = 0
    for eqn in jaxpr.eqns:
        assert eqn.primitive.name != "conv_general_dilated"
        if eqn.primitive.name == "dot_general":
            (contracting, _), _ = eqn.params["dimension_numbers"]
            lhs = eqn.invars[0].aval.shape
            total += 2 * eqn.outvars[0].aval.size * int(np.prod([lhs[i] for i in contracting]))
        times = eqn.params.get("length", 1)
        total += times * sum(matmul_flops(sub) for sub in jaxprs_in_params(eqn.params))
    return total


def test_parameter_paths_are_written_out():
    paths = {"/".join(path) for path, _ in nnx.to_flat_state(shapes(small_config(**EVERYTHING)))}
    dense = ("attn/q", "attn/k", "attn/v", "attn/out", "mlp/up", "mlp/down")
    norms = ("attn/q_norm", "attn/k_norm", "attn_norm", "mlp_norm")
    block = {"attn_scale", "mlp_scale"}
    block |= {f"{name}/{leaf}" for name in dense for leaf in ("kernel", "bias")}
    block |= {f"{name}/{leaf}" for name in norms for leaf in ("scale", "bias")}
    outside = ("patch_embed", "representation", "head")
    assert paths == {
        *(f"blocks/{name}" for name in block),
        *(f"{name}/{leaf}" for name in outside for leaf in ("kernel", "bias")),
        *("cls", "registers", "pos_embed", "norm/scale", "norm/bias"),
    }
    pool = nnx.to_flat_state(shapes(small_config(pool="map")))
    children = {"/".join(path[:2]) for path, _ in pool if path[0] == "pool"}
    assert children == {"pool/probe", "pool/attn", "pool/norm", "pool/mlp"}


@pytest.fixture(scope="module")
def reference():
    """Loss and gradients with dropout, unrolled, nothing recomputed."""
    cfg = small_config(**EVERYTHING, scan=False)
    params = make_params(cfg)
    return params, loss_and_grads(cfg, params, make_images(), make_keys())


@pytest.mark.parametrize(
    ("scan", "remat"),
    [(True, "none"), (True, "attention"), (True, "dots"), (True, "full"), (False, "attention")],
)
def test_scan_and_remat_change_no_number(reference, scan, remat):
    params, (loss, grads) = reference
    cfg = small_config(**EVERYTHING, scan=scan, remat=remat)
    actual_loss, actual = loss_and_grads(cfg, params, make_images(), make_keys())
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-6)
    for path, expected in jax.tree.leaves_with_path(grads):
        leaf = nested(actual, path)
        np.testing.assert_allclose(leaf, expected, atol=1e-6 * np.abs(expected).max() + 1e-6)


def nested(tree, path):
    for entry in path:
        tree = tree[entry.key]
    return tree


def test_recomputing_more_stores_less():
    def stored(remat, scan):
        cfg = small_config(remat=remat, scan=scan, image_size=(16, 16))
        params, images = make_params(cfg), make_images(2, 16, 16)
        forward = lambda p: jax.vjp(lambda p: make_model(cfg, p)(images), p)[1]
        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(forward, params)))

    for scan in (True, False):
        sizes = [stored(remat, scan) for remat in ("none", "attention", "dots", "full")]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == 4


def test_randomness_depends_on_an_example_and_its_key_alone():
    cfg = small_config(**EVERYTHING)
    params, images, keys = make_params(cfg), make_images(), make_keys()
    logits = apply(cfg, params, images, keys)
    order = np.array([2, 0, 3, 1])
    mixed = apply(cfg, params, images[order], keys[order])
    np.testing.assert_allclose(mixed, logits[order], atol=1e-5)
    alone = apply(cfg, params, images[1:2], keys[1:2])
    np.testing.assert_allclose(alone, logits[1:2], atol=1e-5)
    same = apply(cfg, params, np.broadcast_to(images[:1], images.shape), keys)
    assert len(np.unique(np.asarray(same).round(4), axis=0)) == 4


def test_without_keys_or_rates_nothing_is_drawn():
    def draws(cfg, keys):
        params = make_params(cfg)
        run = lambda x, keys: make_model(cfg, params)(x, keys=keys)
        return "random_" in str(jax.make_jaxpr(run)(make_images(), keys))

    for rate in ("dropout", "attention_dropout", "drop_path"):
        dropping = small_config(**{rate: 0.1})
        assert draws(dropping, make_keys())
        assert not draws(dropping, None)
    assert not draws(small_config(), make_keys())


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "drop_path"])
def test_each_rate_drops_something(rate):
    cfg = small_config(**{rate: 0.5})
    params, images = make_params(cfg), make_images()
    evaluated = apply(cfg, params, images)
    assert np.abs(apply(cfg, params, images, make_keys()) - evaluated).max() > 1e-4


def test_drop_path_grows_linearly_from_no_layer_to_the_last():
    cfg = small_config(drop_path=0.5, depth=3)
    batch = 400
    images = np.broadcast_to(make_images(1), (batch, 8, 12, 3))
    _, arrays = apply(cfg, make_params(cfg), images, make_keys(batch), ("blocks",))
    outcomes = np.asarray(arrays["blocks"][:, :, 0, 0])
    assert np.ptp(outcomes[0]) == 0  # the first layer never drops
    # A layer's two branches are dropped independently, each with a probability of 1/4, then 1/2.
    unchanged = [np.mean(outcomes[i] == outcomes[i - 1]) for i in (1, 2)]
    np.testing.assert_allclose(unchanged, [1 / 16, 1 / 4], atol=0.06)
    # So are layers: were their keys the same, what the second drops the third would drop too.
    both = np.mean((outcomes[2] == outcomes[1]) & (outcomes[1] == outcomes[0]))
    assert both < 1 / 32


def test_drop_path_can_be_the_same_in_every_layer():
    cfg = small_config(drop_path=0.5, depth=3, drop_path_growth="uniform")
    batch = 400
    images = np.broadcast_to(make_images(1), (batch, 8, 12, 3))
    _, arrays = apply(cfg, make_params(cfg), images, make_keys(batch), ("blocks",))
    outcomes = np.asarray(arrays["blocks"][:, :, 0, 0])
    unchanged = [np.mean(outcomes[i] == outcomes[i - 1]) for i in (1, 2)]
    np.testing.assert_allclose(unchanged, [1 / 4, 1 / 4], atol=0.06)
    assert np.ptp(outcomes[0]) > 0


def test_images_of_other_sizes():
    cfg = small_config()
    params, own = make_params(cfg), make_images()
    assert apply(cfg, params, make_images(2, 20, 16)).shape == (2, 5)
    # Pixels beyond the last whole patch do not matter.
    padded = np.pad(own, ((0, 0), (0, 3), (0, 1), (0, 0)), constant_values=9.0)
    np.testing.assert_array_equal(apply(cfg, params, padded), apply(cfg, params, own))
    with pytest.raises(ValueError, match="smaller than a patch of 4"):
        apply(cfg, params, make_images(2, 3, 16))


def test_position_grid_is_interpolated_for_the_own_image_too():
    wide = small_config(position_grid=(4, 6), pool="gap")
    own = small_config(pool="gap")
    params = make_params(wide)
    # Half-pixel bilinear from 4 x 6 to 2 x 3 averages neighbours.
    pooled = params["pos_embed"].reshape(2, 2, 3, 2, 16).mean((1, 3)).reshape(6, 16)
    expected = apply(own, {**params, "pos_embed": pooled}, make_images())
    np.testing.assert_allclose(apply(wide, params, make_images()), expected, atol=1e-5)


def test_bfloat16_is_close_and_keeps_float32_where_it_matters():
    cfg = small_config(dtype="bfloat16")
    params = jax.tree.map(lambda x: x / 2, make_params(cfg))
    logits, arrays = apply(cfg, params, make_images(), capture=("tokens",))
    exact = apply(cfg.replace(dtype="float32"), params, make_images())
    assert arrays["tokens"].dtype == jnp.bfloat16
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(cfg))} == {jnp.dtype("float32")}
    assert 0 < np.abs(logits - exact).max() < 0.02 * np.abs(exact).max()


@pytest.mark.parametrize("scan", [True, False])
def test_captured_arrays(scan):
    cfg = small_config(num_registers=2, representation=True, scan=scan)
    params = make_params(cfg)
    logits, arrays = apply(cfg, params, make_images(), capture=tuple(CAPTURES))
    T = 1 + 2 + 6
    assert {name: array.shape for name, array in arrays.items()} == {
        "patch_embed": (4, 6, 16),
        "blocks": (2, 4, T, 16),
        "attention": (2, 4, 2, T, T),
        "tokens": (4, T, 16),
        "representation": (4, 16),
    }
    model = make_model(cfg, params)
    # Patches are rows first, their pixels row, column, channel: here the last of 2 x 3.
    patch = make_images()[:, 4:8, 8:12].reshape(4, -1)
    np.testing.assert_allclose(model.patch_embed(patch), arrays["patch_embed"][:, 5], atol=1e-5)
    np.testing.assert_allclose(arrays["attention"].sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(model.norm(arrays["blocks"][-1]), arrays["tokens"], atol=1e-5)
    representation = jnp.tanh(model.representation(arrays["tokens"][:, 0]))
    np.testing.assert_allclose(representation, arrays["representation"], atol=1e-5)
    np.testing.assert_allclose(model.head(representation), logits, atol=1e-5)
    np.testing.assert_allclose(apply(cfg, params, make_images()), logits, atol=1e-5)


def test_unknown_capture_is_refused():
    with pytest.raises(ValueError, match=r"no array \['block'\]; there are: patch_embed, blocks"):
        apply(small_config(), make_params(small_config()), make_images(), capture=("block",))


def test_without_classes_the_representation_comes_out():
    cfg = small_config(num_classes=0)
    out, arrays = apply(cfg, make_params(cfg), make_images(), capture=("representation",))
    np.testing.assert_array_equal(out, arrays["representation"])
    assert out.shape == (4, 16)


@pytest.mark.parametrize("position", ["none", "learned", "sincos2d", "rotary"])
@pytest.mark.parametrize("pool", ["gap", "map"])
def test_only_positions_tell_patches_apart(position, pool):
    cfg = small_config(position=position, pool=pool)
    params, images = make_params(cfg), make_images()
    mixed = np.array(images)
    mixed[:, :4, :4], mixed[:, 4:, 4:8] = images[:, 4:, 4:8], images[:, :4, :4]
    difference = np.abs(apply(cfg, params, mixed) - apply(cfg, params, images)).max()
    assert difference < 1e-4 if position == "none" else difference > 1e-2


def test_cls_position_is_a_row_before_the_patches():
    cfg = small_config()
    params = make_params(cfg)
    # Added to cls itself the position does the same: so vision_transformer's checkpoints can be
    # read as big_vision's.
    moved = {
        **params,
        "cls": params["cls"] + params["pos_embed"][:1],
        "pos_embed": params["pos_embed"][1:],
    }
    without = apply(cfg.replace(cls_position=False), moved, make_images())
    np.testing.assert_allclose(without, apply(cfg, params, make_images()), atol=1e-5)


def test_norm_after_pool_normalises_the_mean_of_the_patches():
    cfg = small_config(pool="gap", norm_after_pool=True, num_registers=2)
    params = make_params(cfg)
    _, arrays = apply(cfg, params, make_images(), capture=("blocks", "tokens", "representation"))
    np.testing.assert_array_equal(arrays["tokens"], arrays["blocks"][-1])
    patches = arrays["tokens"][:, 2:]  # without the registers
    expected = make_model(cfg, params).norm(patches.mean(1))
    np.testing.assert_allclose(arrays["representation"], expected, atol=1e-5)


def test_xavier_initialisation():
    cfg = small_config(width=64, mlp_dim=128, head_init="zeros", head_bias=-6.9, image_size=64)
    params = init_params(cfg)
    assert not params["head"]["kernel"].any()
    np.testing.assert_array_equal(params["head"]["bias"], np.float32(-6.9))
    blocks = params["blocks"]
    for name in ("q", "k", "v", "out"):  # each by its own 64 x 64, not by a joint 64 x 192
        std = np.std(blocks["attn"][name]["kernel"], (1, 2))
        np.testing.assert_allclose(std, (2 / 128) ** 0.5, rtol=0.05)
    np.testing.assert_allclose(np.std(blocks["mlp"]["up"]["bias"]), 1e-6, rtol=0.2)
    np.testing.assert_allclose(np.std(params["patch_embed"]["kernel"]), 48**-0.5, rtol=0.05)
    np.testing.assert_allclose(np.std(params["pos_embed"]), 64**-0.5, rtol=0.05)
    layers = np.asarray(blocks["attn"]["q"]["kernel"])
    assert np.abs(layers[0] - layers[1]).max() > 0.1
    assert np.abs(layers[0] - np.asarray(blocks["attn"]["k"]["kernel"])[0]).max() > 0.1


def test_trunc_normal_initialisation():
    cfg = small_config(width=64, mlp_dim=128, init="trunc_normal", layer_scale=1e-4)
    params = init_params(cfg)
    kernels = (params["blocks"]["mlp"]["up"]["kernel"], params["head"]["kernel"])
    for kernel in (*kernels, params["blocks"]["attn"]["v"]["kernel"]):
        np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.1)
    assert not params["blocks"]["mlp"]["up"]["bias"].any()
    np.testing.assert_array_equal(params["blocks"]["mlp_scale"], np.float32(1e-4))
    patch = np.abs(params["patch_embed"]["kernel"])
    assert 0.9 * 48**-0.5 < patch.max() <= 48**-0.5


def test_a_config_must_be_filled_in():
    with pytest.raises(ValueError, match="num_classes of a ViTConfig must be filled in"):
        ViT(small_config(num_classes=None), rngs=nnx.Rngs(0))


def test_cls_gap_is_the_cls_token_and_the_mean_of_the_patches():
    cfg = small_config(pool="cls_gap", num_registers=2)
    params = make_params(cfg)
    logits, arrays = apply(cfg, params, make_images(), capture=("tokens", "representation"))
    tokens = arrays["tokens"]
    expected = jnp.concatenate([tokens[:, 0], tokens[:, 3:].mean(1)], 1)
    np.testing.assert_allclose(arrays["representation"], expected, atol=1e-5)
    head = params["head"]
    np.testing.assert_allclose(logits, expected @ head["kernel"] + head["bias"][None], atol=1e-4)


def test_a_distilled_model_gives_the_mean_of_its_two_heads():
    cfg = small_config(distilled=True, num_registers=1)
    params = make_params(cfg)
    logits, arrays = apply(cfg, params, make_images(), capture=("tokens", "representation"))
    tokens = arrays["tokens"]
    assert tokens.shape[1] == 1 + 1 + 1 + 6
    heads = [params[name] for name in ("head", "dist_head")]
    each = [tokens[:, i] @ head["kernel"] + head["bias"][None] for i, head in enumerate(heads)]
    np.testing.assert_allclose(logits, (each[0] + each[1]) / 2, atol=1e-4)
    np.testing.assert_allclose(arrays["representation"], tokens[:, :2].mean(1), atol=1e-5)
