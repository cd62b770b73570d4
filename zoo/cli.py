"""The `zoo` command. Each subcommand imports what it needs, so that `zoo --help` is instant."""

import argparse
import errno
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo.config import UserError, load_config
from zoo.config.flags import positive
from zoo.config.load import CONFIG_DIR, nearest

# Besides these, 69: another host did not come, left or hangs.
EXIT_DONE, EXIT_USER, EXIT_STOPPED, EXIT_INTERRUPTED = 0, 2, 75, 130
# Those of zoo.inference.text_scores, which is slow to import.
TEXT_SCORES = ("bleu", "bleu_lowercase", "bleu_compound", "chrf", "rouge")
# What a file system refuses, at whatever place: not our fault.
REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit code: one of those above; 1 is a traceback."""
    argv, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    args, unknown = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.WARNING, format="zoo: %(message)s")
    # Orbax logs tracebacks of what it also raises.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        if unknown:
            flags = [*args.flags, "--config.KEY"]
            raise UserError(f"unknown argument {unknown[0]!r}{nearest(unknown[0], flags)}")
        if overrides and "--config" not in args.flags and not getattr(args, "rungs", None):
            raise UserError("--config.KEY=VALUE changes a config, and this command takes none")
        args.overrides = overrides
        return args.run(args) or EXIT_DONE
    except (UserError, KeyboardInterrupt, OSError) as error:
        code = complain(error)
        if code is None:
            raise
        return code


def complain(error: BaseException) -> int | None:
    """Says in a line what went wrong; returns the exit code, None where the fault is ours."""
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    if isinstance(error, UserError):
        print(f"zoo: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        print("zoo: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    if isinstance(error, OSError) and error.errno in REFUSALS:
        where = f"{error.filename}: " if error.filename else ""
        print(f"zoo: {where}{error.strerror}", file=sys.stderr)
        return EXIT_USER
    return None


def split_overrides(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes `--config.KEY=VALUE` and `--config.KEY VALUE` out of the arguments."""
    rest, overrides, words = [], {}, iter(argv)
    for word in words:
        if not word.startswith("--config."):
            rest.append(word)
            continue
        key, equals, value = word.removeprefix("--config.").partition("=")
        overrides[key] = value if equals else next(words, "")
    return rest, overrides


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


def show(value: Any, lines: Sequence[str], as_json: bool) -> None:
    """Results go to stdout: lines for people, or one JSON document."""
    print(json.dumps(value) if as_json else "\n".join(lines))


