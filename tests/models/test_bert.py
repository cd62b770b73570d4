"""BERT: sizes, heads, who sees whom, and that every way of running it gives the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params
from jax.sharding import NamedSharding

from tests.config.test_bert import PARAMS, UNCASED
from tests.models.berts import (
    OPTIONS,
    apply,
    assert_same_grads,
    loss_and_grads,
    make_batch,
    make_keys,
    make_model,
    make_params,
    run_head,
    shapes,
    small_config,
)
from tests.models.test_vit import matmul_flops
from zoo.config.bert import BertConfig, macs, num_params
from zoo.config.schema import MeshConfig
from zoo.models.attention import Mask
from zoo.models.bert import Bert
from zoo.models.layers import dropout, fold_in
from zoo.sharding.mesh import make_mesh
from zoo.sharding.rules import batch_spec, param_shardings


def count(cfg):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(cfg)))


@pytest.mark.parametrize("size", PARAMS)
def test_every_size_has_the_published_number_of_parameters(size):
    cfg = BertConfig(size=size, vocab_size=UNCASED)
    encoder, _, total = PARAMS[size]
    assert (count(cfg.replace(head="none")), count(cfg)) == (encoder, total)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_formulas_agree_with_the_model(options):
    cfg = small_config(**options)
    assert count(cfg) == num_params(cfg)
    params, batch = make_params(cfg), make_batch(2)
    jaxpr = jax.make_jaxpr(lambda batch: run_head(cfg, params, batch))(batch)
    assert matmul_flops(jaxpr.jaxpr) == 2 * 2 * macs(cfg, 8, 3)


def test_parameter_paths_are_written_out():
    def paths(**changes):
        return {"/".join(path) for path, _ in nnx.to_flat_state(shapes(small_config(**changes)))}

    def dense(*names):
        return {f"{name}/{leaf}" for name in names for leaf in ("kernel", "bias")}

    def norm(*names):
        return {f"{name}/{leaf}" for name in names for leaf in ("scale", "bias")}

    attention = (f"blocks/attn/{name}" for name in ("q", "k", "v", "out"))
    encoder = {"token_embed/table", "pos_embed", "type_embed"}
    encoder |= dense(*attention, "blocks/mlp/up", "blocks/mlp/down")
    encoder |= norm("embed_norm", "blocks/attn_norm", "blocks/mlp_norm")
    masked_lm = {*dense("masked_lm/dense"), *norm("masked_lm/norm"), "masked_lm/bias"}
    assert paths(head="none") == encoder
    assert paths(head="masked_lm") == encoder | masked_lm
    assert paths() == encoder | masked_lm | dense("pooler", "next_sentence")
    assert paths(head="classification") == encoder | dense("pooler", "head")
    assert paths(head="token_classification") == encoder | dense("head")
    assert paths(head="question_answering") == encoder | dense("head")
    assert paths(head="none", num_types=0) == encoder - {"type_embed"}


@pytest.fixture(scope="module")
def reference():
    """Loss and gradients with dropout, unrolled, nothing recomputed."""
    cfg = small_config(scan=False)
    params = make_params(cfg)
    return params, loss_and_grads(cfg, params, make_batch(), make_keys())


@pytest.mark.parametrize(
    ("scan", "remat"),
    [(True, "none"), (True, "attention"), (True, "dots"), (True, "full"), (False, "attention")],
)
def test_scan_and_remat_change_no_number(reference, scan, remat):
    params, (loss, grads) = reference
    cfg = small_config(scan=scan, remat=remat)
    actual_loss, actual = loss_and_grads(cfg, params, make_batch(), make_keys())
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-5)
    assert_same_grads(actual, grads, 1e-5)


def test_sharded_gradients_are_the_unsharded_ones():
    cfg = small_config(num_heads=4, vocab_size=32)
    params, batch, keys = make_params(cfg), make_batch(8), make_keys(8)
    loss, grads = loss_and_grads(cfg, params, batch, keys)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    shardings = nnx.to_pure_dict(param_shardings(shapes(cfg), mesh))
    rows = NamedSharding(mesh, batch_spec(mesh))
    with jax.set_mesh(mesh):
        actual_loss, actual = loss_and_grads(
            cfg,
            jax.device_put(params, shardings),
            jax.device_put(batch, rows),
            jax.device_put(keys, rows),
        )
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-5)
    assert_same_grads(actual, grads, 1e-5)


def hidden(cfg, tokens, **options):
    params = make_params(cfg)
    run = jax.jit(lambda tokens, options: make_model(cfg, params).hidden(tokens, **options))
    return np.asarray(run(tokens, options))


ENCODER = small_config(head="none")


def test_tokens_see_both_ways():
    tokens = make_batch(2)["tokens"]
    before = hidden(ENCODER, tokens)
    for changed in (0, 7):
        other = tokens.at[:, changed].add(1)
        assert (np.abs(hidden(ENCODER, other) - before).max(-1) > 1e-3).all()


def test_padding_changes_nothing():
    tokens = make_batch(2)["tokens"]
    alone = hidden(ENCODER, tokens)
    padded = jnp.pad(tokens, ((0, 0), (0, 3)))
    segment = jnp.pad(jnp.ones_like(tokens), ((0, 0), (0, 3)))
    actual = hidden(ENCODER, padded, segment=segment)[:, :8]
    np.testing.assert_allclose(actual, alone, atol=1e-5)
    # What stands there does not matter to a bit.
    other = hidden(ENCODER, padded.at[:, 8:].set(7), segment=segment)[:, :8]
    np.testing.assert_array_equal(other, actual)


def test_packed_documents_do_not_see_each_other():
    tokens = make_batch(2)["tokens"]
    segment = jnp.broadcast_to(jnp.array([1, 1, 1, 2, 2, 2, 2, 2]), (2, 8))
    position = jnp.broadcast_to(jnp.array([0, 1, 2, 0, 1, 2, 3, 4]), (2, 8))
    packed = hidden(ENCODER, tokens, segment=segment, position=position)
    np.testing.assert_allclose(packed[:, :3], hidden(ENCODER, tokens[:, :3]), atol=1e-5)
    np.testing.assert_allclose(packed[:, 3:], hidden(ENCODER, tokens[:, 3:]), atol=1e-5)
    other = tokens.at[:, :3].set(9)
    changed = hidden(ENCODER, other, segment=segment, position=position)
    np.testing.assert_array_equal(changed[:, 3:], packed[:, 3:])
    assert np.abs(changed[:, :3] - packed[:, :3]).max() > 0.1


def test_the_order_of_tokens_matters_by_their_positions_alone():
    tokens = make_batch(2)["tokens"]
    order = jnp.array([3, 1, 0, 2, 7, 6, 5, 4])
    position = jnp.broadcast_to(order, (2, 8))
    moved = hidden(ENCODER, tokens[:, order], position=position)
    np.testing.assert_allclose(moved, hidden(ENCODER, tokens)[:, order], atol=1e-5)
    assert np.abs(hidden(ENCODER, tokens[:, order]) - moved).max() > 0.1


def test_types_choose_rows_of_their_table():
    cfg = small_config(head="none", num_types=3)
    params, tokens = make_params(cfg), make_batch(2)["tokens"]
    types = jnp.broadcast_to(jnp.array([0, 1, 2, 2, 1, 0, 1, 2]), (2, 8))
    rows = jnp.take(params["type_embed"], types, axis=0)
    expected = params["token_embed"]["table"][tokens] + params["pos_embed"][None, :8] + rows
    model = make_model(cfg, params)
    np.testing.assert_allclose(
        model._embed(tokens, types, None), model.embed_norm(expected), atol=1e-6
    )
    zeros = hidden(cfg, tokens, type=jnp.zeros_like(tokens))
    np.testing.assert_allclose(hidden(cfg, tokens), zeros, atol=1e-5)
    one = small_config(head="none", num_types=1)
    np.testing.assert_array_equal(hidden(one, tokens, type=types), hidden(one, tokens))


def test_rows_longer_than_the_positions_are_refused():
    with pytest.raises(ValueError, match="13 tokens are more than max_length 12"):
        hidden(ENCODER, jnp.ones((1, 13), jnp.int32))


def test_masked_tokens_are_gathered_before_the_vocabulary():
    cfg, batch = small_config(head="masked_lm"), make_batch()
    params = make_params(cfg)
    model = make_model(cfg, params)
    x = model.hidden(batch["tokens"], segment=batch["segment"])
    every = model.logits(model.masked_hidden(x))
    some = model.logits(model.masked_hidden(x, batch["masked_positions"]))
    assert every.shape == (4, 8, 30)
    expected = jnp.take_along_axis(every, batch["masked_positions"][..., None], 1)
    np.testing.assert_allclose(some, expected, atol=1e-5)
    # The output layer is the embedding's table: a vector like a token's own scores it highest.
    table = params["token_embed"]["table"]
    scores = model.logits(100 * table) - params["masked_lm"]["bias"][None]
    np.testing.assert_allclose(scores, 100 * table @ table.T, rtol=1e-4)


def test_randomness_depends_on_an_example_and_its_key_alone():
    cfg = small_config(head="classification", dropout=0.2)
    params, batch, keys = make_params(cfg), make_batch(), make_keys()
    logits = apply(cfg, params, batch, keys)["class"]
    order = np.array([2, 0, 3, 1])
    mixed = apply(cfg, params, jax.tree.map(lambda x: x[order], batch), keys[order])["class"]
    np.testing.assert_allclose(mixed, logits[order], atol=1e-5)
    same = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), batch)
    drawn = np.asarray(apply(cfg, params, same, keys)["class"])
    assert len(np.unique(drawn.round(4), axis=0)) == 4


def draws_in(jaxpr) -> int:
    """How often a program asks for random bits."""
    own = sum(eqn.primitive.name == "random_bits" for eqn in jaxpr.eqns)
    return own + sum(draws_in(sub) for eqn in jaxpr.eqns for sub in jaxprs_in_params(eqn.params))


def test_without_keys_or_rates_nothing_is_drawn():
    def draws(keys, **rates):
        cfg = small_config(head="classification", **rates)
        params = make_params(cfg)
        run = lambda batch, keys: run_head(cfg, params, batch, keys)
        return draws_in(jax.make_jaxpr(run)(make_batch(), keys).jaxpr)

    # Scanned, the layers draw in one place: embeddings, two branches, the head.
    assert draws(make_keys(), dropout=0.1, attention_dropout=0.0) == 4
    assert draws(make_keys(), dropout=0.0, attention_dropout=0.1) == 1
    assert draws(make_keys(), dropout=0.1, attention_dropout=0.1) == 5
    assert not draws(None)
    assert not draws(make_keys(), dropout=0.0, attention_dropout=0.0)


def test_layers_draw_for_themselves():
    cfg = small_config(head="none", dropout=0.5, attention_dropout=0.5)
    params, batch, keys = make_params(cfg), make_batch(), make_keys()
    model = make_model(cfg, params)
    mask = Mask(q_segment=batch["segment"], kv_segment=batch["segment"])
    embedded = model._embed(batch["tokens"], batch["type"], None)

    def run(numbers):
        x = dropout(embedded, fold_in(keys, cfg.depth), cfg.dropout)
        for i, number in enumerate(numbers):
            layer = jax.tree.map(lambda p, i=i: p[i], model.blocks)
            x = layer(x, mask=mask, keys=fold_in(keys, number))
        return x

    found = apply(cfg, params, batch, keys)["hidden"]
    np.testing.assert_allclose(found, run([0, 1]), atol=1e-5)
    assert np.abs(found - run([0, 0])).max() > 0.1


def test_bfloat16_is_close_and_keeps_float32_where_it_matters():
    cfg = small_config(dtype="bfloat16")
    params = jax.tree.map(lambda x: x / 2, make_params(cfg))
    outputs = apply(cfg, params, make_batch())
    exact = apply(cfg.replace(dtype="float32"), params, make_batch())
    assert outputs["hidden"].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(cfg))} == {jnp.dtype("float32")}
    for name in ("masked", "next_sentence"):
        assert outputs[name].dtype == jnp.float32
        error = np.abs(outputs[name] - exact[name]).max()
        assert 0 < error < 0.03 * np.abs(exact[name]).max()


def test_initialisation():
    cfg = small_config(width=64, mlp_dim=128, vocab_size=500)
    params = jax.jit(lambda: nnx.to_pure_dict(nnx.state(Bert(cfg, rngs=nnx.Rngs(0)))))()
    for path, value in jax.tree.leaves_with_path(params):
        leaf = path[-1].key
        if leaf in ("scale", "bias"):
            np.testing.assert_array_equal(value, 1.0 if leaf == "scale" else 0.0)
        else:
            # N(0, 0.02^2) cut at 0.04 has a standard deviation of 0.02 x 0.8796.
            assert np.abs(value).max() <= 0.04
            if value.size > 1000:
                np.testing.assert_allclose(np.std(value), 0.017592, rtol=0.05)


@pytest.mark.parametrize("changes", [{"vocab_size": None}, {"head": "classification"}])
def test_a_config_must_be_filled_in(changes):
    cfg = BertConfig(size="tiny", **{"vocab_size": 30, **changes})
    with pytest.raises(ValueError, match="vocab_size and num_classes of a BertConfig"):
        Bert(cfg, rngs=nnx.Rngs(0))
