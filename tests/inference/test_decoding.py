"""Writing on: the same tokens however they are computed, and drawn as asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.decoders import (
    GEMMA,
    GPT2,
    LLAMA,
    apply,
    make_model,
    make_params,
    make_tokens,
    small_config,
)
from zoo.config import UserError
from zoo.inference import decoding
from zoo.inference.decoding import GREEDY, Sampling, Writer, cast, sample

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
FREE = Sampling(temperature=1.5)


def make_writer(cfg, params, **options):
    graphdef, _ = nnx.split(make_model(cfg, params))
    return Writer(graphdef, **{"eos": (), "max_length": cfg.max_length, **options})


@pytest.fixture(scope="module")
def llama():
    cfg = small_config(**LLAMA)
    params = make_params(cfg)
    return cfg, params, make_writer(cfg, params)


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def write(writer, params, prompts=PROMPTS, *, max_tokens=7, sampling=GREEDY, keys=None):
    keys = keys_of(len(prompts)) if keys is None else keys
    return writer.write(params, prompts, max_tokens=max_tokens, keys=keys, sampling=sampling)


def without_cache(cfg, params, prompt, count):
    """Reads all of the row anew for every token; what follows the row does not matter."""
    tokens = np.zeros((1, len(prompt) + count), np.int32)
    tokens[0, : len(prompt)] = prompt
    for i in range(len(prompt), tokens.shape[1]):
        tokens[0, i] = np.argmax(apply(cfg, params, jnp.asarray(tokens))[0, i - 1])
    return tokens[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    "options", [GPT2, LLAMA, {**GEMMA, "tied": False}], ids=["gpt2", "llama", "gemma"]
)
def test_the_likeliest_tokens_are_those_without_a_cache(options):
    cfg = small_config(**options)
    params = make_params(cfg)
    found = write(make_writer(cfg, params), params)
    assert found == [without_cache(cfg, params, prompt, 7) for prompt in PROMPTS]


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(1.5, top_k=9, top_p=0.9)], ids=str)
def test_a_stream_gives_the_same_tokens(llama, sampling):
    cfg, params, endless = llama
    row = write(endless, params, sampling=sampling, max_tokens=9)[0]
    writer = make_writer(cfg, params, eos=(row[2],))
    whole = write(writer, params, sampling=sampling, max_tokens=9)
    assert len({len(row) for row in whole}) > 1  # they end at their own time
    columns = list(writer.stream(params, PROMPTS, max_tokens=9, keys=keys_of(3), sampling=sampling))
    assert [[c[i] for c in columns if c[i] is not None] for i in range(3)] == whole
    assert len(columns) == max(map(len, whole))


def test_a_row_ends_with_the_first_token_that_says_so(llama):
    cfg, params, endless = llama
    rows = write(endless, params, sampling=FREE, max_tokens=12)
    for eos in ((rows[0][2],), (rows[0][2], rows[1][4])):
        writer = make_writer(cfg, params, eos=eos)
        for row, cut in zip(rows, write(writer, params, sampling=FREE, max_tokens=12), strict=True):
            ends = [i + 1 for i, token in enumerate(row) if token in eos]
            assert cut == row[: min([*ends, 12])]


def test_a_row_depends_on_its_prompt_and_key_alone(llama):
    _, params, writer = llama
    together = write(writer, params, sampling=FREE)
    assert len(set(map(tuple, together))) == 3
    for i, prompt in enumerate(PROMPTS):
        alone = write(writer, params, [prompt], sampling=FREE, keys=keys_of(3)[i : i + 1])
        assert alone == together[i : i + 1]
    # Nor on how far it is padded, or how long it may become.
    longer = [*PROMPTS[:2], [1] * 70]
    wide = write(writer, params, longer, sampling=FREE, max_tokens=9)
    assert [row[:7] for row in wide[:2]] == together[:2]


def test_the_same_prompt_with_other_keys_goes_on_otherwise(llama):
    _, params, writer = llama
    rows = write(writer, params, PROMPTS[:1] * 8, sampling=FREE)
    assert len(set(map(tuple, rows))) == 8
    assert rows == write(writer, params, PROMPTS[:1] * 8, sampling=FREE)
    assert rows != write(writer, params, PROMPTS[:1] * 8, sampling=FREE, keys=keys_of(8, 1))


def test_prompts_of_one_bucket_share_a_program(llama):
    _, params, writer = llama
    write(writer, params)
    programs = (decoding._prefill, decoding._finish)
    before = [program._cache_size() for program in programs]
    write(writer, params, [[1] * 40, [2] * 64, [3]])
    assert [program._cache_size() for program in programs] == before
    write(writer, params, [[1] * 65, [2], [3]])
    assert [program._cache_size() for program in programs] == [count + 1 for count in before]


@pytest.mark.parametrize("options", [GPT2, GEMMA], ids=["gpt2", "gemma"])
def test_parameters_in_the_dtype_of_the_computation_give_the_same_numbers(options):
    cfg = small_config(**options, dtype="bfloat16")
    params = make_params(cfg)
    smaller = cast(params, cfg.dtype)
    assert smaller["blocks"]["mlp"]["up"]["kernel"].dtype == jnp.bfloat16
    tokens = make_tokens()
    np.testing.assert_array_equal(apply(cfg, smaller, tokens), apply(cfg, params, tokens))


def test_a_learned_table_is_used_to_its_end():
    cfg = small_config(**GPT2)
    params = make_params(cfg)
    assert cfg.max_length == 12
    found = write(make_writer(cfg, params), params, [[1, 2, 3, 4, 5], [6]], max_tokens=9)
    # Each row ends where it is full, whatever its neighbours have room for.
    assert found[0] == without_cache(cfg, params, [1, 2, 3, 4, 5], 7)
    assert found[1] == without_cache(cfg, params, [6], 9)
    with pytest.raises(UserError, match="a prompt has 12 tokens, and the model takes 12"):
        write(make_writer(cfg, params), params, [[1] * 12])


@pytest.mark.parametrize(
    ("prompts", "max_tokens", "message"),
    [([[1], []], 4, "a prompt is empty"), ([[1]], 0, "max_tokens 0 is not 1 or more")],
)
def test_impossible_prompts_are_refused(llama, prompts, max_tokens, message):
    _, params, writer = llama
    with pytest.raises(UserError, match=message):
        write(writer, params, prompts, max_tokens=max_tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_k": -1}, "top_k -1"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"top_p": 1.5}, "top_p 1.5"),
    ],
)
def test_impossible_ways_of_sampling_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Sampling(**options)


LOGITS = np.array([1.0, 3.0, -2.0, 2.5, 0.0, 2.0, 2.9], np.float32)


def reference(logits, sampling):
    """The probabilities that tokens are drawn with, by the definitions."""
    p = np.exp(logits.astype(np.float64) / sampling.temperature)
    p /= p.sum()
    order = np.argsort(-p)
    if sampling.top_k:
        p[order[sampling.top_k :]] = 0
        p /= p.sum()
    size = 1 + np.searchsorted(np.cumsum(p[order]), sampling.top_p - 1e-12)
    p[order[size:]] = 0
    return p / p.sum()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(top_k=3),
        Sampling(top_p=0.75),
        Sampling(temperature=2.0, top_k=5, top_p=0.8),
        Sampling(top_k=100, top_p=0.999),
    ],
    ids=str,
)
def test_tokens_are_drawn_with_the_probabilities_asked_for(sampling):
    count = 20_000
    logits = jnp.broadcast_to(jnp.asarray(LOGITS)[None], (count, len(LOGITS)))
    tokens = jax.jit(sample, static_argnums=2)(logits, keys_of(count), sampling)
    expected = reference(LOGITS, sampling)
    found = np.bincount(tokens, minlength=len(LOGITS)) / count
    np.testing.assert_array_equal(found[expected == 0], 0)
    error = np.sqrt(expected * (1 - expected) / count)
    np.testing.assert_array_less(np.abs(found - expected), 4 * error + 1e-9)


@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(top_k=1), Sampling(top_p=1e-6), Sampling(temperature=1e-4)]
)
def test_the_narrowest_choices_are_the_likeliest_token(sampling):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(50, 20)), jnp.float32)
    found = sample(logits, keys_of(50), sampling)
    np.testing.assert_array_equal(found, np.argmax(logits, -1))


def test_of_equal_logits_no_more_are_kept_than_asked_for():
    logits, keys = jnp.zeros((100, 8)), keys_of(100)
    assert set(np.asarray(sample(logits, keys, Sampling(top_k=1)))) == {0}
    assert set(np.asarray(sample(logits, keys, Sampling(top_k=2)))) == {0, 1}
    assert set(np.asarray(sample(logits, keys, Sampling(top_p=0.5)))) == {0, 1, 2, 3}


def test_the_widest_choices_are_all_tokens():
    logits, keys = jnp.asarray(LOGITS)[None].repeat(200, 0), keys_of(200)
    assert len(set(np.asarray(sample(logits, keys, Sampling(temperature=1e4))))) == len(LOGITS)