def exact(value: float | int | str) -> str:
    """A float to six digits, anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def check_folder(name: str) -> None:
    """Raises a UserError where a file cannot be written for want of its folder."""
    if not Path(name).parent.is_dir():
        raise UserError(f"cannot write {name}: there is no such folder")


def run_list(args: argparse.Namespace) -> None:
    """zoo list [models|configs|datasets]."""
    from zoo.experiment import listing

    found = listing.catalog(args.what)
    show(found, listing.tables(found), args.json)


def run_train(args: argparse.Namespace) -> int:
    """zoo train."""
    config = load_config(args.config, args.overrides)
    from zoo.sharding.hosts import joined

    with joined(complain):
        from zoo.experiment.run import run

        outcome = run(config, Path(args.workdir), stop_at=args.steps)
        for line in outcome.lines:
            print(line, flush=True)
    return EXIT_STOPPED if outcome.stopped_by_signal else EXIT_DONE


def run_eval(args: argparse.Namespace) -> None:
    """zoo eval."""
    config = load_config(args.config, args.overrides) if args.config else None
    from zoo.experiment.evaluate import evaluate_weights

    metrics = evaluate_weights(
        args.weights or args.workdir,
        config,
        neighbours=args.knn,
        probe=args.probe,
        average=args.average,
        overrides=args.overrides,
        scores=tuple(score for score in TEXT_SCORES if getattr(args, score)),
    )
    show(metrics, [f"{name:<28} {exact(value)}" for name, value in metrics.items()], args.json)


def run_predict(args: argparse.Namespace) -> None:
    """zoo predict."""
    from zoo.inference.predict import load_classifier

    model = load_classifier(args.weights or args.workdir)
    found = [{"image": path, "top": model.predict(path, top=args.top)} for path in args.images]
    lines = [
        f"{one['image']}: " + ", ".join(f"{t['class']} {t['probability']:.1%}" for t in one["top"])
        for one in found
    ]
    show(found, lines, args.json)


def run_fill_mask(args: argparse.Namespace) -> None:
    """zoo fill-mask."""
    from zoo.inference.bert import load_filler

    filler = load_filler(args.weights or args.workdir)
    found = [{"given": text, **filler.fill(text, top=args.top)} for text in args.texts]
    lines = []
    for one in found:
        lines.append(one["text"])
        lines += [
            "  " + ", ".join(f"{t['token']} {t['probability']:.1%}" for t in mask)
            for mask in one["masks"]
        ]
    show(found, lines, args.json)


def run_classify_text(args: argparse.Namespace) -> None:
    """zoo classify-text."""
    from zoo.inference.bert import load_text_classifier

    model = load_text_classifier(args.weights or args.workdir)
    found = [
        {"texts": texts, **model.classify(*texts, top=args.top)}
        for texts in model.group(args.texts, pairs=args.pairs)
    ]
    lines = [
        f"{' | '.join(one['texts'])}: "
        + (
            f"{one['score']:.4g}"
            if "score" in one
            else ", ".join(f"{t['class']} {t['probability']:.1%}" for t in one["top"])
        )
        for one in found
    ]
    show(found, lines, args.json)


def run_generate(args: argparse.Namespace) -> None:
    """zoo generate."""
    from zoo.inference.decoding import Sampling
    from zoo.inference.generate import load_language_model

    sampling = Sampling(0.0 if args.greedy else args.temperature, args.top_k, args.top_p)
    options = {"max_tokens": args.max_tokens, "sampling": sampling, "seed": args.seed}
    model = load_language_model(args.weights or args.workdir)
    if len(args.texts) == 1 and not args.json:
        for piece in itertools.chain(args.texts, model.stream(args.texts[0], **options), ["\n"]):
            print(piece, end="", flush=True)
        return
    found = model.generate(args.texts, **options)
    show(found, [one["prompt"] + one["text"] for one in found], args.json)


def run_translate(args: argparse.Namespace) -> None:
    """zoo translate."""
    from zoo.inference.translate import load_translator

    path = args.weights or args.workdir
    model = load_translator(path, beams=args.beam, alpha=args.alpha, average=args.average)
    given = ([line.rstrip("\n") for line in sys.stdin] if t == "-" else [t] for t in args.texts)
    found = model.translate([text for texts in given for text in texts])
    show(found, [one["target"] for one in found], args.json)


def run_bench(args: argparse.Namespace) -> None:
    """zoo bench."""
    config = load_config(args.config, args.overrides)
    from zoo.experiment.bench import bench

    if args.json:
        check_folder(args.json)
    found = bench(config, steps=args.steps)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n")
    print("\n".join(f"{name:<34} {exact(value)}" for name, value in found.items()))


def run_plan(args: argparse.Namespace) -> int:
    """zoo plan."""
    auto = args.mesh == "auto"
    if auto and args.program != "train":
        raise UserError(f"--mesh auto searches for training: leave --program {args.program} out")
    overrides = dict(args.overrides)
    for size in args.mesh.split(",") if args.mesh and not auto else ():
        axis, equals, value = size.partition("=")
        if not equals:
            raise UserError(f"--mesh {args.mesh!r}: write auto, or sizes such as data=4,fsdp=-1")
        overrides[f"mesh.{axis.strip()}"] = value
    config = load_config(args.config, overrides)
    for name in (args.json, args.html):
        if name and name != "-":
            check_folder(name)
    from zoo.planning.lines import plan_lines, search_lines
    from zoo.planning.plan import plan, to_dict

    pod = {"slices": args.slices, "examples": args.examples}
    if auto:
        from zoo.planning.search import search

        say = lambda text: print(f"compiling {text}", file=sys.stderr)
        searched = search(config, args.topology, **pod, say=say)
        lines, plans = search_lines(searched), searched.plans
        found = {
            "considered": searched.considered,
            "plans": [to_dict(one) for one in plans],
            "too_large": [one._asdict() for one in searched.too_large],
        }
    else:
        plans = (plan(config, args.topology, **pod, program=args.program),)
        lines, found = plan_lines(plans[0]), to_dict(plans[0])
    if args.html:
        from zoo.experiment.plan_page import write_page

        write_page(Path(args.html), plans, title=args.config)
    if args.json and args.json != "-":
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n")
    show(found, lines, args.json == "-")
    return EXIT_DONE if plans and plans[0].fits else EXIT_USER


def run_compare(args: argparse.Namespace) -> None:
    """zoo compare."""
    from zoo.experiment.compare import compare, to_dict
    from zoo.experiment.compare_lines import compare_lines

    for name in (args.json, args.html):
        if name and Path(name).is_dir():
            raise UserError(f"cannot write {name}, a directory: name runs before --json and --html")
        if name and name != "-":
            check_folder(name)
    compared = compare(args.workdirs, args.metric or ())
    found = to_dict(compared)
    if args.html:
        from zoo.experiment.compare_page import write_page

        write_page(Path(args.html), compared)
    if args.json and args.json != "-":
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n")
    show(found, compare_lines(compared), args.json == "-")


def run_data(args: argparse.Namespace) -> int:
    """zoo data prepare | info | check | export | tokenizer."""
    if args.action in ("prepare", "export", "tokenizer") and not args.out:
        raise UserError(f"zoo data {args.action} needs --out DIR")
    if args.action == "tokenizer" or (args.action == "info" and args.name == "text"):
        return run_text_data(args)
    from zoo.config.data import ImageData
    from zoo.data import export, prepare

    data = ImageData(name=args.name, dir=args.dir)
    if args.action == "prepare":
        found = prepare.prepare(data, Path(args.out), args.split)
    elif args.action == "info":
        found = prepare.info(data)
    elif args.action == "export":
        split = (args.split or ["test"])[0]
        found = export.export(data, Path(args.out), split=split, count=args.count)
    else:
        splits = args.split or prepare.list_splits(data)
        found = {"splits": [prepare.check(data, split) for split in splits]}
    show(found, [json.dumps(found, indent=2)], args.json)
    sound = args.action != "check" or all(one["ok"] for one in found["splits"])
    return EXIT_DONE if sound else EXIT_USER


def run_text_data(args: argparse.Namespace) -> int:
    """zoo data info text, zoo data tokenizer."""
    from zoo.config.data import TextData
    from zoo.data.text.records import field_texts, info
    from zoo.data.text.tokenizers import train_tokenizer

    data = TextData(name=args.name, dir=args.dir, tokenizer="")
    if args.action == "info":
        found = info(data)
    else:
        made = train_tokenizer(
            args.kind,
            field_texts(data, args.split or ["train"], args.field or ["text"]),
            args.vocab_size,
            args.out,
            lowercase=args.lowercase,
            sentinels=args.sentinels,
        )
        found = {"dir": args.out, "kind": made.kind, "size": made.size, "hash": made.fingerprint}
    show(found, [json.dumps(found, indent=2)], args.json)
    return EXIT_DONE


def run_convert(args: argparse.Namespace) -> None:
    """zoo convert."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # needs no accelerator, and must not take one
    from zoo.experiment.convert import convert

    options = {"dtype": args.dtype, "shard_size": args.shard_size}
    found, lines = convert(args.source, args.target, args.format, **options)
    show(found, lines, args.json)


