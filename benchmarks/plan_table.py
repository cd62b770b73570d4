"""`zoo plan` of every shipped config, on a pod like the machine that its paper names.

    python benchmarks/plan_table.py --json docs/plans.json > docs/plans.md

`--rows REGEX` does the configs that match alone. docs/plans.json is what `zoo reproduce` tells.

Needs the TPU compiler (`pip install '.[tpu]'`), no TPU, and a minute or two of one core a row; what
was compiled before comes from the cache. A config's own mesh is taken where that fits, else the
best that `--mesh auto` finds.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

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
HUNDRED = {"model.num_classes": "100"}
NONE = "not said"
# Of billions of parameters: each chip keeps its part of them, and recomputes its activations.
SHARDED = {"mesh.data": "1", "mesh.fsdp": "-1", "model.remat": "full"}
# Rows of GLUE's training splits, of classes.
GLUE = {
    "cola": (8_551, 2),
    "sst2": (67_349, 2),
    "mrpc": (3_668, 2),
    "stsb": (5_749, 1),
    "qqp": (363_849, 2),
    "mnli": (392_702, 3),
    "qnli": (104_743, 2),
    "rte": (2_490, 2),
    "wnli": (635, 2),
}


def vocabulary(size: int, **more: int) -> dict[str, str]:
    return {"model.vocab_size": str(size), **{f"model.{k}": str(v) for k, v in more.items()}}


# A pod has about as many chips as the paper's TPU, or as its GPUs are worth; four at least.
ROWS = [
    Row("s16_in1k:90", "v5e:2x2", "v3-8: 4 chips, 6 h 30", {}, IMAGENET * 99 // 100),
    Row("s16_in1k:300", "v5e:2x2", "v3-8: 4 chips, 21 h 40", {}, IMAGENET * 99 // 100),
    Row("algoperf_vit", "v5e:2x4", "8 V100", {}, IMAGENET),
    Row("augreg_in1k:S/16", "v5e:4x4", NONE, {}, IMAGENET * 99 // 100),
    Row("augreg_in1k:B/16", "v5e:4x4", NONE, {}, IMAGENET * 99 // 100),
    Row("augreg_in1k:L/16", "v5e:8x8", NONE, {}, IMAGENET * 99 // 100),
    Row("augreg_in21k:B/32", "v5e:4x4", NONE, {}, 14_145_947),
    Row("augreg_in21k:B/16", "v5e:8x8", NONE, {}, 14_145_947),
    Row("deit_in1k:S", "v4:2x4x4", "v4-64: 32 chips, 2 h 43", {}, IMAGENET),
    Row("deit_in1k:B", "v4:2x4x4", "v4-64: 32 chips, 4 h 40", {}, IMAGENET),
    Row("deit3_in1k:S,800", "v4:2x4x4", "v4-64: 32 chips, 5 h 19", {}, IMAGENET),
    Row("deit3_in1k:B,400", "v4:2x4x4", "v4-64: 32 chips, 4 h 42", {}, IMAGENET),
    Row("deit3_in1k:B,800", "v4:2x4x4", "v4-64: 32 chips, 9 h 28", {}, IMAGENET),
    Row("deit3_in1k:L,400", "v4:2x4x4", "v4-64: 32 chips, 14 h 10", {}, IMAGENET),
    Row("deit3_in1k:H,400", "v4:2x4x4", "v4-64: 32 chips, 19 h 10", {}, IMAGENET),
    Row("deit3_in1k_finetune:B", "v5e:2x4", "8 GPUs", {}, IMAGENET),
    Row("finetune:cifar10", "v5e:2x4", NONE, TEN),
    Row("finetune:cifar100", "v5e:2x4", NONE, HUNDRED),
    Row("finetune:in1k", "v5e:2x4", NONE, {"model.num_classes": "1000"}),
    Row("cifar_vit:cifar10", "v5e:2x2", NONE, TEN, 50_000),
    Row("cifar_vit_lite:cifar10", "v5e:2x2", NONE, TEN, 50_000),
    Row("cifar_vit:cifar100", "v5e:2x2", NONE, HUNDRED, 50_000),
    Row("cifar_vit_lite:cifar100", "v5e:2x2", NONE, HUNDRED, 50_000),
    Row("fashion_mnist_vit", "v5e:2x2", NONE, TEN, 60_000),
    Row("mnist_vit", "v5e:2x2", NONE, TEN, 60_000),
    Row("digits_vit", "v5e:2x2", "a laptop", TEN, 1_437),
    Row("bert_pretrain:base", "v5e:4x4", "4 Cloud TPUs: 16 chips, 4 days", {}),
    Row("bert_pretrain:base,phase2", "v5e:4x4", "4 Cloud TPUs: 16 chips", {}),
    Row("bert_pretrain:large", "v5e:8x8", "16 Cloud TPUs: 64 chips, 4 days", {}),
    Row("bert_pretrain:large,phase2", "v5e:8x8", "16 Cloud TPUs: 64 chips", {}),
    Row("bert_mlperf:256", "v4:2x2x4", "TPUv4-16: 16 chips", {}),
    Row("bert_mlperf:4096", "v4:4x4x8", "TPUv4-128: 128 chips", {}),
    *(
        Row(f"glue:{task}", "v5e:2x2", "v3-8: 4 chips", vocabulary(28_996, num_classes=n), rows)
        for task, (rows, n) in GLUE.items()
    ),
    Row("squad:1.1", "v5e:2x2", "one GPU", vocabulary(30_522), 88_641),
    Row("t5_11_c4:small", "v5e:8x8", NONE, {}),
    Row("t5_11_c4:xl", "v5e:16x16", NONE, SHARDED),
    Row("t5_mnli:small", "v5e:2x4", NONE, {}, GLUE["mnli"][0]),
    Row("wmt_vaswani:base", "v5e:2x4", "8 P100, 12 h", vocabulary(37_000)),
    Row("wmt_vaswani:big", "v5e:2x4", "8 P100, 3.5 days", vocabulary(37_000)),
    Row("wmt17_deen:flax", "v5e:2x4", "v3-8: 4 chips of 32 GiB", vocabulary(32_000)),
    Row("wmt17_deen:algoperf", "v5e:2x4", "8 V100", vocabulary(32_000)),
    Row("lm1b", "v5e:2x2", "v3-8: 4 chips, 13 h 18", {}),
    # 12 rows a device, five times a step, as nanoGPT.
    Row("gpt2_124m", "v5e:2x4", "8 A100, 4 days", {"accumulate": "5"}),
    Row("gpt2_124m:gpt2-xl", "v5e:4x8", NONE, SHARDED),
    Row("llama_1b", "v4:4x8x8", "v4-512: 256 chips", {}),
    Row("llama_1b", "v5e:16x16", NONE, {}),
    Row("bert_imdb", "v5e:2x2", "a laptop", vocabulary(8_000)),
    Row("bert_imdb:phase2", "v5e:2x2", "a laptop", vocabulary(8_000)),
    Row("bert_imdb:adamw", "v5e:2x2", "a laptop", vocabulary(8_000)),
    Row("bert_imdb_gpu", "v5e:2x2", "one GPU", vocabulary(8_000)),
    Row(
        "sentiment_imdb:pretrained", "v5e:2x2", "a laptop", vocabulary(8_000, num_classes=2), 4_000
    ),
    Row("sentiment_imdb:minilm", "v5e:2x2", "a laptop", vocabulary(30_522, num_classes=2), 4_000),
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


def numbers(row: Row, found: Plan) -> dict[str, Any]:
    """What the file of JSON holds of a row."""
    return {
        "config": row.config,
        "topology": row.topology,
        "layout": found.layout_text,
        "num_params": found.num_params,
        "gib": round(found.peak_bytes / 2**30, 2),
        "hbm_gib": round(found.hbm_bytes / 2**30),
        "step_ms": round(1e3 * found.step_s, 1),
        "limit": found.limit,
        "mfu": round(found.mfu, 3),
        "hours": found.hours,
        "chip_hours": found.chip_hours,
    }


def cells(row: Row, of: dict[str, Any]) -> list[str]:
    """A line of the table, from those numbers."""
    return [
        f"`{row.config}`, {of['num_params'] / 1e6:,.1f} M",
        row.paper,
        row.topology,
        of["layout"],
        f"{of['gib']:.2f} of {of['hbm_gib']}",
        f"{of['step_ms']:,.1f}",
        of["limit"],
        f"{of['mfu']:.0%}",
        "" if of["hours"] is None else f"{of['hours']:,.2g}",
    ]


def main() -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", default="", help="regular expression on the configs' names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also all numbers")
    args = parser.parse_args()
    table = []
    print(INTRODUCTION)
    for line in (HEAD, ["---"] * len(HEAD)):
        print(f"| {' | '.join(line)} |")
    for row in ROWS:
        if not re.search(args.rows, row.config):
            continue
        print(f"{row.config} on {row.topology}", file=sys.stderr, flush=True)
        table.append(numbers(row, planned(row)))
        print(f"| {' | '.join(cells(row, table[-1]))} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


INTRODUCTION = """# Plans of the shipped configs

Made by `python benchmarks/plan_table.py --json docs/plans.json > docs/plans.md`, on a machine
without a TPU. Each config on a pod of about as many chips as the machine that its paper names;
where that is no TPU, or none is named, a pod that one would take. Memory is XLA's account of the
compiled step; times are a model and a lower bound, of the step alone: no input, no evaluation,
nothing measured. Each has its config's own mesh where that fits, else the best of
`zoo plan --mesh auto`.
"""

if __name__ == "__main__":
    main()
