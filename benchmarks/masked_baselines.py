"""What counting alone gets of the masked tokens that a BERT is evaluated on, row by row the same.

    python benchmarks/masked_baselines.py --config bert_imdb [--config.KEY=VALUE ...]

Counts come from the config's training split. Prints JSON: for each evaluation split the masked
tokens, and the accuracy (`masked_lm_accuracy`) and nats (`masked_lm_loss`) of

  unigram     how frequent a token is
  bigram      what follows the left neighbour and precedes the right one:
              P(y | l) P(y | r) / P(y), the posterior of a Markov chain of order one
  trigram     what stood between these two neighbours, backed off to `bigram`
  *_own       the same, and the token that stands at the place itself: one that is not [MASK] is
              as often the right one as a random one, and a BERT may know that

A neighbour is read as the model reads it: [MASK] and the other special tokens never came in the
counted text and tell nothing, and one that was replaced at random misleads. Each model takes
absolute discounts, by Ney's estimate n1 / (n1 + 2 n2), and gives what they free to the next
smaller one.
"""

import argparse
import json
import sys
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from zoo.cli import split_overrides
from zoo.config import UserError, load_config
from zoo.config.data import MaskedData
from zoo.config.schema import Config
from zoo.data.stream import eval_batches
from zoo.data.text.base import require
from zoo.data.text.token_store import open_tokens
from zoo.data.text.tokenizers import Tokenizer, load_tokenizer

AT_A_TIME = 512  # masked tokens, each with a probability of every token


class Table(NamedTuple):
    """How often token y came in context c: sorted keys c V + y."""

    keys: Int[np.ndarray, " K"]
    counts: Int[np.ndarray, " K"]
    ends: Int[np.ndarray, " K+1"]  # counts up to each key
    discount: float
    vocab_size: int


def make_table(
    context: Int[np.ndarray, " N"], token: Int[np.ndarray, " N"], vocab_size: int
) -> Table:
    """Counts N pairs."""
    keys, counts = np.unique(context * vocab_size + token, return_counts=True)
    once, twice = (int(np.sum(counts == n)) for n in (1, 2))
    # Text so small that nothing came once has no estimate: any discount is a model.
    discount = once / (once + 2 * twice) if once else 0.5
    return Table(keys, counts, np.concatenate([[0], np.cumsum(counts)]), discount, vocab_size)


def smooth(
    table: Table, context: Int[np.ndarray, " N"], lower: Float[np.ndarray, "N V"]
) -> Float[np.ndarray, "N V"]:
    """P(y | c), discounted and interpolated with `lower`; `lower` itself where c never came."""
    V = table.vocab_size
    start, stop = (np.searchsorted(table.keys, (context + i) * V) for i in (0, 1))
    types, total = stop - start, table.ends[stop] - table.ends[start]
    freed = np.where(total > 0, table.discount * types / np.maximum(total, 1), 1.0)
    probs = lower * freed[:, None]
    row = np.repeat(np.arange(len(context)), types)
    at = np.arange(types.sum()) - np.repeat(np.cumsum(types) - types - start, types)
    probs[row, table.keys[at] % V] += (table.counts[at] - table.discount) / total[row]
    return probs


def see_own(
    probs: Float[np.ndarray, "N V"], own: Int[np.ndarray, " N"], mask: int
) -> Float[np.ndarray, "N V"]:
    """The posterior once the token at the place is seen.

    As many tokens stay as are replaced by one of all V: seeing y is 1 + 1 / V as likely where y is
    the right one, and 1 / V where another is, which then was replaced.
    """
    V = probs.shape[1]
    seen = np.flatnonzero(own != mask)
    probs = probs.copy()
    weight = probs[seen] / V
    weight[np.arange(len(seen)), own[seen]] += probs[seen, own[seen]]
    probs[seen] = weight / weight.sum(1, keepdims=True)
    return probs


