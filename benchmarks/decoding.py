"""Tokens a second of a decoder that writes on, and how near that is to reading its weights.

    python benchmarks/decoding.py [--size gpt2] [--dtype bfloat16] [--batch 1 64] [--tokens 64]

A token of one row needs every weight once, so a step can take no less than reading them: `read` is
the time of a program that only adds them up, measured between the rounds, so that a busy machine
slows both alike. Prints, for each number of rows: milliseconds a step of the loop on the device
(`write`) and token by token (`stream`), tokens a second of all rows, the time to read a prompt of
64 tokens a row, and the median over the rounds of step / read. Weights are random.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.config.decoder import DecoderConfig, num_params, published_vocab_size
from zoo.inference.decoding import GREEDY, Writer, cast
from zoo.models.decoder import Decoder

PROMPT = 64


def seconds(run: Callable[[], Any]) -> float:
    """Of one call, to the end of what it starts."""
    since = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - since


def measure(cfg: DecoderConfig, params: Any, batch: int, tokens: int, rounds: int) -> dict:
    """Medians of milliseconds and of step / read."""
    graphdef = nnx.split(nnx.eval_shape(lambda: Decoder(cfg, rngs=nnx.Rngs(0))))[0]
    writer = Writer(graphdef, eos=(), max_length=cfg.max_length)
    prompts = np.random.default_rng(0).integers(0, cfg.vocab_size, (batch, PROMPT)).tolist()
    options = {"keys": jax.random.split(jax.random.key(0), batch), "sampling": GREEDY}
    write = lambda n: writer.write(params, prompts, max_tokens=n, **options)
    stream = lambda: list(writer.stream(params, prompts, max_tokens=tokens, **options))
    read = jax.jit(lambda params: sum(jnp.sum(x, dtype=x.dtype) for x in jax.tree.leaves(params)))
    for warm_up in (lambda: write(1), lambda: write(tokens), stream, lambda: read(params)):
        jax.block_until_ready(warm_up())
    found = []
    for _ in range(rounds):
        prefill = seconds(lambda: write(1))
        step = (seconds(lambda: write(tokens)) - prefill) / (tokens - 1)
        streamed = (seconds(stream) - prefill) / (tokens - 1)
        reading = seconds(lambda: read(params))
        found.append((1e3 * prefill, 1e3 * step, 1e3 * streamed, 1e3 * reading, step / reading))
    names = ("prefill", "step", "stream", "read", "step_over_read")
    return dict(zip(names, map(statistics.median, zip(*found, strict=True)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--size", default="gpt2")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    vocab_size = published_vocab_size(args.size)
    cfg = DecoderConfig(size=args.size, vocab_size=vocab_size, dtype=args.dtype)
    init = lambda key: nnx.to_pure_dict(nnx.split(Decoder(cfg, rngs=nnx.Rngs(key)))[1])
    params = jax.jit(lambda key: cast(init(key), cfg.dtype))(jax.random.key(0))
    device = jax.devices()[0].device_kind
    print(f"{args.size}, {num_params(cfg):,} parameters, {args.dtype}, on one {device}")
    print("rows  prefill ms  step ms  stream ms  read ms  step / read  tokens/s")
    for batch in args.batch:
        row = measure(cfg, params, batch, args.tokens, args.rounds)
        numbers = [row[n] for n in ("prefill", "step", "stream", "read", "step_over_read")]
        print("{:4d}{:12.1f}{:9.2f}{:11.2f}{:9.2f}{:13.2f}".format(batch, *numbers), end="")
        print(f"{1e3 * batch / row['step']:10.0f}")
    print(f"load {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} core(s)")


if __name__ == "__main__":
    main()
