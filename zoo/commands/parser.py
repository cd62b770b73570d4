"""The subcommands and their flags; light to import, so that `zoo --help` is instant."""

import argparse
from typing import NoReturn

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
from zoo.config import UserError
from zoo.config.flags import not_negative, path, positive


class Parser(argparse.ArgumentParser):
    """A parser that says in a line what is wrong with a command, as everything here does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def make_parser() -> Parser:
    """All subcommands and their flags."""
    text = "Train, evaluate and use Transformers in JAX, on any mesh."
    parser = Parser(prog="zoo", description=text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, add_flags, text in COMMANDS:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_flags(sub)
        flags = [flag for action in sub._actions for flag in action.option_strings]
        sub.set_defaults(run=run, flags=flags)
    return parser


def _config_flag(sub: Parser, *, required: bool = True) -> None:
    text = "a config file or the name of a shipped one, FILE[:arg]; --config.KEY=VALUE changes it"
    sub.add_argument("--config", required=required, metavar="FILE[:arg]", help=text)


def _model_flags(sub: Parser) -> None:
    group = sub.add_mutually_exclusive_group(required=True)
    group.add_argument("--workdir", type=path, help="of a run; its best checkpoint is used")
    text = "WORKDIR/checkpoints/STEP, or weights as others publish them"
    group.add_argument("--weights", type=path, help=text)


def _json_flag(sub: Parser) -> None:
    sub.add_argument("--json", action="store_true", help="print JSON")


def _json_file_flag(sub: Parser) -> None:
    text = "print JSON, or write it to FILE"
    sub.add_argument("--json", nargs="?", const="-", metavar="FILE", help=text)


def _average_flag(sub: Parser) -> None:
    text = "use the mean of the workdir's last N checkpoints, or of N up to --weights"
    sub.add_argument("--average", type=positive, default=1, metavar="N", help=text)


def _list_flags(sub: Parser) -> None:
    sub.add_argument("what", nargs="?", choices=("models", "configs", "datasets"))
    _json_flag(sub)


def _train_flags(sub: Parser) -> None:
    _config_flag(sub)
    sub.add_argument("--workdir", type=path, required=True, help="where everything of the run goes")
    sub.add_argument(
        "--steps", type=not_negative, help="stop earlier, after this many steps in all"
    )


def _eval_flags(sub: Parser) -> None:
    _config_flag(sub, required=False)
    _model_flags(sub)
    sub.add_argument("--knn", type=positive, metavar="K", help="also k-NN on frozen features")
    sub.add_argument("--probe", action="store_true", help="also a linear probe on frozen features")
    for score in TEXT_SCORES:
        text = f"also {score} of texts by beam search, 4 beams, alpha 0.6"
        sub.add_argument(f"--{score.replace('_', '-')}", action="store_true", help=text)
    _average_flag(sub)
    _json_flag(sub)


def _predict_flags(sub: Parser) -> None:
    _model_flags(sub)
    sub.add_argument("images", type=path, nargs="+", metavar="IMAGE", help="PNG or JPEG files")
    sub.add_argument("--top", type=positive, default=5, help="classes to show (5)")
    _json_flag(sub)


def _fill_mask_flags(sub: Parser) -> None:
    _model_flags(sub)
    sub.add_argument("texts", nargs="+", metavar="TEXT", help="with [MASK] where a word is missing")
    sub.add_argument("--top", type=positive, default=5, help="words to show for each (5)")
    _json_flag(sub)


def _classify_text_flags(sub: Parser) -> None:
    _model_flags(sub)
    sub.add_argument("texts", nargs="+", metavar="TEXT", help="two by two where pairs are compared")
    text = "texts two by two; published weights do not say that they compare, a run does"
    sub.add_argument("--pairs", action="store_true", help=text)
    sub.add_argument("--top", type=positive, default=5, help="classes to show (5)")
    _json_flag(sub)


def _generate_flags(sub: Parser) -> None:
    _model_flags(sub)
    sub.add_argument("texts", nargs="+", metavar="TEXT", help="what to go on from")
    sub.add_argument(
        "--max-tokens", type=positive, default=64, help="at most so many new ones (64)"
    )
    group = sub.add_mutually_exclusive_group()
    group.add_argument("--greedy", action="store_true", help="always the likeliest token")
    group.add_argument("--temperature", type=float, default=1.0, help="below 1 is less random (1)")
    sub.add_argument("--top-k", type=int, default=0, help="of the likeliest K tokens only")
    sub.add_argument("--top-p", type=float, default=1.0, help="of the likeliest with this much")
    sub.add_argument("--seed", type=not_negative, default=0, help="another seed, another text (0)")
    _json_flag(sub)


def _translate_flags(sub: Parser) -> None:
    _model_flags(sub)
    sub.add_argument("texts", nargs="+", metavar="TEXT", help="or -, for lines from stdin")
    sub.add_argument("--beam", type=positive, default=4, help="sequences searched at once (4)")
    sub.add_argument("--alpha", type=float, default=0.6, help="of the length penalty (0.6)")
    _average_flag(sub)
    _json_flag(sub)


def _bench_flags(sub: Parser) -> None:
    _config_flag(sub)
    sub.add_argument("--steps", type=positive, default=20, help="steps to measure (20)")
    sub.add_argument("--json", metavar="FILE", help="also write the results there")


def _plan_flags(sub: Parser) -> None:
    _config_flag(sub)
    sub.add_argument("--topology", required=True, help="such as v5e:4x4, v6e:16x16, v5p:4x4x4")
    sub.add_argument("--slices", type=positive, metavar="N", help="of that topology (1)")
    text = "auto searches mesh, remat and microbatches; or sizes, such as data=4,fsdp=-1"
    sub.add_argument("--mesh", metavar="MESH", help=text)
    text = "a step of training (default) or of evaluation, or of writing a token more"
    choices = ("train", "evaluate", "decode")
    sub.add_argument("--program", choices=choices, default="train", help=text)
    text = "of the training split, for a run whose total is in epochs"
    sub.add_argument("--examples", type=positive, metavar="N", help=text)
    _json_file_flag(sub)
    sub.add_argument("--html", metavar="FILE", help="also a page with the roofline picture")


def _data_flags(sub: Parser) -> None:
    sub.add_argument("action", choices=("prepare", "info", "check", "export", "tokenizer"))
    sub.add_argument("name", metavar="NAME", help="digits, mnist, ..., folder, text, tfds:NAME")
    sub.add_argument("--dir", type=path, help="the dataset's files; default $ZOO_DATA_DIR/NAME")
    sub.add_argument("--out", type=path, help="where prepare, export and tokenizer put their files")
    sub.add_argument("--split", action="append", help="only this split; may be repeated")
    sub.add_argument("--count", type=positive, help="export: how many examples (3)")
    kinds = "tokenizer: wordpiece (BERT's), bpe (GPT-2's) or sentencepiece (T5's)"
    sub.add_argument("--kind", help=kinds)
    sub.add_argument("--vocab-size", type=positive, help="tokenizer: how many tokens (8000)")
    sub.add_argument(
        "--field", action="append", help="tokenizer: of an example (text); may be repeated"
    )
    sub.add_argument(
        "--lowercase",
        action=argparse.BooleanOptionalAction,
        help="tokenizer: whether capitals go (in wordpiece they do)",
    )
    sub.add_argument(
        "--sentinels", type=positive, help="tokenizer: T5's <extra_id_0> ... to add (0)"
    )
    _json_flag(sub)


def _convert_flags(sub: Parser) -> None:
    text = "a directory or file of weights as others publish them, or a workdir"
    sub.add_argument("--from", dest="source", type=path, required=True, metavar="PATH", help=text)
    text = "a directory that does not exist yet"
    sub.add_argument("--to", dest="target", type=path, required=True, metavar="PATH", help=text)
    text = "of what is written: zoo (default; of a run hf), hf (Hugging Face), timm, npz"
    sub.add_argument("--format", choices=("hf", "timm", "npz", "zoo"), help=text)
    choices = ("float32", "bfloat16", "float16")
    text = "of what is written (float32)"
    sub.add_argument("--dtype", choices=choices, default="float32", help=text)
    text = "of a file of hf at most, such as 500MB; larger models become several (5GB)"
    sub.add_argument("--shard-size", metavar="SIZE", help=text)
    _json_flag(sub)


def _inspect_flags(sub: Parser) -> None:
    sub.add_argument(
        "path", metavar="PATH", help="a workdir, WORKDIR/checkpoints/STEP, or published weights"
    )
    _json_flag(sub)


def _compare_flags(sub: Parser) -> None:
    text = "of a run, or a directory of such; those that differ in the seed alone are one group"
    sub.add_argument("workdirs", type=path, nargs="+", metavar="WORKDIR", help=text)
    text = "as in metrics.jsonl, such as test/accuracy or loss; may be repeated (the usual ones)"
    sub.add_argument("--metric", action="append", metavar="NAME", help=text)
    _json_file_flag(sub)
    sub.add_argument("--html", metavar="FILE", help="also a page with curves")


def _reproduce_flags(sub: Parser) -> None:
    sub.add_argument("rungs", nargs="*", metavar="NAME", help="a rung; without one they are listed")
    text = "small: cut to a minute of one core, on real data; without a NAME all rungs"
    sub.add_argument("--scale", choices=("full", "small"), default="full", help=text)
    sub.add_argument("--seeds", type=positive, default=1, metavar="N", help="runs, seeds 0 to N-1")
    text = "where runs go, each in its own folder (runs/reproduce)"
    sub.add_argument("--workdir", type=path, default="runs/reproduce", help=text)
    text = "the file that each run adds a line to (docs/results.jsonl of the project)"
    sub.add_argument("--results", type=path, metavar="FILE", help=text)
    text = "write docs/ladder.md and the README's table from the file of results"
    sub.add_argument("--docs", action="store_true", help=text)
    _json_flag(sub)


# name, what it does, its flags, and its line of help
COMMANDS = (
    ("list", run_list, _list_flags, "models, configs and datasets that there are"),
    (
        "train",
        run_train,
        _train_flags,
        "train a config; resumes where the workdir holds a checkpoint",
    ),
    ("eval", run_eval, _eval_flags, "evaluate a trained model on every split of its config"),
    ("predict", run_predict, _predict_flags, "classify images"),
    ("fill-mask", run_fill_mask, _fill_mask_flags, "guess the words behind [MASK] in texts"),
    ("classify-text", run_classify_text, _classify_text_flags, "classify texts, or pairs of texts"),
    ("generate", run_generate, _generate_flags, "write texts on, with a language model"),
    ("translate", run_translate, _translate_flags, "texts by a sequence-to-sequence model"),
    (
        "bench",
        run_bench,
        _bench_flags,
        "measure a config: the step alone, the input alone, both together",
    ),
    ("plan", run_plan, _plan_flags, "compile a config's step for a TPU pod: memory, time, links"),
    (
        "data",
        run_data,
        _data_flags,
        "prepare, describe, check or export a dataset, or learn a tokenizer from its text",
    ),
    (
        "convert",
        run_convert,
        _convert_flags,
        "weights from one format to another, every array checked",
    ),
    ("inspect", run_inspect, _inspect_flags, "arrays of a checkpoint or of weights: names, shapes"),
    (
        "compare",
        run_compare,
        _compare_flags,
        "runs side by side: final metrics, configs' differences, curves",
    ),
    (
        "reproduce",
        run_reproduce,
        _reproduce_flags,
        "the ladder of published results: list it, or run rungs of it and compare",
    ),
)