class Counted:
    """The three models, from running text."""

    def __init__(self, text: Int[np.ndarray, " T"], vocab_size: int):
        """Args: `text`: documents one after the other, -1 between them."""
        V = vocab_size
        counts = np.bincount(text[text >= 0], minlength=V) + 1.0  # what never came can come
        self.unigram = counts / counts.sum()
        pair = (text[:-1] >= 0) & (text[1:] >= 0)
        left, right = text[:-1][pair], text[1:][pair]
        self._after = make_table(left, right, V)
        self._before = make_table(right, left, V)
        between = pair[:-1] & pair[1:]
        left, token, right = (text[i : len(text) - 2 + i][between] for i in range(3))
        self._between = make_table(left * V + right, token, V)

    def predict(
        self, left: Int[np.ndarray, " N"], right: Int[np.ndarray, " N"]
    ) -> dict[str, Float[np.ndarray, "N V"]]:
        """The probability of every token between two neighbours, by each model."""
        unigram = np.broadcast_to(self.unigram, (len(left), len(self.unigram)))
        bigram = smooth(self._after, left, unigram) * smooth(self._before, right, unigram)
        bigram /= unigram
        bigram /= bigram.sum(1, keepdims=True)
        trigram = smooth(self._between, left * len(self.unigram) + right, bigram)
        return {"unigram": unigram, "bigram": bigram, "trigram": trigram}


def count(data: MaskedData, tokenizer: Tokenizer) -> Counted:
    """The models of the training split."""
    documents = open_tokens(data, data.train_split, "text", tokenizer, sentences=data.next_sentence)
    parts = []
    for i, length in enumerate(documents.lengths):
        parts += [documents.read(i, 0, int(length)), [-1]]
    return Counted(np.concatenate(parts).astype(np.int64), tokenizer.size)


def score(models: Counted, batch: dict[str, np.ndarray], mask: int) -> dict[str, np.ndarray]:
    """Right guesses and nats, summed over a batch's masked tokens, and how many these are."""
    row, column = np.nonzero(batch["mask"] & (batch["weight"] > 0)[:, None])
    place, target = (batch[f"masked_{name}"][row, column] for name in ("positions", "targets"))
    tokens = batch["tokens"].astype(np.int64)
    left, own, right = (tokens[row, place + i] for i in (-1, 0, 1))
    sums: dict[str, np.ndarray] = {}
    for start in range(0, len(row), AT_A_TIME):
        some = slice(start, start + AT_A_TIME)
        found = models.predict(left[some], right[some])
        found |= {f"{name}_own": see_own(p, own[some], mask) for name, p in found.items()}
        for name, probs in found.items():
            y = target[some]
            nats = -np.log(probs[np.arange(len(y)), y])
            one = np.array([np.sum(probs.argmax(1) == y), nats.sum(), len(y)])
            sums[name] = sums.get(name, 0) + one
    return sums


def measure(config: Config) -> dict[str, dict]:
    """The results of each evaluation split."""
    data = config.data
    if not isinstance(data, MaskedData):
        raise UserError("config.data.kind is not 'masked_lm': give a config that masks tokens")
    tokenizer = load_tokenizer(data.tokenizer)
    (mask,) = require(tokenizer, "masked_lm", "mask")
    models, results = count(data, tokenizer), {}
    for name, split in data.eval_splits.items():
        sums: dict[str, np.ndarray] = {}
        for batch in eval_batches(data, split):
            for model, one in score(models, batch, mask).items():
                sums[model] = sums.get(model, 0) + one
        results[name] = {
            "masked_tokens": int(sums["unigram"][2]),
            **{
                model: {"masked_lm_accuracy": right / total, "masked_lm_loss": nats / total}
                for model, (right, nats, total) in sums.items()
            },
        }
    return results


def main() -> None:
    argv, overrides = split_overrides(sys.argv[1:])
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--config", required=True)
    args = parser.parse_args(argv)
    try:
        print(json.dumps(measure(load_config(args.config, overrides)), indent=2))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
