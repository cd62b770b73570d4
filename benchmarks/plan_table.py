"""`zoo plan` of every shipped config, on a pod like the machine that its paper names.

    python benchmarks/plan_table.py [--rows REGEX] > docs/plans.md

Needs the TPU compiler (`pip install '.[tpu]'`), no TPU, and a minute or two of one core a row; what
was compiled before comes from the cache. A config's own mesh is taken where that fits, else the
best that `--mesh auto` finds.
"""

import argparse
import re
import sys
from typing import NamedTuple

from zoo.config import load_config
from zoo.planning.plan import DoesNotFit, Plan, plan
from zoo.planning.search import search


class Row(NamedTuple):
    """A config, the pod, what its paper ran on, and what only its data knows."""

    config: str
    topology: str
    paper: str
    overrides: dict[str, str]
    examples: int | None = None


IMAGENET = 1_281_167
TEN = {"model.num_classes": "10"}
NONE = "not said"


def vocabulary(size: int, **more: int) -> dict[str, str]:
    return {"model.vocab_size": str(size), **{f"model.{k}": str(v) for k, v in more.items()}}


# A pod has about as many chips as the paper's TPU, or as its GPUs are worth; four at least.
ROWS = [
    Row("s16_in1k:90", "v5e:2x2", "v3-8: 4 chips, 6 h 30", {}, IMAGENET * 99 // 100),
    Row("augreg_in1k:B/16", "v5e:4x4", NONE, {}, IMAGENET * 99 // 100),
    Row("augreg_in1k:L/16", "v5e:8x8", NONE, {}, IMAGENET * 99 // 100),
    Row("augreg_in21k:B/16", "v5e:8x8", NONE, {}, 14_145_947),
    Row("deit_in1k:S", "v4:2x4x4", "v4-64: 32 chips, 2 h 43", {}, IMAGENET),
    Row("deit3_in1k:B,400", "v4:2x4x4", "v4-64: 32 chips, 4 h 42", {}, IMAGENET),
    Row("deit3_in1k:L,400", "v4:2x4x4", "v4-64: 32 chips, 14 h 10", {}, IMAGENET),
    Row("deit3_in1k:H,400", "v4:2x4x4", "v4-64: 32 chips, 19 h 10", {}, IMAGENET),
    Row("deit3_in1k_finetune:B", "v5e:2x4", "8 GPUs", {}, IMAGENET),
    Row("finetune:cifar10", "v5e:2x4", NONE, TEN),
    Row("cifar_vit:cifar10", "v5e:2x2", NONE, TEN, 50_000),
    Row("cifar_vit_lite:cifar10", "v5e:2x2", NONE, TEN, 50_000),
    Row("fashion_mnist_vit", "v5e:2x2", NONE, TEN, 60_000),
    Row("mnist_vit", "v5e:2x2", NONE, TEN, 60_000),
    Row("digits_vit", "v5e:2x2", "a laptop", TEN, 1_437),
    Row("bert_pretrain:base", "v5e:4x4", "4 Cloud TPUs: 16 chips, 4 days", {}),
    Row("bert_pretrain:large", "v5e:8x8", "16 Cloud TPUs: 64 chips, 4 days", {}),
    Row("bert_pretrain:large,phase2", "v5e:8x8", "16 Cloud TPUs: 64 chips", {}),
    Row("bert_mlperf:256", "v4:2x2x4", "TPUv4-16: 16 chips", {}),
    Row("bert_mlperf:4096", "v4:4x4x8", "TPUv4-128: 128 chips", {}),
    Row("glue:mrpc", "v5e:2x2", "v3-8: 4 chips", vocabulary(28_996, num_classes=2), 3_668),
    Row("squad:1.1", "v5e:2x2", "one GPU", vocabulary(30_522), 88_641),
    Row("t5_11_c4:small", "v5e:2x4", "8 A100", {}),
    Row("t5_11_c4:xl", "v5e:8x8", NONE, {}),
    Row("wmt_vaswani:base", "v5e:2x4", "8 P100, 12 h", vocabulary(37_000)),
    Row("wmt_vaswani:big", "v5e:2x4", "8 P100, 3.5 days", vocabulary(37_000)),
    Row("wmt17_deen:flax", "v5e:2x2", "v3-8: 4 chips", vocabulary(32_000)),
    Row("lm1b", "v5e:2x2", "v3-8: 4 chips, 13 h 18", {}),
    Row("gpt2_124m", "v5e:2x4", "8 A100, 4 days", {}),
    Row("gpt2_124m:gpt2-xl", "v5e:8x8", NONE, {}),
    Row("llama_1b", "v4:4x8x8", "v4-512: 256 chips", {}),
    Row("llama_1b", "v5e:16x16", NONE, {}),
    Row("bert_imdb", "v5e:2x2", "a laptop", vocabulary(8_000)),
    Row("bert_imdb_gpu", "v5e:2x2", "one GPU", vocabulary(8_000)),
    Row("sentiment_imdb", "v5e:2x2", "a laptop", vocabulary(8_000, num_classes=2), 8_530),
    Row("lm_imdb", "v5e:2x2", "a laptop", vocabulary(4_000)),
    Row("translate_help", "v5e:2x2", "a laptop", vocabulary(8_000), 28_000),
]
HEAD = (
    "config, parameters",
    "the paper's machine",
    "pod",
    "layout",
    "GiB a device",
    "ms a step",
    "limit",
    "MFU at most",
    "hours",
)


def planned(row: Row) -> Plan:
    """By the config's own layout, or the best one."""
    config = load_config(row.config, row.overrides)
    try:
        return plan(config, row.topology, examples=row.examples)
    except DoesNotFit:
        found = search(config, row.topology, examples=row.examples)
    if not found.plans:
        raise SystemExit(f"{row.config} fits on no mesh of {row.topology}")
    return found.plans[0]


def cells(row: Row, found: Plan) -> list[str]:
    """A line of the table."""
    return [
        f"`{row.config}`, {found.num_params / 1e6:,.1f} M",
        row.paper,
        row.topology,
        found.layout_text,
        f"{found.peak_bytes / 2**30:.2f} of {found.hbm_bytes / 2**30:.0f}",
        f"{1e3 * found.step_s:,.1f}",
        found.limit,
        f"{found.mfu:.0%}",
        "" if found.hours is None else f"{found.hours:,.2g}",
    ]


def main() -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", default="", help="regular expression on the configs' names")
    args = parser.parse_args()
    print(INTRODUCTION)
    for line in (HEAD, ["---"] * len(HEAD)):
        print(f"| {' | '.join(line)} |")
    for row in ROWS:
        if not re.search(args.rows, row.config):
            continue
        print(f"{row.config} on {row.topology}", file=sys.stderr, flush=True)
        print(f"| {' | '.join(cells(row, planned(row)))} |", flush=True)


INTRODUCTION = """# Plans of the shipped configs

Made by `python benchmarks/plan_table.py > docs/plans.md`, on a machine without a TPU. Each config
on a pod of about as many chips as the machine that its paper names; where that is no TPU, or none
is named, a pod that one would take. Memory is XLA's account of the compiled step; times are a
model and a lower bound, of the step alone: no input, no evaluation, nothing measured. Each has its
config's own mesh where that fits, else the best of `zoo plan --mesh auto`.
"""

if __name__ == "__main__":
    main()
