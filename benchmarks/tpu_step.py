"""Compiles training steps for a TPU pod, on any machine: memory, bytes, collectives.

    python benchmarks/tpu_step.py [--rows REGEX] [--topology v5e:4x4] [--json FILE] [--hlo DIR]

Needs `pip install libtpu`, no TPU, and one to five minutes of one core a row. Memory and
collectives are firm; times are the compiler's two models (see zoo/planning/program.py):

  roofline  each operation's FLOPs or bytes, whichever takes longer, wherever the bytes lie
  cycles    the compiler's own estimate of each operation; kernels, which it does not know, by
            their roofline, and collectives not at all
"""

import argparse
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.config import parse_config
from zoo.config.schema import Config
from zoo.config.sizes import row_macs, row_tokens
from zoo.config.vit import ViTConfig
from zoo.planning.program import Costs, largest_batch, parse
from zoo.planning.topology import chip_of, describe


@dataclass(frozen=True)
class Row:
    """One program: a size, how it is sharded and how its layers run."""

    size: str
    sharding: str  # "data" or "fsdp": all chips along that mesh axis
    layers: str  # "unrolled" or "scanned"
    remat: str = "none"
    attention: str = "auto"

    @property
    def name(self) -> str:
        """Such as `B/16 fsdp scanned remat=full`."""
        extra = f" remat={self.remat}" * (self.remat != "none")
        extra += f" attention={self.attention}" * (self.attention != "auto")
        return f"{self.size} {self.sharding} {self.layers}{extra}"


ROWS = [
    Row("B/16", "data", "unrolled"),
    Row("B/16", "data", "unrolled", attention="xla"),
    *(Row("B/16", "data", "scanned", remat) for remat in ("none", "attention", "dots", "full")),
    Row("B/16", "fsdp", "unrolled"),
    Row("B/16", "fsdp", "scanned"),
    Row("B/16", "fsdp", "scanned", "full"),
    Row("S/16", "data", "scanned"),
    *(
        Row("L/16", mesh, "scanned", remat)
        for mesh in ("data", "fsdp")
        for remat in ("none", "full")
    ),
    *(Row("BERT-large", mesh, "scanned", "full") for mesh in ("data", "fsdp")),
    Row("BERT-large", "data", "unrolled", "full"),
    Row("decoder-1.1B", "fsdp", "scanned", "full"),
    Row("decoder-1.1B", "fsdp", "scanned", "full", attention="xla"),
]

# What the rows of a size have in common, by its name. The images: ImageNet at 224 pixels, gap
# pooling, learned positions. BERT-large: MLPerf's rows, without dropout. The decoder: MaxText's
# default, whose vocabulary is 32,000.
TEXT = {"name": "text", "dir": "none", "tokenizer": "none"}
IMAGES = {"family": "vit", "num_classes": 1000, "image_size": 224, "channels": 3, "pool": "gap"}
BERT = {"family": "bert", "size": "large", "vocab_size": 30522, "head": "pretraining"}
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        size: (
            IMAGES | {"size": size},
            {"name": "tfds:imagenet2012", "batch_size": 1024, "image_size": 224},
        )
        for size in ("S/16", "B/16", "L/16")
    },
    "BERT-large": (
        BERT | NO_DROPOUT,
        TEXT | {"kind": "masked_lm", "length": 512, "max_predictions": 76, "batch_size": 256},
    ),
    "decoder-1.1B": (
        {"family": "decoder", "size": "maxtext-1b", "vocab_size": 32_000},
        TEXT | {"kind": "lm", "length": 2048, "batch_size": 64},
    ),
}


def make_config(row: Row) -> Config:
    """A row's model and data, in bfloat16, with AdamW and float32 moments."""
    model, data = CONFIGS[row.size]
    options = {"dtype": "bfloat16", "scan": row.layers == "scanned"}
    return parse_config(
        {
            "model": model | options | {"remat": row.remat, "attention": row.attention},
            "data": data,
            "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1},
            "mesh": {"data": -1, "fsdp": 1} if row.sharding == "data" else {"data": 1, "fsdp": -1},
        }
    )


def measure(row: Row, topology: str, hlo_dir: Path | None) -> dict[str, Any]:
    """Compiles one row and reads off its numbers."""
    config, chip, devices = make_config(row), chip_of(topology), describe(topology)
    from zoo.planning.programs import compile_training  # imports jax, which reads its environment

    compiled, _, _, seconds = compile_training(config, devices)
    text = compiled.as_text()
    if hlo_dir:
        hlo_dir.mkdir(parents=True, exist_ok=True)
        (hlo_dir / (re.sub(r"[ /=]+", "_", row.name) + ".hlo")).write_text(text)
    costs, own = Costs(parse(text), chip), compiled.cost_analysis()
    model_flops = 6 * row_macs(config) * config.data.batch_size / len(devices)
    result = {
        "row": row.name,
        "peak_gib": compiled.memory_analysis().peak_memory_in_bytes / 2**30,
        "gb": costs.bytes / 1e9,
        "hbm_gb": costs.hbm_bytes / 1e9,
        "tflop": costs.flops / 1e12,
        "model_tflop": model_flops / 1e12,
        "roofline_ms": 1e3 * costs.roofline_s,
        "cycles_ms": 1e3 * costs.cycles_s,
        "floor_ms": 1e3 * model_flops / chip.flops,
        "local_batch": largest_batch(text, config.model.width, _length(config)),
        "collectives": dict(_counts(costs)),
        "compile_cpu_s": seconds,
    }
    if row.layers == "unrolled":  # without loops XLA's own account is whole
        result["xla_gb"] = own["bytes accessed"] / 1e9
        result["xla_ms"] = 1e3 * (own["optimal_seconds"] + text.count('"ConcatBitcast"'))
    return result


def _counts(costs: Costs) -> Counter[str]:
    """How often each kind of collective runs."""
    counts: Counter[str] = Counter()
    for one in costs.collectives:
        counts[one.kind] += one.times
    return counts


def _length(config: Config) -> int:
    """Tokens of a row inside the model."""
    if isinstance(config.model, ViTConfig):
        cols, rows = config.model.patches
        return cols * rows
    return row_tokens(config) or 0


def main() -> None:
    """Compiles the rows that are asked for, and prints each as it is ready."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", default="", help="regular expression on the rows' names")
    parser.add_argument("--topology", default="v5e:4x4")
    parser.add_argument("--json", type=Path, help="file that every row is appended to")
    parser.add_argument("--hlo", type=Path, help="directory for the programs' texts")
    args = parser.parse_args()
    for row in ROWS:
        if not re.search(args.rows, row.name):
            continue
        result = measure(row, args.topology, args.hlo)
        print(*(f"{k}={_short(v)}" for k, v in result.items()), sep="  ", flush=True)
        if args.json:
            with args.json.open("a") as file:
                file.write(json.dumps(result) + "\n")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
