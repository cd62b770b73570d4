"""What `zoo plan` says of runs whose step time is published, beside that time.

    python benchmarks/plan_check.py [--rows REGEX]

Needs the TPU compiler (`pip install '.[tpu]'`), no TPU, and two minutes or so of one core a row.
The model, the batch and the chips are those of the published run; its sharding is FSDP and every
layer is recomputed, which comes as near as Zoo's own options do. Prints the published seconds a
step, the plan's, and the first over the second: a plan is a lower bound, so that a ratio below one
would be a fault of its model, and the larger ones say how far a real run is from it.
"""

import argparse
import re
from typing import Any, NamedTuple

from zoo.config import parse_config
from zoo.planning.plan import plan

LLAMA1_7B = {  # Touvron 2023 (arXiv 2302.13971)
    "width": 4096,
    "depth": 32,
    "mlp_dim": 11_008,
    "num_heads": 32,
    "vocab_size": 32_000,
    "tied": False,
}
LLAMA31_8B = {"size": "llama3.1-8b", "vocab_size": 128_256}


class Row(NamedTuple):
    """A published run."""

    name: str
    model: dict[str, Any]
    length: int
    rows: int  # of the whole batch
    topology: str
    slices: int
    seconds: float  # published, a step
    source: str


def tokens_a_chip(tokens_per_s: float, tokens: int, chips: int) -> float:
    """Seconds a step, where the tokens a second and chip are published."""
    return tokens / chips / tokens_per_s


AXLEARN = "AXLearn, fuji.py"
RECIPES = "AI-Hypercomputer, tpu-recipes and MaxText's tiering.md"
ROWS = [
    Row("7B", LLAMA1_7B, 2048, 2048, "v4:8x8x8", 1, 3.03, AXLEARN),
    Row("7B", LLAMA1_7B, 2048, 2048, "v5p:4x8x8", 1, 2.85, AXLEARN),
    Row("7B", LLAMA1_7B, 2048, 2048, "v5e:16x16", 4, 2.44, AXLEARN),
    Row("8B", LLAMA31_8B, 8192, 24, "v6e:2x4", 1, tokens_a_chip(7139, 24 * 8192, 8), RECIPES),
    Row("8B", LLAMA31_8B, 8192, 768, "v6e:16x16", 1, tokens_a_chip(7207, 768 * 8192, 256), RECIPES),
]


def main() -> None:
    """Compiles the rows that are asked for, and prints each as it is ready."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", default="", help="regular expression on NAME TOPOLOGY")
    args = parser.parse_args()
    print("| model, pod | published s | planned s | ratio | limit | GiB | source |")
    print("|---|---|---|---|---|---|---|")
    for row in ROWS:
        if not re.search(args.rows, f"{row.name} {row.topology}"):
            continue
        config = parse_config(
            {
                "model": row.model
                | {
                    "family": "decoder",
                    "dtype": "bfloat16",
                    "remat": "full",
                    "max_length": row.length,
                },
                "data": {
                    "kind": "lm",
                    "name": "text",
                    "dir": "none",
                    "tokenizer": "none",
                    "length": row.length,
                    "batch_size": row.rows,
                },
                "optimizer": {"name": "adamw", "lr": 3e-4, "weight_decay": 0.1},
                "mesh": {"slices": row.slices, "data": 1, "fsdp": -1},
            }
        )
        found = plan(config, row.topology)
        pod = row.topology if row.slices == 1 else f"{row.slices} x {row.topology}"
        cells = [
            f"{row.name}, {pod}",
            f"{row.seconds:.2f}",
            f"{found.step_s:.2f}",
            f"{row.seconds / found.step_s:.2f}",
            found.limit,
            f"{found.peak_bytes / 2**30:.1f}",
            row.source,
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
