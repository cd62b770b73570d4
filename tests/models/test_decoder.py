"""Decoder-only models: sizes, options, and that every way of running them agrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding

from tests.config.test_decoder import PARAMS, published
from tests.models.decoders import (
    GEMMA,
    GPT2,
    LM1B,
    OPTIONS,
    VOCAB,
    apply,
    init_params,
    loss_and_grads,
    make_keys,
    make_model,
    make_params,
    make_tokens,
    small_config,
)
from tests.models.test_vit import matmul_flops, nested
from zoo.config.decoder import macs, num_params
from zoo.config.schema import MeshConfig
from zoo.models.decoder import Decoder
from zoo.sharding.mesh import make_mesh
from zoo.sharding.rules import batch_spec, param_shardings

FAMILIES = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def shapes(cfg):
    return nnx.state(nnx.eval_shape(lambda: Decoder(cfg, rngs=nnx.Rngs(0))))


def count(cfg):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(cfg)))


@pytest.mark.parametrize("size", PARAMS)
def test_every_size_has_the_published_number_of_parameters(size):
    assert count(published(size)) == PARAMS[size]


@FAMILIES
def test_formulas_agree_with_the_model(options):
    cfg = small_config(**options)
    assert count(cfg) == num_params(cfg)
    jaxpr = jax.make_jaxpr(lambda x: make_model(cfg, make_params(cfg))(x))(make_tokens(2, 9))
    assert matmul_flops(jaxpr.jaxpr) == 2 * 2 * macs(cfg, 9)


def test_parameter_paths_are_written_out():
    def paths(**options):
        return {"/".join(path) for path, _ in nnx.to_flat_state(shapes(small_config(**options)))}

    dense = ("attn/q", "attn/k", "attn/v", "attn/out", "mlp/up", "mlp/down")
    gpt2 = {f"blocks/{name}/{leaf}" for name in dense for leaf in ("kernel", "bias")}
    norms = ("blocks/attn_norm", "blocks/mlp_norm", "norm")
    gpt2 |= {f"{name}/{leaf}" for name in norms for leaf in ("scale", "bias")}
    assert paths(**GPT2) == gpt2 | {"token_embed/table", "pos_embed"}
    gemma = {f"blocks/{name}/kernel" for name in (*dense, "mlp/gate")}
    more = ("attn/q_norm", "attn/k_norm", "attn_post_norm", "mlp_post_norm")
    gemma |= {f"{name}/scale" for name in (*norms, *(f"blocks/{name}" for name in more))}
    assert paths(**GEMMA) == gemma | {"token_embed/table"}
    assert {path for path in paths(**LM1B) if "head" in path} == {"head/kernel", "head/bias"}


@FAMILIES
def test_no_token_sees_a_later_one(options):
    cfg = small_config(**options)
    params, tokens = make_params(cfg), make_tokens()
    changed = tokens.at[:, 6:].set((tokens[:, 6:] + 1) % VOCAB)
    before, after = apply(cfg, params, tokens), apply(cfg, params, changed)
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert np.abs(before[:, 6:] - after[:, 6:]).max() > 1e-2


@FAMILIES
def test_packed_documents_do_not_see_each_other(options):
    cfg = small_config(**options)
    params, tokens = make_params(cfg), make_tokens(2, 10)
    segment = jnp.asarray([[1] * 4 + [2] * 6] * 2)
    position = jnp.asarray([[*range(4), *range(6)]] * 2)
    packed = apply(cfg, params, tokens, segment=segment, position=position)
    # No bit of one changes with the other, which changing the first would do if it were seen.
    changed = tokens.at[:, :4].set((tokens[:, :4] + 1) % VOCAB)
    other = apply(cfg, params, changed, segment=segment, position=position)
    np.testing.assert_array_equal(packed[:, 4:], other[:, 4:])
    assert np.abs(packed[:, :4] - other[:, :4]).max() > 1e-2
    # And each is what it is alone.
    for start, stop in ((0, 4), (4, 10)):
        alone = apply(cfg, params, tokens[:, start:stop])
        np.testing.assert_allclose(packed[:, start:stop], alone, atol=1e-5)


def test_padding_changes_nothing():
    cfg = small_config(**GEMMA)
    params, tokens = make_params(cfg), make_tokens(2, 8)
    segment = jnp.asarray([[1] * 5 + [0] * 3] * 2)
    padded = apply(cfg, params, tokens, segment=segment)
    np.testing.assert_allclose(padded[:, :5], apply(cfg, params, tokens[:, :5]), atol=1e-5)
    assert np.isfinite(padded).all()


def test_a_local_layer_sees_its_window_only():
    cfg = small_config(depth=1, window=3, position="none")
    params, tokens = make_params(cfg), make_tokens(1, 8)
    logits = apply(cfg, params, tokens)
    np.testing.assert_allclose(logits[:, -1], apply(cfg, params, tokens[:, -3:])[:, -1], atol=1e-5)
    beyond = np.abs(logits[:, -1] - apply(cfg, params, tokens[:, -2:])[:, -1]).max()
    assert beyond > 1e-3
    # The second layer is global and sees all.
    wider = small_config(depth=2, window=3, global_every=2, position="none")
    params = make_params(wider)
    changed = tokens.at[:, 0].set((tokens[:, 0] + 1) % VOCAB)
    difference = apply(wider, params, tokens) - apply(wider, params, changed)
    assert np.abs(difference[:, -1]).max() > 1e-4


def test_rope_sees_distances_alone():
    cfg = small_config(**GEMMA)
    params, tokens = make_params(cfg), make_tokens()
    moved = jnp.broadcast_to(jnp.arange(10)[None] + 1000, tokens.shape)
    actual = apply(cfg, params, tokens, position=moved)
    np.testing.assert_allclose(actual, apply(cfg, params, tokens), atol=1e-3)
    stretched = jnp.broadcast_to(jnp.arange(10)[None] * 2, tokens.shape)
    other = apply(cfg, params, tokens, position=stretched)
    assert np.abs(other - apply(cfg, params, tokens)).max() > 1e-2


def test_a_row_longer_than_the_learned_positions_is_refused():
    cfg = small_config(**GPT2)
    with pytest.raises(ValueError, match="13 tokens are more than the 12 learned positions"):
        apply(cfg, make_params(cfg), make_tokens(1, 13))
    with pytest.raises(ValueError, match="13 tokens are more than the 12 learned positions"):
        make_model(cfg, make_params(cfg)).init_cache(1, 13)


@pytest.fixture(scope="module")
def reference():
    """Loss and gradients with dropout, unrolled, nothing recomputed."""
    cfg = small_config(**GEMMA, **DROPPING, scan=False)
    params = make_params(cfg)
    return params, loss_and_grads(cfg, params, make_tokens(), make_keys())


DROPPING = {"dropout": 0.1, "attention_dropout": 0.2, "mlp_dropout": 0.3}


@pytest.mark.parametrize(
    ("scan", "remat"),
    [(True, "none"), (True, "attention"), (True, "dots"), (True, "full"), (False, "attention")],
)
def test_scan_and_remat_change_no_number(reference, scan, remat):
    params, (loss, grads) = reference
    cfg = small_config(**GEMMA, **DROPPING, scan=scan, remat=remat)
    actual_loss, actual = loss_and_grads(cfg, params, make_tokens(), make_keys())
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-6)
    for path, expected in jax.tree.leaves_with_path(grads):
        leaf = nested(actual, path)
        np.testing.assert_allclose(leaf, expected, atol=1e-6 * np.abs(expected).max() + 1e-6)


@pytest.fixture(scope="module")
def unsharded():
    cfg = small_config(**{**GEMMA, "num_kv_heads": 2, "vocab_size": 16}, tied=False)
    params = make_params(cfg)
    return cfg, params, loss_and_grads(cfg, params, make_tokens(8))


@pytest.mark.parametrize("sizes", [(8, 1, 1), (1, 2, 4)], ids=str)
def test_sharded_gradients_are_the_unsharded_ones(unsharded, sizes):
    cfg, params, (loss, grads) = unsharded
    mesh = make_mesh(MeshConfig(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]))
    shardings = nnx.to_pure_dict(param_shardings(shapes(cfg), mesh))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, shardings)
        rows = NamedSharding(mesh, batch_spec(mesh))
        actual_loss, actual = loss_and_grads(cfg, placed, jax.device_put(make_tokens(8), rows))
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * (1 + np.abs(b).max()))


def test_each_dropout_draws_from_the_examples_own_key():
    params, tokens, keys = make_params(small_config()), make_tokens(), make_keys()
    still = apply(small_config(), params, tokens, keys=keys)
    for name, rate in DROPPING.items():
        cfg = small_config(**{name: rate})
        logits = apply(cfg, params, tokens, keys=keys)
        assert np.abs(logits - still).max() > 1e-3, name
        np.testing.assert_array_equal(apply(cfg, params, tokens), still)
        order = np.array([2, 0, 3, 1])
        mixed = apply(cfg, params, tokens[order], keys=keys[order])
        np.testing.assert_allclose(mixed, logits[order], atol=1e-5)


@pytest.mark.parametrize("options", [GPT2, GEMMA], ids=["gpt2", "gemma"])
def test_bfloat16_is_close_and_keeps_float32_where_it_matters(options):
    cfg = small_config(**options, dtype="bfloat16")
    params = jax.tree.map(lambda x: x / 2, make_params(cfg))
    logits = apply(cfg, params, make_tokens())
    exact = apply(cfg.replace(dtype="float32"), params, make_tokens())
    hidden = jax.eval_shape(make_model(cfg, params).hidden, make_tokens())
    assert hidden.dtype == jnp.bfloat16
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(cfg))} == {jnp.dtype("float32")}
    assert 0 < np.abs(logits - exact).max() < 0.03 * np.abs(exact).max()


@pytest.mark.parametrize(
    "options", [*OPTIONS.values(), {**GEMMA, "scan": False}], ids=[*OPTIONS, "unrolled"]
)
def test_decoding_token_by_token_gives_the_same_logits(options):
    cfg = small_config(**options)
    params, tokens = make_params(cfg), make_tokens(3, 10)
    expected = apply(cfg, params, tokens)
    model = make_model(cfg, params)
    decode = jax.jit(model.decode)
    # Prompts of 3, 5 and 1 tokens, padded with what they do not go on with.
    length = jnp.asarray([3, 5, 1])
    inside = jnp.arange(5)[None] < length[:, None]
    prompt = jnp.where(inside, tokens[:, :5], (tokens[:, :5] + 1) % VOCAB)
    index = jnp.broadcast_to(jnp.arange(5)[None], (3, 5))
    hidden, cache = decode(prompt, model.init_cache(3, 10), index)
    logits = model.logits(hidden)
    for row, stop in enumerate([3, 5, 1]):
        np.testing.assert_allclose(logits[row, :stop], expected[row, :stop], atol=1e-5)
    for step in range(5):
        at = (length + step)[:, None]
        hidden, cache = decode(jnp.take_along_axis(tokens, at, 1), cache, at)
        actual = model.logits(hidden)[:, 0]
        np.testing.assert_allclose(actual, expected[jnp.arange(3), at[:, 0]], atol=1e-5)


def test_what_lies_beyond_the_cache_is_not_kept():
    cfg = small_config()
    model, tokens = make_model(cfg, make_params(cfg)), make_tokens(1, 3)
    _, cache = model.decode(tokens, model.init_cache(1, 2), jnp.arange(3)[None])
    _, whole = model.decode(tokens[:, :2], model.init_cache(1, 2), jnp.arange(2)[None])
    np.testing.assert_array_equal(cache.k, whole.k)
    np.testing.assert_array_equal(cache.v, whole.v)


def test_the_cache_holds_grouped_heads_in_the_dtype_of_the_computation():
    cfg = small_config(**GEMMA, dtype="bfloat16")
    cache = make_model(cfg, make_params(cfg)).init_cache(2, 5)
    assert cache.k.shape == cache.v.shape == (2, 2, 5, 1, 6)
    assert cache.k.dtype == jnp.bfloat16


def test_normal_initialisation():
    cfg = small_config(**{**GPT2, "width": 64, "mlp_dim": 128, "vocab_size": 500})
    params = init_params(cfg)
    blocks = params["blocks"]
    for name in ("q", "k", "v"):
        np.testing.assert_allclose(np.std(blocks["attn"][name]["kernel"]), 0.02, rtol=0.05)
    for kernel in (blocks["attn"]["out"]["kernel"], blocks["mlp"]["down"]["kernel"]):
        np.testing.assert_allclose(np.std(kernel), 0.02 / 4**0.5, rtol=0.05)
    np.testing.assert_allclose(np.std(params["token_embed"]["table"]), 0.02, rtol=0.05)
    np.testing.assert_allclose(np.std(params["pos_embed"]), 0.02, rtol=0.1)
    assert not blocks["mlp"]["up"]["bias"].any()
    # So the loss starts near that of knowing nothing.
    loss, _ = loss_and_grads(cfg, params, make_tokens())
    np.testing.assert_allclose(loss, np.log(500), atol=0.2)


def test_xavier_initialisation():
    params = init_params(small_config(**{**LM1B, "width": 64, "mlp_dim": 128, "vocab_size": 500}))
    np.testing.assert_allclose(np.std(params["token_embed"]["table"]), 1.0, rtol=0.05)
    up, head = params["blocks"]["mlp"]["up"], params["head"]
    np.testing.assert_allclose(np.std(up["kernel"]), (2 / (64 + 128)) ** 0.5, rtol=0.05)
    np.testing.assert_allclose(np.std(head["kernel"]), (2 / (64 + 500)) ** 0.5, rtol=0.05)
    np.testing.assert_allclose(np.std(up["bias"]), 1e-6, rtol=0.2)


def test_gemmas_norms_start_from_zero():
    params = init_params(small_config(**GEMMA))
    assert not params["norm"]["scale"].any()
    assert not params["blocks"]["attn"]["q_norm"]["scale"].any()


@pytest.mark.parametrize("missing", ["vocab_size", "max_length"])
def test_a_config_must_be_filled_in(missing):
    with pytest.raises(ValueError, match="of a DecoderConfig must be filled in"):
        Decoder(small_config(**{**GPT2, missing: None}), rngs=nnx.Rngs(0))
