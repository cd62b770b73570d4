"""Encoder-decoders: sizes, options, and that every way of running them agrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding

from tests.config.test_transformer import PARAMS, published
from tests.models.encdecs import (
    DROPPING,
    OPTIONS,
    T5,
    T5_1_1,
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
from zoo.config.schema import MeshConfig
from zoo.config.transformer import macs, num_params
from zoo.models.positions import relative_bucket
from zoo.models.transformer import Transformer
from zoo.sharding.mesh import make_mesh
from zoo.sharding.rules import batch_spec, param_shardings

FAMILIES = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def shapes(cfg):
    return nnx.state(nnx.eval_shape(lambda: Transformer(cfg, rngs=nnx.Rngs(0))))


def count(cfg):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(cfg)))


def make_pair(batch=4, source=9, target=7):
    return make_tokens(batch, source), make_tokens(batch, target, seed=8)


def other(tokens):
    """Another token in each place, none of them 0."""
    return tokens % (VOCAB - 1) + 1


@pytest.mark.parametrize("size", PARAMS)
def test_every_size_has_the_published_number_of_parameters(size):
    assert count(published(size)) == PARAMS[size]


@FAMILIES
def test_formulas_agree_with_the_model(options):
    cfg = small_config(**options)
    assert count(cfg) == num_params(cfg)
    model = make_model(cfg, make_params(cfg))
    jaxpr = jax.make_jaxpr(lambda s, t: model(s, t))(*make_pair(2, 9, 7))
    assert matmul_flops(jaxpr.jaxpr) == 2 * 2 * macs(cfg, 9, 7)


def test_parameter_paths_are_written_out():
    def paths(**options):
        return {"/".join(path) for path, _ in nnx.to_flat_state(shapes(small_config(**options)))}

    attention = ("q", "k", "v", "out")
    encoder = {f"attn/{name}/kernel" for name in attention}
    mlp = {f"mlp/{name}/{leaf}" for name in ("up", "down") for leaf in ("kernel", "bias")}
    norms = {f"{name}/{leaf}" for name in ("attn_norm", "mlp_norm") for leaf in ("scale", "bias")}
    encoder |= mlp | norms
    cross = {f"cross_attn/{name}/kernel" for name in attention}
    cross |= {"cross_norm/scale", "cross_norm/bias"}
    blocks = {f"encoder/blocks/{name}" for name in encoder}
    blocks |= {f"decoder/blocks/{name}" for name in encoder | cross}
    assert paths() == blocks | {"token_embed/table"}
    t5 = paths(**T5_1_1)
    assert {path for path in t5 if "blocks" not in path} == {
        "token_embed/table",
        "head/kernel",
        *(f"{s}/{n}" for s in ("encoder", "decoder") for n in ("relative", "norm/scale")),
    }
    assert "encoder/blocks/mlp/gate/kernel" in t5
    assert "target_embed/table" in paths(shared=False)


@FAMILIES
def test_no_target_token_sees_a_later_one_and_all_see_the_source(options):
    cfg = small_config(**options)
    params, (source, target) = make_params(cfg), make_pair()
    before = apply(cfg, params, source, target)
    after = apply(cfg, params, source, target.at[:, 4:].set(other(target[:, 4:])))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-2
    for place in (0, 8):
        changed = source.at[:, place].set(other(source[:, place]))
        difference = np.abs(apply(cfg, params, changed, target) - before)
        assert difference.max((0, 2)).min() > 1e-4


@FAMILIES
def test_packed_pairs_do_not_see_each_other(options):
    cfg = small_config(**options)
    params, (source, target) = make_params(cfg), make_pair(2, 9, 7)
    row = lambda *lengths: [n for n, length in enumerate(lengths, 1) for _ in range(length)]
    where = {
        "source_segment": jnp.asarray([row(5, 4)] * 2),
        "target_segment": jnp.asarray([row(3, 4)] * 2),
        "source_position": jnp.asarray([[*range(5), *range(4)]] * 2),
        "target_position": jnp.asarray([[*range(3), *range(4)]] * 2),
    }
    packed = apply(cfg, params, source, target, **where)
    # No bit of one changes with the other, which changing the first would do if it were seen.
    changed = (source.at[:, :5].set(other(source[:, :5])), target.at[:, :3].set(5))
    after = apply(cfg, params, *changed, **where)
    np.testing.assert_array_equal(packed[:, 3:], after[:, 3:])
    assert np.abs(packed[:, :3] - after[:, :3]).max() > 1e-2
    # And each is what it is alone.
    for s, t in ((slice(0, 5), slice(0, 3)), (slice(5, 9), slice(3, 7))):
        alone = apply(cfg, params, source[:, s], target[:, t])
        np.testing.assert_allclose(packed[:, t], alone, atol=1e-5)


@pytest.mark.parametrize("options", [{}, T5], ids=["vaswani", "t5"])
def test_padding_changes_nothing(options):
    cfg = small_config(**options)
    params, (source, target) = make_params(cfg), make_pair(2, 9, 7)
    alone = apply(cfg, params, source[:, :6], target[:, :5])
    segment = jnp.asarray([[1] * 6 + [0] * 3] * 2)
    targets = jnp.asarray([[1] * 5 + [0] * 2] * 2)
    padded = apply(cfg, params, source, target, source_segment=segment, target_segment=targets)
    np.testing.assert_allclose(padded[:, :5], alone, atol=1e-5)
    assert np.isfinite(padded).all()
    one_sided = apply(cfg, params, source, target[:, :5], source_segment=segment)
    np.testing.assert_allclose(one_sided, alone, atol=1e-5)


def test_sinusoids_tell_places_apart_and_follow_the_given_positions():
    cfg = small_config()
    params, (source, target) = make_params(cfg), make_pair(1)
    there = jnp.arange(9)[None]
    expected = apply(cfg, params, source, target)
    np.testing.assert_array_equal(
        apply(cfg, params, source, target, source_position=there), expected
    )
    moved = apply(cfg, params, source, target, source_position=there[:, ::-1])
    assert np.abs(moved - expected).max() > 1e-2


def test_relative_buckets():
    far = jnp.asarray([-500, -128, -127, -16, -15, -1, 0, 1, 7, 8, 127, 500])
    one_way = relative_bucket(far, both_ways=False)
    np.testing.assert_array_equal(one_way, [31, 31, 31, 16, 15, 1, 0, 0, 0, 0, 0, 0])
    both = relative_bucket(far, both_ways=True)
    np.testing.assert_array_equal(both, [15, 15, 15, 10, 9, 1, 0, 17, 23, 24, 31, 31])


def test_the_relative_table_of_a_stack_reaches_all_its_layers_and_no_other_stack():
    cfg = small_config(**T5)
    params, (source, target) = make_params(cfg), make_pair(1)
    encode = lambda params: make_model(cfg, params).encode(source)

    def raised(stack):
        table = params[stack]["relative"].at[17].add(2.0)  # keys one after the query, in an encoder
        return {**params, stack: {**params[stack], "relative": table}}

    assert np.abs(encode(raised("encoder")) - encode(params)).max() > 1e-2
    np.testing.assert_array_equal(encode(raised("decoder")), encode(params))
    # A decoder's bucket 17 is of 16 tokens and more back, which these rows do not have.
    decoded = apply(cfg, raised("decoder"), source, target)
    np.testing.assert_array_equal(decoded, apply(cfg, params, source, target))


@pytest.fixture(scope="module")
def reference():
    """Loss and gradients with dropout, unrolled, nothing recomputed."""
    cfg = small_config(**T5_1_1, **DROPPING, scan=False)
    params = make_params(cfg)
    return params, loss_and_grads(cfg, params, *make_batch(), keys=make_keys())


def make_batch(batch=4):
    return (*make_pair(batch), make_tokens(batch, 7, seed=9))


@pytest.mark.parametrize(
    ("scan", "remat"),
    [(True, "none"), (True, "attention"), (True, "dots"), (True, "full"), (False, "attention")],
)
def test_scan_and_remat_change_no_number(reference, scan, remat):
    params, (loss, grads) = reference
    cfg = small_config(**T5_1_1, **DROPPING, scan=scan, remat=remat)
    actual_loss, actual = loss_and_grads(cfg, params, *make_batch(), keys=make_keys())
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-6)
    for path, expected in jax.tree.leaves_with_path(grads):
        leaf = nested(actual, path)
        np.testing.assert_allclose(leaf, expected, atol=1e-6 * np.abs(expected).max() + 1e-6)


@pytest.fixture(scope="module")
def unsharded():
    cfg = small_config(**T5, vocab_size=16, shared=False)
    params = make_params(cfg)
    return cfg, params, loss_and_grads(cfg, params, *make_batch(8))


@pytest.mark.parametrize("sizes", [(8, 1, 1), (1, 2, 4)], ids=str)
def test_sharded_gradients_are_the_unsharded_ones(unsharded, sizes):
    cfg, params, (loss, grads) = unsharded
    mesh = make_mesh(MeshConfig(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]))
    shardings = nnx.to_pure_dict(param_shardings(shapes(cfg), mesh))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, shardings)
        rows = NamedSharding(mesh, batch_spec(mesh))
        actual_loss, actual = loss_and_grads(cfg, placed, *jax.device_put(make_batch(8), rows))
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * (1 + np.abs(b).max()))


def test_each_dropout_draws_from_the_examples_own_key():
    params, pair, keys = make_params(small_config()), make_pair(), make_keys()
    still = apply(small_config(), params, *pair, keys=keys)
    for name, rate in DROPPING.items():
        cfg = small_config(**{name: rate})
        logits = apply(cfg, params, *pair, keys=keys)
        assert np.abs(logits - still).max() > 1e-3, name
        np.testing.assert_array_equal(apply(cfg, params, *pair), still)
        order = np.array([2, 0, 3, 1])
        mixed = apply(cfg, params, *(tokens[order] for tokens in pair), keys=keys[order])
        np.testing.assert_allclose(mixed, logits[order], atol=1e-5)


@pytest.mark.parametrize("output_dropout", [True, False])
def test_output_dropout_drops_after_the_last_norm(output_dropout):
    cfg = small_config(**{**T5, "output_dropout": output_dropout, "dropout": 0.3})
    model = make_model(cfg, make_params(cfg))
    zeros = np.mean(model.encode(make_tokens(), keys=make_keys()) == 0)
    assert abs(zeros - 0.3) < 0.1 if output_dropout else zeros < 0.05


@pytest.mark.parametrize("options", [{}, T5_1_1], ids=["vaswani", "t5_1_1"])
def test_bfloat16_is_close_and_keeps_float32_where_it_matters(options):
    cfg = small_config(**options, dtype="bfloat16")
    params, pair = jax.tree.map(lambda x: x / 2, make_params(cfg)), make_pair()
    logits = apply(cfg, params, *pair)
    exact = apply(cfg.replace(dtype="float32"), params, *pair)
    hidden = jax.eval_shape(make_model(cfg, params).hidden, *pair)
    assert hidden.dtype == jnp.bfloat16
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(cfg))} == {jnp.dtype("float32")}
    assert 0 < np.abs(logits - exact).max() < 0.03 * np.abs(exact).max()


@pytest.mark.parametrize(
    "options", [*OPTIONS.values(), {**T5, "scan": False}], ids=[*OPTIONS, "unrolled"]
)
def test_decoding_token_by_token_gives_the_same_logits(options):
    cfg = small_config(**options)
    params, (source, target) = make_params(cfg), make_pair(3, 9, 7)
    # Sources of 9, 4 and 6 tokens; beginnings of 2, 4 and 1, padded with what does not go on.
    segment = (jnp.arange(9)[None] < jnp.asarray([[9], [4], [6]])).astype(jnp.int32)
    expected = apply(cfg, params, source, target, source_segment=segment)
    model = make_model(cfg, params)
    decode = jax.jit(model.decode)
    cache = model.init_cache(model.encode(source, segment=segment), segment, 7)
    length = jnp.asarray([2, 4, 1])
    prompt = jnp.where(jnp.arange(4)[None] < length[:, None], target[:, :4], 5)
    hidden, cache = decode(prompt, cache, jnp.broadcast_to(jnp.arange(4)[None], (3, 4)))
    logits = model.logits(hidden)
    for row, stop in enumerate([2, 4, 1]):
        np.testing.assert_allclose(logits[row, :stop], expected[row, :stop], atol=1e-5)
    for step in range(3):
        at = (length + step)[:, None]
        hidden, cache = decode(jnp.take_along_axis(target, at, 1), cache, at)
        actual = model.logits(hidden)[:, 0]
        np.testing.assert_allclose(actual, expected[jnp.arange(3), at[:, 0]], atol=1e-5)


def test_beams_of_a_cache_are_neighbours_and_can_change_places():
    cfg = small_config(**T5)
    model, source = make_model(cfg, make_params(cfg)), make_tokens(2, 9)
    segment = jnp.ones_like(source).at[1, 5:].set(0)
    cache = model.init_cache(model.encode(source, segment=segment), segment, 7).repeat(2)
    index = jnp.broadcast_to(jnp.arange(3)[None], (4, 3))
    first = make_tokens(4, 3, seed=3)
    _, cache = model.decode(first, cache, index)
    row, next_token = jnp.asarray([1, 1, 3, 2]), make_tokens(4, 1, seed=4)
    hidden, _ = model.decode(next_token, cache.reorder(row), jnp.full((4, 1), 3))
    whole = jnp.concatenate([first[row], next_token], 1)
    both = {"source_segment": jnp.repeat(segment, 2, 0)}
    expected = model(jnp.repeat(source, 2, 0), whole, **both)[:, -1]
    np.testing.assert_allclose(model.logits(hidden)[:, 0], expected, atol=1e-5)


def test_the_cache_is_in_the_dtype_of_the_computation():
    cfg = small_config(**T5, dtype="bfloat16")
    model = make_model(cfg, make_params(cfg))
    cache = model.init_cache(model.encode(make_tokens(2, 9)), None, 5)
    assert cache.own.k.shape == (2, 2, 5, 4, 4)
    assert cache.source[0].shape == (2, 2, 9, 4, 4)
    assert {x.dtype for x in jax.tree.leaves(cache)} == {jnp.dtype("bfloat16")}


LARGER = {"width": 64, "mlp_dim": 128, "vocab_size": 500}


def test_xavier_initialisation():
    params = init_params(small_config(**LARGER))
    np.testing.assert_allclose(np.std(params["token_embed"]["table"]), 1 / 8, rtol=0.05)
    up = params["decoder"]["blocks"]["mlp"]["up"]
    np.testing.assert_allclose(np.std(up["kernel"]), (2 / (64 + 128)) ** 0.5, rtol=0.05)
    np.testing.assert_allclose(np.std(up["bias"]), 1e-6, rtol=0.2)
    flax = init_params(small_config(**LARGER, embed_scale=False))
    np.testing.assert_allclose(np.std(flax["token_embed"]["table"]), 1.0, rtol=0.05)


def test_t5s_initialisation():
    cfg = small_config(**{**T5_1_1, **LARGER, "num_heads": 2, "head_size": 16})
    params = init_params(cfg)
    blocks = params["decoder"]["blocks"]
    for attention in (blocks["attn"], blocks["cross_attn"]):
        expected = {"q": (64 * 16) ** -0.5, "k": 1 / 8, "v": 1 / 8, "out": 32**-0.5}
        for name, std in expected.items():
            np.testing.assert_allclose(np.std(attention[name]["kernel"]), std, rtol=0.05)
    expected = {"gate": 1 / 8, "up": 1 / 8, "down": 128**-0.5}
    for name, std in expected.items():
        np.testing.assert_allclose(np.std(blocks["mlp"][name]["kernel"]), std, rtol=0.05)
    np.testing.assert_allclose(np.std(params["token_embed"]["table"]), 1.0, rtol=0.05)
    np.testing.assert_allclose(np.std(params["head"]["kernel"]), 1 / 8, rtol=0.05)
    np.testing.assert_allclose(np.std(params["encoder"]["relative"]), 1 / 8, rtol=0.2)


@pytest.mark.parametrize("options", [{}, T5, T5_1_1], ids=["vaswani", "t5", "t5_1_1"])
def test_a_fresh_model_knows_nothing(options):
    cfg = small_config(**{**LARGER, **options})
    loss, _ = loss_and_grads(cfg, init_params(cfg), *make_batch())
    assert abs(loss - np.log(500)) < 1.0


def test_a_config_must_be_filled_in():
    with pytest.raises(ValueError, match="vocab_size of a TransformerConfig must be filled in"):
        Transformer(small_config(vocab_size=None), rngs=nnx.Rngs(0))
