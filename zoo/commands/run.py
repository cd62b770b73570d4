"""One short function a subcommand, which imports what it needs when it runs."""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.commands.exits import EXIT_DONE, EXIT_STOPPED, EXIT_USER, complain
from zoo.config import UserError, load_config
from zoo.config.load import CONFIG_DIR

# Those of zoo.inference.text_scores, which is slow to import.
TEXT_SCORES = ("bleu", "bleu_lowercase", "bleu_compound", "chrf", "rouge", "exact_match")


def show(value: Any, lines: Sequence[str], as_json: bool) -> None:
    """Results go to stdout: lines for people, or one JSON document."""
    print(json.dumps(value) if as_json else "\n".join(lines))


def exact(value: float | int | str) -> str:
    """A float to six digits, anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def check_target(name: str | None) -> None:
    """Raises a UserError where a file that is asked for cannot be written; - is no file."""
    if name in (None, "-"):
        return
    if Path(name).is_dir():
        raise UserError(f"cannot write {name}: it is a directory, give a file")
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

    check_target(args.json)
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
    check_target(args.json)
    check_target(args.html)
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
        check_target(name)
    compared = compare(args.workdirs, args.metric or ())
    found = to_dict(compared)
    if args.html:
        from zoo.experiment.compare_page import write_page

        write_page(Path(args.html), compared)
    if args.json and args.json != "-":
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n")
    show(found, compare_lines(compared), args.json == "-")


# Of each action of zoo data, besides --dir and --json.
DATA_FLAGS = {
    "prepare": ("out", "split"),
    "info": (),
    "check": ("split",),
    "export": ("out", "split", "count"),
    "tokenizer": ("out", "split", "kind", "vocab_size", "field", "lowercase", "sentinels"),
}


def run_data(args: argparse.Namespace) -> None:
    """zoo data prepare | info | check | export | tokenizer."""
    for name in {name for names in DATA_FLAGS.values() for name in names}:
        if getattr(args, name) is not None and name not in DATA_FLAGS[args.action]:
            raise UserError(f"zoo data {args.action} takes no --{name.replace('_', '-')}")
    if args.action in ("prepare", "export", "tokenizer") and not args.out:
        raise UserError(f"zoo data {args.action} needs --out DIR")
    if args.action == "tokenizer" or (args.action == "info" and args.name == "text"):
        run_text_data(args)
        return
    from zoo.config.data import ImageData
    from zoo.data import export, prepare

    data = ImageData(name=args.name, dir=args.dir)
    if args.action == "prepare":
        found = prepare.prepare(data, Path(args.out), args.split)
    elif args.action == "info":
        found = prepare.info(data)
    elif args.action == "export":
        split, *others = args.split or ["test"]
        if others:
            raise UserError("zoo data export writes examples of one split: give --split once")
        found = export.export(data, Path(args.out), split=split, count=args.count or 3)
    else:
        splits = args.split or prepare.list_splits(data)
        found = {"splits": [prepare.check(data, split) for split in splits]}
    show(found, [json.dumps(found, indent=2)], args.json)
    if args.action == "check" and not all(split["ok"] for split in found["splits"]):
        bad = [one for split in found["splits"] for one in split["unreadable"]]
        raise UserError(f"{len(bad)} cannot be read, first {bad[0]['name']}: {bad[0]['reason']}")


def run_text_data(args: argparse.Namespace) -> None:
    """zoo data info text, zoo data tokenizer."""
    from zoo.config.data import TextData
    from zoo.data.text.records import field_texts, info
    from zoo.data.text.tokenizers import train_tokenizer

    data = TextData(name=args.name, dir=args.dir, tokenizer="")
    if args.action == "info":
        found = info(data)
    else:
        made = train_tokenizer(
            args.kind or "wordpiece",
            field_texts(data, args.split or ["train"], args.field or ["text"]),
            args.vocab_size or 8000,
            args.out,
            lowercase=args.lowercase,
            sentinels=args.sentinels or 0,
        )
        found = {"dir": args.out, "kind": made.kind, "size": made.size, "hash": made.fingerprint}
    show(found, [json.dumps(found, indent=2)], args.json)


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
    known = read(path)
    changed = rungs or args.overrides or args.scale != "full"
    if args.docs and changed:
        raise UserError("--docs writes pages and runs nothing: leave all but --results out")
    if args.results and not path.exists() and not changed:
        raise UserError(f"there is no file of results {path}")
    if args.docs:
        written = page.write_docs(CONFIG_DIR.parent, known)
        show([str(one) for one in written], [str(one) for one in written], args.json)
        return EXIT_DONE
    if not rungs and args.scale == "full":
        found, lines = page.listing(known)
        show(found, lines, args.json)
        return EXIT_DONE
    from zoo.sharding.hosts import joined

    with joined(complain):
        from zoo.reproduction.reproduce import Place, reproduce_all

        outcome = reproduce_all(
            rungs or LADDER,
            Place(Path(args.workdir), path),
            scale=args.scale,
            seeds=args.seeds,
            changes=args.overrides,
        )
        if outcome.lines:  # on one host
            show(outcome.found, outcome.lines, args.json)
    return outcome.code


def run_inspect(args: argparse.Namespace) -> None:
    """zoo inspect."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # needs no accelerator, and must not take one
    from zoo.experiment.inspect import inspect_weights

    found, lines = inspect_weights(args.path)
    show(found, lines, args.json)
