"""Attention's kernels on the device that is here: how near plain operations, and how much faster.

    python benchmarks/attention_kernels.py [NAME ...] [--rows 8] [--repeats 20]

Every case is one that some model calls. Output and gradients in bfloat16, by the kernel that
`zoo.models.attention` chooses and by plain operations, are each compared with plain operations in
float32; errors are relative to the largest number there. Prints both errors, and the time of
plain operations over the kernel's, forward and backward, medians of interleaved calls. Rows
without a kernel say so: a CPU has none.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

from zoo.models.attention import Mask, attention, choose_kernel

# name: (T, query heads, key heads, head size, mask of segments' ends, Mask's arguments)
CASES = {
    "vit": (196, 12, 12, 64, None, {}),
    "bert128": (128, 12, 12, 64, (100,), {}),
    "bert512": (512, 12, 12, 64, (400,), {}),
    "gpt2": (1024, 12, 12, 64, None, {"causal": True}),
    "packed": (2048, 16, 16, 64, (700, 1500), {"causal": True}),
    "grouped": (2048, 32, 8, 64, None, {"causal": True}),
    "window": (2048, 8, 4, 128, None, {"causal": True, "window": 512}),
}


def inputs(name: str, rows: int):
    """q, k, v, the output's gradient (all float32) and the mask of a case."""
    T, N, K, H, ends, options = CASES[name]
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(rows, T, heads, H) for heads in (N, K, K, N)]
    arrays = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    segment = None
    if ends:
        segment = jnp.broadcast_to(
            jnp.searchsorted(jnp.array(ends), jnp.arange(T), "right"), (rows, T)
        )
    return arrays, Mask(q_segment=segment, kv_segment=segment, **options)


def compiled(mask: Mask, kernel: str):
    """(q, k, v, dy) -> output and the three gradients, jitted."""

    def both(q, k, v, dy):
        y, back = jax.vjp(lambda q, k, v: attention(q, k, v, mask=mask, kernel=kernel)[0], q, k, v)
        return y, *back(dy)

    return jax.jit(both)


def error(found, exact) -> float:
    """The largest difference of any output, over the largest number of it."""
    return max(
        float(jnp.max(jnp.abs(a.astype(jnp.float32) - b)) / jnp.max(jnp.abs(b)))
        for a, b in zip(found, exact, strict=True)
    )


def seconds(call, arrays) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call(*arrays))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; default: all"
    )
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {args.rows} rows")
    print(f"{'':10}{'kernel':>8}{'error':>10}{'plain':>10}{'speed-up':>10}")
    for name in args.names or CASES:
        exact, mask = inputs(name, args.rows)
        half = [x.astype(jnp.bfloat16) for x in exact]
        chosen = choose_kernel(half[0], half[1], mask)
        # What bfloat16 inputs give exactly: their rounding is no fault of a kernel.
        with jax.default_matmul_precision("highest"):
            wanted = compiled(mask, "xla")(*(x.astype(jnp.float32) for x in half))
        calls = {kernel: compiled(mask, kernel) for kernel in ("auto", "xla")}
        errors = {kernel: error(call(*half), wanted) for kernel, call in calls.items()}
        times = {kernel: [] for kernel in calls}
        for _ in range(args.repeats):
            for kernel, call in calls.items():
                times[kernel].append(seconds(call, half))
        ratio = statistics.median(times["xla"]) / statistics.median(times["auto"])
        print(f"{name:10}{chosen:>8}{errors['auto']:10.4f}{errors['xla']:10.4f}{ratio:10.2f}")


if __name__ == "__main__":
    main()
