"""The same random weights in Hugging Face's T5 and PyTorch's Transformer give the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.encdec_weights import to_t5, to_torch_stack, torch
from tests.models.encdecs import (
    T5,
    T5_1_1,
    apply,
    loss_and_grads,
    make_model,
    make_params,
    make_tokens,
    small_config,
)
from zoo.inference.beam_search import beam_search
from zoo.models.positions import relative_bucket

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]


def make_t5(cfg, params):
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=cfg.vocab_size,
        d_model=cfg.width,
        d_kv=cfg.head_size,
        d_ff=cfg.mlp_dim,
        num_layers=cfg.depth,
        num_decoder_layers=cfg.decoder_depth,
        num_heads=cfg.num_heads,
        feed_forward_proj="gated-gelu" if cfg.gated else "relu",
        tie_word_embeddings=cfg.tied,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    theirs = transformers.T5ForConditionalGeneration(config).eval()
    if not cfg.tied:  # transformers 5 ties them until weights that are not are loaded from a file
        theirs.lm_head.weight = torch.nn.Parameter(theirs.lm_head.weight.detach().clone())
    result = theirs.load_state_dict(to_t5(cfg, params), strict=False)
    assert not result.unexpected_keys
    # The same table under other names.
    tables = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    assert set(result.missing_keys) <= tables | ({"lm_head.weight"} if cfg.tied else set())
    return theirs


def compare(actual, expected, tolerance=1e-5):
    expected = expected.detach().numpy()
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max())


def padded(tokens, *lengths):
    """The tokens with 0 after so many of each row, and the segment that says so."""
    segment = (np.arange(tokens.shape[1])[None] < np.array(lengths)[:, None]).astype(np.int32)
    return tokens * segment, jnp.asarray(segment)


T5_CASES = pytest.mark.parametrize(
    "options",
    [T5, T5_1_1, {**T5, "decoder_depth": 3, "head_size": 6}],
    ids=["1.0", "1.1", "other sizes"],
)


@T5_CASES
def test_t5_has_hugging_faces_logits_loss_and_gradients(options):
    cfg = small_config(**options)
    params = make_params(cfg)
    theirs = make_t5(cfg, params)
    # Long enough for buckets of several distances.
    source, source_segment = padded(make_tokens(3, 50), 50, 21, 34)
    target, target_segment = padded(make_tokens(3, 40, seed=8), 40, 33, 5)
    target_in = jnp.pad(target[:, :-1], ((0, 0), (1, 0)))
    # Of theirs too only what is real is compared: padded targets have label -100, no loss.
    labels = np.where(target_segment == 1, target, -100)
    expected = theirs(
        input_ids=torch.tensor(np.asarray(source)).long(),
        attention_mask=torch.tensor(np.asarray(source_segment)),
        decoder_input_ids=torch.tensor(np.asarray(target_in)).long(),
        labels=torch.tensor(labels).long(),
    )
    expected.loss.backward()
    where = {"source_segment": source_segment, "target_segment": target_segment}
    logits = apply(cfg, params, source, target_in, **where)
    real = np.asarray(target_segment == 1)
    compare(logits[real], expected.logits[torch.tensor(real)])
    loss, grads = loss_and_grads(cfg, params, source, target_in, target, target_segment, **where)
    np.testing.assert_allclose(loss, expected.loss.detach(), rtol=1e-5)
    ours = to_t5(cfg, grads)
    for name, value in theirs.named_parameters():
        compare(ours[name].numpy(), value.grad, 1e-4)


@pytest.mark.parametrize("both_ways", [True, False])
def test_relative_buckets_are_hugging_faces(both_ways):
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    distance = np.arange(-1000, 1001)
    bucket = modeling.T5Attention._relative_position_bucket
    expected = bucket(torch.tensor(distance), bidirectional=both_ways)
    actual = relative_bucket(jnp.asarray(distance), both_ways=both_ways)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("norm_order", ["post", "pre"])
def test_vaswanis_is_pytorchs_transformer(norm_order):
    cfg = small_config(norm_order=norm_order, attention_bias=True)
    params = make_params(cfg)
    stacks = {}
    for stack, name in (("encoder", "Encoder"), ("decoder", "Decoder")):
        layer = getattr(torch.nn, f"Transformer{name}Layer")(
            cfg.width,
            cfg.num_heads,
            cfg.mlp_dim,
            dropout=0.0,
            layer_norm_eps=cfg.norm_epsilon,
            batch_first=True,
            norm_first=norm_order == "pre",
        )
        norm = torch.nn.LayerNorm(cfg.width, cfg.norm_epsilon) if norm_order == "pre" else None
        stacks[stack] = getattr(torch.nn, f"Transformer{name}")(layer, cfg.depth, norm=norm)
    theirs = torch.nn.Transformer(
        cfg.width, custom_encoder=stacks["encoder"], custom_decoder=stacks["decoder"],
        batch_first=True,
    )  # fmt: skip
    for stack, module in stacks.items():  # the constructor above has drawn parameters anew
        module.load_state_dict(to_torch_stack(params[stack]))
    source, source_segment = padded(make_tokens(3, 9), 9, 4, 6)
    target_in, target_segment = padded(make_tokens(3, 7, seed=8), 7, 7, 2)
    target = make_tokens(3, 7, seed=9)

    table = torch.tensor(np.asarray(params["token_embed"]["table"]), requires_grad=True)

    def embed(tokens):
        """Rows of the table times sqrt(D), and sines, then cosines, of 10,000^(-i / (D/2 - 1))."""
        half = cfg.width // 2
        angles = np.arange(tokens.shape[1])[:, None] * 1e4 ** (-np.arange(half) / (half - 1))
        places = np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)
        return table[torch.tensor(np.asarray(tokens)).long()] * cfg.width**0.5 + torch.tensor(
            places
        )

    padding = torch.tensor(np.asarray(source_segment == 0))
    hidden = theirs(
        embed(source),
        embed(target_in),
        tgt_mask=torch.nn.Transformer.generate_square_subsequent_mask(7) != 0,
        src_key_padding_mask=padding,
        tgt_key_padding_mask=torch.tensor(np.asarray(target_segment == 0)),
        memory_key_padding_mask=padding,
    )
    logits = hidden @ table.T
    real = np.asarray(target_segment == 1)
    expected = torch.nn.functional.cross_entropy(
        logits[torch.tensor(real)], torch.tensor(np.asarray(target)[real]).long()
    )
    expected.backward()
    where = {"source_segment": source_segment, "target_segment": target_segment}
    actual = apply(cfg, params, source, target_in, **where)
    compare(actual[real], logits[torch.tensor(real)])
    loss, grads = loss_and_grads(cfg, params, source, target_in, target, target_segment, **where)
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5)
    compare(grads["token_embed"]["table"], table.grad, 1e-4)
    for stack, module in stacks.items():
        ours = to_torch_stack(grads[stack])
        for name, value in module.named_parameters():
            compare(ours[name].numpy(), value.grad, 1e-4)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("beams", [1, 3])
def test_beams_are_hugging_faces(beams, length_penalty):
    """With early_stopping="never", the one exact rule of theirs, and their penalty n^p; they
    return log probabilities over that."""
    if beams == 1 and length_penalty:
        pytest.skip("with one beam theirs is greedy, whatever the penalty")
    cfg = small_config(**T5_1_1)
    params = make_params(cfg)
    kernel = params["head"]["kernel"]
    params["head"]["kernel"] = kernel.at[:, 1].multiply(2.0)  # some sequences end early
    theirs = make_t5(cfg, params)
    source, segment = padded(make_tokens(5, 9), 9, 4, 6, 7, 9)
    expected = theirs.generate(
        torch.tensor(np.asarray(source)).long(),
        attention_mask=torch.tensor(np.asarray(segment)),
        num_beams=beams,
        num_return_sequences=beams,
        early_stopping="never" if beams > 1 else False,
        length_penalty=length_penalty,
        max_new_tokens=12,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )

    @jax.jit
    def run(params):
        model = make_model(cfg, params)

        def decode(tokens, cache, index):
            hidden, cache = model.decode(tokens, cache, index)
            return model.logits(hidden), cache

        cache = model.init_cache(model.encode(source, segment=segment), segment, 12)
        return beam_search(
            decode,
            cache.repeat(beams),
            jnp.zeros(5, jnp.int32),
            beams=beams,
            max_length=12,
            eos=1,
            penalty=lambda length: length**length_penalty,
            reorder=lambda cache, row: cache.reorder(row),
        )

    found = run(params)
    sequences = expected.sequences[:, 1:].numpy()  # without the token it starts from
    actual = np.asarray(found.tokens).reshape(5 * beams, 12)
    lengths = np.asarray(found.length).reshape(-1)
    assert len(set(lengths)) > 1  # some end, some are cut
    for ours, length, theirs in zip(actual, lengths, sequences, strict=True):
        np.testing.assert_array_equal(ours[:length], theirs[:length])
        assert length == 12 or theirs[length - 1] == 1
    if beams > 1:
        score = expected.sequences_scores.numpy().reshape(5, beams)
        np.testing.assert_allclose(found.score, score, rtol=1e-4)
