"""The subcommands and their flags; light to import, so that `zoo --help` is instant."""

import argparse
from collections.abc import Callable

from zoo.commands.run import (
    TEXT_SCORES,
    run_bench,
    run_classify_text,
    run_compare,
    run_convert,
    run_data,
    run_eval,
    run_fill_mask,
    run_generate,
    run_inspect,
    run_list,
    run_plan,
    run_predict,
    run_reproduce,
    run_train,
    run_translate,
)
from zoo.config.flags import positive


def make_parser() -> argparse.ArgumentParser:
    """All subcommands and their flags."""
    parser = argparse.ArgumentParser(
        prog="zoo", description="Train, evaluate and use Transformers in JAX, on any mesh."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    def config_flag(sub: argparse.ArgumentParser, *, required: bool) -> None:
        text = (
            "a config file or the name of a shipped one, FILE[:arg]; --config.KEY=VALUE changes it"
        )
        sub.add_argument("--config", required=required, metavar="FILE[:arg]", help=text)

    def model_flags(sub: argparse.ArgumentParser) -> None:
        group = sub.add_mutually_exclusive_group(required=True)
        group.add_argument("--workdir", help="of a run; its best checkpoint is used")
        text = "WORKDIR/checkpoints/STEP, or weights as others publish them"
        group.add_argument("--weights", help=text)

    def json_flag(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--json", action="store_true", help="print JSON")

    def average_flag(sub: argparse.ArgumentParser) -> None:
        text = "use the mean of the workdir's last N checkpoints, or of N up to --weights"
        sub.add_argument("--average", type=positive, default=1, metavar="N", help=text)

    sub = command("list", run_list, "models, configs and datasets that there are")
    sub.add_argument("what", nargs="?", choices=("models", "configs", "datasets"))
    json_flag(sub)

    sub = command(
        "train", run_train, "train a config; resumes where the workdir holds a checkpoint"
    )
    config_flag(sub, required=True)
    sub.add_argument("--workdir", required=True, help="where everything of the run goes")
    sub.add_argument("--steps", type=int, help="stop earlier, after this many steps in all")

    sub = command("eval", run_eval, "evaluate a trained model on every split of its config")
    config_flag(sub, required=False)
    model_flags(sub)
    sub.add_argument("--knn", type=positive, metavar="K", help="also k-NN on frozen features")
    sub.add_argument("--probe", action="store_true", help="also a linear probe on frozen features")
    for score in TEXT_SCORES:
        text = f"also {score} of texts by beam search, 4 beams, alpha 0.6"
        sub.add_argument(f"--{score.replace('_', '-')}", action="store_true", help=text)
    average_flag(sub)
    json_flag(sub)

    sub = command("predict", run_predict, "classify images")
    model_flags(sub)
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG files")
    sub.add_argument("--top", type=positive, default=5, help="classes to show (5)")
    json_flag(sub)

    sub = command("fill-mask", run_fill_mask, "guess the words behind [MASK] in texts")
    model_flags(sub)
    sub.add_argument("texts", nargs="+", metavar="TEXT", help="with [MASK] where a word is missing")
    sub.add_argument("--top", type=positive, default=5, help="words to show for each (5)")
    json_flag(sub)

    sub = command("classify-text", run_classify_text, "classify texts, or pairs of texts")
    model_flags(sub)
    sub.add_argument("texts", nargs="+", metavar="TEXT", help="two by two where pairs are compared")
    text = "texts two by two; published weights do not say that they compare, a run does"
    sub.add_argument("--pairs", action="store_true", help=text)
    sub.add_argument("--top", type=positive, default=5, help="classes to show (5)")
    json_flag(sub)

    sub = command("generate", run_generate, "write texts on, with a language model")
    model_flags(sub)
    sub.add_argument("texts", nargs="+", metavar="TEXT", help="what to go on from")
    sub.add_argument(
        "--max-tokens", type=positive, default=64, help="at most so many new ones (64)"
    )
    group = sub.add_mutually_exclusive_group()
    group.add_argument("--greedy", action="store_true", help="always the likeliest token")
    group.add_argument("--temperature", type=float, default=1.0, help="below 1 is less random (1)")
    sub.add_argument("--top-k", type=int, default=0, help="of the likeliest K tokens only")
    sub.add_argument("--top-p", type=float, default=1.0, help="of the likeliest with this much")
    sub.add_argument("--seed", type=int, default=0, help="another seed, another text (0)")
    json_flag(sub)

    sub = command("translate", run_translate, "texts by a sequence-to-sequence model")
    model_flags(sub)
    sub.add_argument("texts", nargs="+", metavar="TEXT", help="or -, for lines from stdin")
    sub.add_argument("--beam", type=positive, default=4, help="sequences searched at once (4)")
    sub.add_argument("--alpha", type=float, default=0.6, help="of the length penalty (0.6)")
    average_flag(sub)
    json_flag(sub)

    sub = command(
        "bench", run_bench, "measure a config: the step alone, the input alone, both together"
    )
    config_flag(sub, required=True)
    sub.add_argument("--steps", type=positive, default=20, help="steps to measure (20)")
    sub.add_argument("--json", metavar="FILE", help="also write the results there")

    sub = command("plan", run_plan, "compile a config's step for a TPU pod: memory, time, links")
    config_flag(sub, required=True)
    sub.add_argument("--topology", required=True, help="such as v5e:4x4, v6e:16x16, v5p:4x4x4")
    sub.add_argument("--slices", type=positive, metavar="N", help="of that topology (1)")
    text = "auto searches mesh, remat and microbatches; or sizes, such as data=4,fsdp=-1"
    sub.add_argument("--mesh", metavar="MESH", help=text)
    text = "a step of training (default) or of evaluation, or of writing a token more"
    choices = ("train", "evaluate", "decode")
    sub.add_argument("--program", choices=choices, default="train", help=text)
    text = "of the training split, for a run whose total is in epochs"
    sub.add_argument("--examples", type=positive, metavar="N", help=text)
    text = "print JSON, or write it to FILE"
    sub.add_argument("--json", nargs="?", const="-", metavar="FILE", help=text)
    sub.add_argument("--html", metavar="FILE", help="also a page with the roofline picture")

    text = "prepare, describe, check or export a dataset, or learn a tokenizer from its text"
    sub = command("data", run_data, text)
    sub.add_argument("action", choices=("prepare", "info", "check", "export", "tokenizer"))
    sub.add_argument("name", metavar="NAME", help="digits, mnist, ..., folder, text, tfds:NAME")
    sub.add_argument("--dir", help="the dataset's files; default $ZOO_DATA_DIR/NAME")
    sub.add_argument("--out", help="where prepare, export and tokenizer put their files")
    sub.add_argument("--split", action="append", help="only this split; may be repeated")
    sub.add_argument("--count", type=positive, default=3, help="export: how many examples (3)")
    kinds = "tokenizer: wordpiece (BERT's), bpe (GPT-2's) or sentencepiece (T5's)"
    sub.add_argument("--kind", default="wordpiece", help=kinds)
    sub.add_argument(
        "--vocab-size", type=positive, default=8000, help="tokenizer: how many tokens (8000)"
    )
    sub.add_argument(
        "--field", action="append", help="tokenizer: of an example (text); may be repeated"
    )
    sub.add_argument(
        "--lowercase",
        action=argparse.BooleanOptionalAction,
        help="tokenizer: whether capitals go (in wordpiece they do)",
    )
    sub.add_argument(
        "--sentinels", type=positive, default=0, help="tokenizer: T5's <extra_id_0> ... to add (0)"
    )
    json_flag(sub)

    sub = command("convert", run_convert, "weights from one format to another, every array checked")
    text = "a directory or file of weights as others publish them, or a workdir"
    sub.add_argument("--from", dest="source", required=True, metavar="PATH", help=text)
    text = "a directory that does not exist yet"
    sub.add_argument("--to", dest="target", required=True, metavar="PATH", help=text)
    text = "of what is written: zoo (default; of a run hf), hf (Hugging Face), timm, npz"
    sub.add_argument("--format", choices=("hf", "timm", "npz", "zoo"), help=text)
    choices = ("float32", "bfloat16", "float16")
    text = "of what is written (float32)"
    sub.add_argument("--dtype", choices=choices, default="float32", help=text)
    text = "of a file of hf at most, such as 500MB; larger models become several (5GB)"
    sub.add_argument("--shard-size", metavar="SIZE", help=text)
    json_flag(sub)

    sub = command("inspect", run_inspect, "arrays of a checkpoint or of weights: names, shapes")
    sub.add_argument(
        "path", metavar="PATH", help="a workdir, WORKDIR/checkpoints/STEP, or published weights"
    )
    json_flag(sub)

    text = "runs side by side: final metrics, configs' differences, curves"
    sub = command("compare", run_compare, text)
    text = "of a run, or a directory of such; those that differ in the seed alone are one group"
    sub.add_argument("workdirs", nargs="+", metavar="WORKDIR", help=text)
    text = "as in metrics.jsonl, such as test/accuracy or loss; may be repeated (the usual ones)"
    sub.add_argument("--metric", action="append", metavar="NAME", help=text)
    text = "print JSON, or write it to FILE"
    sub.add_argument("--json", nargs="?", const="-", metavar="FILE", help=text)
    sub.add_argument("--html", metavar="FILE", help="also a page with curves")

    text = "the ladder of published results: list it, or run rungs of it and compare"
    sub = command("reproduce", run_reproduce, text)
    sub.add_argument("rungs", nargs="*", metavar="NAME", help="a rung; without one they are listed")
    text = "small: cut to a minute of one core, on real data; without a NAME all rungs"
    sub.add_argument("--scale", choices=("full", "small"), default="full", help=text)
    sub.add_argument("--seeds", type=positive, default=1, metavar="N", help="runs, seeds 0 to N-1")
    text = "where runs go, each in its own folder (runs/reproduce)"
    sub.add_argument("--workdir", default="runs/reproduce", help=text)
    text = "the file that each run adds a line to (docs/results.jsonl of the project)"
    sub.add_argument("--results", metavar="FILE", help=text)
    text = "write docs/ladder.md and the README's table from the file of results"
    sub.add_argument("--docs", action="store_true", help=text)
    json_flag(sub)

    for sub in commands.choices.values():
        flags = [flag for action in sub._actions for flag in action.option_strings]
        sub.set_defaults(flags=flags)
    return parser
