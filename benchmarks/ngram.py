"""A Kneser-Ney model of the text that a language model is trained on, in its bits per byte.

    apt-get install irstlm
    python benchmarks/ngram.py --config lm_imdb [--order 5] [--config.KEY=VALUE ...]

The library is Debian's IRSTLM (Federico 2008): its `tlm` estimates an interpolated model with
modified Kneser-Ney discounts (Chen 1998), nothing pruned. The words that it sees are the tokens of
the config's own tokenizer, a document a line, so that both models predict the same tokens of the
same text: all of a document's and its end, each document by itself. The vocabulary is closed: all
tokens stand once more on a last line of the training text, which leaves no unknown word.

A model of words has unknown ones, of which bits per byte need a model too; with a vocabulary of
some thousand pieces five tokens are three words, so try --order 6 or 7 as well.

Prints JSON: for each evaluation split the tokens, nats a token (`loss`), `perplexity` and
`bits_per_byte`, as `zoo eval` does; and the seconds that `tlm` took.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zoo.cli import split_overrides
from zoo.config import UserError, load_config
from zoo.config.data import LmData
from zoo.config.schema import Config
from zoo.data.batches import ExampleRng
from zoo.data.rows import open_rows
from zoo.data.text.token_store import TokenStore, open_tokens
from zoo.data.text.tokenizers import load_tokenizer

DEBIAN = "/usr/lib/irstlm/bin"  # where its package puts the programs
RESULT = re.compile(r"n=(\d+) LP=([\d.e+]+) PP=[\d.e+]+ OVVRate=([\d.e+-]+)")
# Where only those of higher order cannot, it warns and takes one discount for all counts.
TOO_SMALL = "lower order count-of-counts cannot be estimated"


def find_tlm() -> str:
    """The program.

    Raises:
      UserError: it is not installed.
    """
    path = shutil.which("tlm", path=f"{os.environ.get('PATH', '')}{os.pathsep}{DEBIAN}")
    if path is None:
        raise UserError("IRSTLM's program tlm is not installed: apt-get install irstlm")
    return path


def write_text(documents: TokenStore, path: Path, *, vocab_size: int = 0) -> None:
    """A document a line, as numbers of tokens; then, each once, the tokens below `vocab_size`."""
    with path.open("w") as file:
        for i, length in enumerate(documents.lengths):
            if length:  # Zoo passes over documents without text
                write_line(file, documents.read(i, 0, int(length)))
        if vocab_size:
            write_line(file, range(vocab_size))


def write_line(file, tokens) -> None:
    """Some tokens between the marks of a sentence, at which IRSTLM's contexts end."""
    file.write(f"<s> {' '.join(map(str, tokens))} </s>\n")


def run_tlm(tlm: str, train: Path, test: Path, order: int) -> tuple[int, float]:
    """The tokens of a text, ends counted, and their nats.

    Raises:
      UserError: the text has too few rare tokens for the discounts.
      RuntimeError: anything else that `tlm` does not manage.
    """
    settings = [f"-tr={train}", f"-te={test}", f"-n={order}", "-lm=ikn", "-ps=no"]
    run = subprocess.run([tlm, *settings], capture_output=True, text=True, errors="replace")
    output = run.stdout + run.stderr
    if TOO_SMALL in output:
        raise UserError(
            "tlm cannot estimate Kneser-Ney's discounts: too few tokens come once, twice, three or "
            "four times; train on more text, or take a tokenizer with a larger vocabulary"
        )
    found = RESULT.search(output)
    if run.returncode or not found:
        raise RuntimeError(f"tlm ended with {run.returncode}: {output[-500:]}")
    if float(found[3]):
        raise RuntimeError(f"tlm met unknown words, {found[3]} % of them all")
    return int(found[1]), float(found[2])


def count_targets(data: LmData, split: str) -> tuple[int, int]:
    """The tokens that Zoo's evaluation predicts, and their bytes."""
    rows, rng, tokens, num_bytes = open_rows(data, split, train=False), ExampleRng(0), 0, 0
    for index in range(len(rows)):
        row = rows.make(index, rng.at(index))
        tokens += int(row["mask"].sum())
        num_bytes += int(row["num_bytes"])
    return tokens, num_bytes


def measure(config: Config, order: int) -> dict[str, dict]:
    """The results of each evaluation split."""
    data, tlm = config.data, find_tlm()
    if not isinstance(data, LmData):
        raise UserError("config.data.kind is not 'lm': give the config of a language model")
    tokenizer = load_tokenizer(data.tokenizer)
    if tokenizer.bos is None:
        raise UserError(
            f"{data.tokenizer} has no token for a document's beginning, so a document's first "
            "token is no target of Zoo's, but one of tlm's: take another tokenizer"
        )
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        train, test = Path(temporary) / "train.txt", Path(temporary) / "test.txt"
        documents = open_tokens(data, data.train_split, "text", tokenizer)
        write_text(documents, train, vocab_size=tokenizer.size)
        for name, split in data.eval_splits.items():
            write_text(open_tokens(data, split, "text", tokenizer), test)
            since = time.perf_counter()
            tokens, nats = run_tlm(tlm, train, test, order)
            seconds = time.perf_counter() - since
            targets, num_bytes = count_targets(data, split)
            if tokens != targets:
                raise RuntimeError(f"tlm counts {tokens} tokens of {split}, Zoo {targets}")
            results[name] = {
                "tokens": tokens,
                "loss": nats / tokens,
                "perplexity": math.exp(nats / tokens),
                "bits_per_byte": nats / math.log(2) / num_bytes,
                "seconds": round(seconds, 1),
            }
    return results


def main() -> None:
    argv, overrides = split_overrides(sys.argv[1:])
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--order", type=int, default=5, help="tokens of the longest n-gram")
    args = parser.parse_args(argv)
    try:
        print(json.dumps(measure(load_config(args.config, overrides), args.order), indent=2))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
