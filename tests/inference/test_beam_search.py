"""Beam search against all sequences that there are, and against a plain search without arrays."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.inference.beam_search import beam_search, wu_penalty

VOCAB, LENGTH, EOS, FIRST = 3, 4, 2, 0
ALPHAS = (0.0, 0.6, 1.0, 3.0)


def make_tables(examples=3, vocab=VOCAB, seed=0):
    """For each example a logit of every token after every two tokens: [B, V + 1, V + 1, V]."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1.5, (examples, vocab + 1, vocab + 1, vocab)).astype(np.float32)


def search(tables, *, beams, alpha, length=LENGTH, **options):
    """A toy model: its cache is the example and the token before the last."""
    B, V = tables.shape[0], tables.shape[-1]

    def decode(tokens, cache, index):
        example, before, seen = cache
        logits = jnp.asarray(tables)[example, before, tokens[:, 0]]
        seen = seen.at[jnp.arange(B * beams), index[:, 0]].set(tokens[:, 0])
        return logits[:, None], (example, tokens[:, 0], seen)

    def reorder(cache, row):
        example, before, seen = cache
        return example[row], before[row], seen[row]

    rows = B * beams
    cache = (jnp.repeat(jnp.arange(B), beams), jnp.full(rows, V), jnp.zeros((rows, length), int))
    run = functools.partial(
        beam_search,
        decode,
        beams=beams,
        max_length=length,
        eos=EOS,
        penalty=wu_penalty(alpha),
        reorder=reorder,
        **options,
    )
    return jax.tree.map(np.asarray, jax.jit(run)(cache, jnp.full(B, FIRST)))


def log_probs(table, tokens):
    """log p of the token after these."""
    *_, before, last = (table.shape[-1], FIRST, *tokens)
    logits = table[before, last].astype(np.float64)
    return logits - np.log(np.exp(logits).sum())


def score(table, tokens, alpha):
    total = sum(log_probs(table, tokens[:i])[token] for i, token in enumerate(tokens))
    return total / ((5 + len(tokens)) / 6) ** alpha


def all_sequences():
    for n in range(1, LENGTH + 1):
        for tokens in itertools.product(range(VOCAB), repeat=n):
            ended = tokens[-1] == EOS
            if EOS not in tokens[:-1] and (ended or n == LENGTH):
                yield tokens


def plain_search(table, *, beams, alpha, length):
    """The search in words: no batch, no early stop, lists instead of arrays."""
    alive, done = [((), 0.0)], []
    for n in range(1, length + 1):
        grown = [
            ((*tokens, token), total + more)
            for tokens, total in alive
            for token, more in enumerate(log_probs(table, tokens))
        ]
        grown.sort(key=lambda one: -one[1])
        ended = [tokens[-1] == EOS or n == length for tokens, _ in grown]
        pairs = list(zip(grown, ended, strict=True))
        done += [tokens for (tokens, _), end in pairs[:beams] if end]
        alive = [one for one, end in pairs if not end][:beams]
    done = [(score(table, tokens, alpha), tokens) for tokens in done]
    return sorted(done, reverse=True)[:beams]


def sequences(found, example):
    """The sequences of an example as tuples, the best first."""
    kept = zip(found.tokens[example], found.length[example], found.score[example], strict=True)
    return [tuple(map(int, tokens[:n])) for tokens, n, score in kept if score > -np.inf]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("seed", range(3))
def test_with_enough_beams_it_finds_the_best_of_all_sequences(alpha, seed):
    tables = make_tables(seed=seed)
    found = search(tables, beams=40, alpha=alpha)
    for example, table in enumerate(tables):
        everything = {tokens: score(table, tokens, alpha) for tokens in all_sequences()}
        best = sorted(everything, key=lambda tokens: -everything[tokens])
        assert sequences(found, example) == best[:40]
        expected = [everything[tokens] for tokens in best[:40]]
        np.testing.assert_allclose(found.score[example][: len(best)], expected, rtol=1e-4)
        assert (found.score[example][len(best) :] == -np.inf).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_with_few_beams_it_is_the_plain_search(alpha, beams):
    tables = make_tables(6, vocab=7, seed=3)
    found = search(tables, beams=beams, alpha=alpha, length=8)
    for example, table in enumerate(tables):
        expected = plain_search(table, beams=beams, alpha=alpha, length=8)
        assert sequences(found, example) == [tokens for _, tokens in expected]
        actual = found.score[example][: len(expected)]
        np.testing.assert_allclose(actual, [score for score, _ in expected], rtol=1e-4)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_stopping_early_changes_no_result_and_saves_steps(alpha):
    tables = make_tables(1, vocab=5, seed=1)
    tables[..., EOS] += 3  # sequences end soon
    steps = {}

    def count(early_stop):
        seen = []
        counted = jnp.asarray(tables)

        def decode(tokens, cache, index):
            jax.debug.callback(lambda i: seen.append(int(i)), index[0, 0])
            return counted[0, cache, tokens[:, 0]][:, None], tokens[:, 0]

        found = beam_search(
            decode,
            jnp.full(2, 5),
            jnp.full(1, FIRST),
            beams=2,
            max_length=20,
            eos=EOS,
            penalty=wu_penalty(alpha),
            reorder=lambda cache, row: cache[row],
            early_stop=early_stop,
        )
        jax.effects_barrier()
        steps[early_stop] = len(seen)
        return found

    for early, late in zip(count(True), count(False), strict=True):
        np.testing.assert_array_equal(early, late)
    assert steps[False] == 20
    # So strong a penalty always leaves longer sequences a chance.
    assert steps[True] < 20 or alpha == 3.0


def test_one_beam_without_penalty_is_greedy():
    tables = make_tables(8, vocab=6, seed=2)
    found = search(tables, beams=1, alpha=0.0, length=10)
    for example, table in enumerate(tables):
        tokens = ()
        while len(tokens) < 10 and tokens[-1:] != (EOS,):
            tokens += (int(np.argmax(log_probs(table, tokens))),)
        assert sequences(found, example) == [tokens]


def test_an_example_does_not_depend_on_the_rest_of_the_batch():
    tables = make_tables(5, vocab=7, seed=4)
    together = search(tables, beams=3, alpha=0.6, length=8)
    for example in range(5):
        alone = search(tables[example : example + 1], beams=3, alpha=0.6, length=8)
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[example])


def test_a_larger_penalty_prefers_longer_sequences():
    tables = make_tables(20, vocab=5, seed=5)
    lengths = [search(tables, beams=4, alpha=a, length=12).length[:, 0].mean() for a in ALPHAS]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_after_the_end_tokens_are_zero():
    found = search(make_tables(4, vocab=5, seed=6), beams=3, alpha=0.6, length=6)
    after = np.arange(6)[None, None] >= found.length[:, :, None]
    assert after.any()
    assert not found.tokens[after].any()


def test_a_negative_alpha_is_refused():
    with pytest.raises(ValueError, match=r"alpha -0\.5 is negative or no number"):
        wu_penalty(-0.5)