def run_reproduce(args: argparse.Namespace) -> int:
    """zoo reproduce."""
    from zoo.reproduction import page
    from zoo.reproduction.ladder import LADDER, by_name
    from zoo.reproduction.results import RESULTS, read

    rungs = [by_name(name) for name in args.rungs]
    path = Path(args.results) if args.results else RESULTS
    if args.docs:
        written = page.write_docs(CONFIG_DIR.parent, read(path))
        show([str(one) for one in written], [str(one) for one in written], args.json)
        return EXIT_DONE
    if not rungs and args.scale == "full":
        found, lines = page.listing(read(path))
        show(found, lines, args.json)
        return EXIT_DONE
    from zoo.reproduction.reproduce import Place, reproduce_all

    outcome = reproduce_all(
        rungs or LADDER,
        Place(Path(args.workdir), path),
        scale=args.scale,
        seeds=args.seeds,
        changes=args.overrides,
    )
    show(outcome.found, outcome.lines, args.json)
    return outcome.code


def run_inspect(args: argparse.Namespace) -> None:
    """zoo inspect."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # needs no accelerator, and must not take one
    from zoo.experiment.inspect import inspect_weights

    found, lines = inspect_weights(args.path)
    show(found, lines, args.json)


if __name__ == "__main__":
    sys.exit(main())
