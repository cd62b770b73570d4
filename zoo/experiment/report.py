"""`report.html`: one page that tells how a run went, with nothing to load from elsewhere."""

import json
import math
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from zoo.config import UserError
from zoo.experiment.charts import Series, chart
from zoo.experiment.history import (
    History,
    eval_splits,
    finite_values,
    read_history,
    training_seconds,
)
from zoo.experiment.numbers import duration, exact_number, percent
from zoo.experiment.pages import HERE, render
from zoo.experiment.pictures import heat_uri, image_uri
from zoo.experiment.samples import read_samples

MAX_MATRIX = 30  # classes; beyond, the matrix becomes a table of the pairs most confused
MAX_PAIRS = 20
# Curves: title, metric, unit. An evaluation's metric of the same name joins the training's.
CHARTS = (
    ("Loss", "loss", ""),
    ("Accuracy", "accuracy", "%"),
    ("Bits a byte", "bits_per_byte", ""),
    ("Masked words guessed", "masked_lm_accuracy", "%"),
    ("Next sentences guessed", "next_sentence_accuracy", "%"),
    ("F1", "f1", "%"),
    ("Learning rate", "learning_rate", ""),
    ("Gradient norm", "grad_norm", ""),
    ("Examples per second", "examples_per_second", ""),
    ("Tokens per second", "tokens_per_second", ""),
)
# Kind of data -> the metric that says most of a model, its name in a sentence, and its unit. What
# is not here is classified: its accuracy is a number of examples.
HEADLINES = {
    "lm": ("bits_per_byte", "bits a byte of text", ""),
    "masked_lm": ("masked_lm_accuracy", "of the masked words guessed", "%"),
    "span_corruption": (
        "accuracy",
        "of the missing tokens guessed, each after the ones before",
        "%",
    ),
    "seq2seq": (
        "accuracy",
        "of the target's tokens guessed, each after the right ones before",
        "%",
    ),
    "token_classification": ("f1", "F1 of the entities", "%"),
    "question_answering": ("f1", "F1 of the answers", "%"),
}
FAMILIES = {
    "vit": "ViT",
    "bert": "BERT",
    "decoder": "Language model",
    "transformer": "Encoder-decoder",
}


@dataclass(frozen=True)
class Mistake:
    """An example that the model got wrong."""

    image: UInt8[np.ndarray, "rows cols C"]
    truth: int
    prediction: int
    probability: float  # of the prediction
    truth_probability: float
    name: str  # a file name, or "test[17]"


@dataclass(frozen=True)
class AttentionMap:
    """Where the model looks in one image."""

    image: UInt8[np.ndarray, "rows cols C"]
    heat: Float[np.ndarray, "patch_rows patch_cols"]  # 0 to 1
    truth: int
    prediction: int
    name: str


@dataclass(frozen=True)
class ReportArtifacts:
    """What an evaluation of the finished model found on one split."""

    split: str
    classes: tuple[str, ...]
    # Rows are the truth, columns the prediction; None where there are too many classes to count.
    confusion: Int[np.ndarray, "classes classes"] | None
    mistakes: tuple[Mistake, ...]
    attention: tuple[AttentionMap, ...]
    metrics: dict[str, float]  # of the split: accuracy, loss, count, ...
    num_params: int
    device: str
    command: str  # as it was typed


def write_report(workdir: Path, *, artifacts: ReportArtifacts | None) -> Path:
    """Writes `workdir/report.html` from `config.json`, `metrics.jsonl` and the artifacts.

    The page shows what there is: a run that was cut short has no artifacts, and perhaps no metrics.

    Raises:
      UserError: `workdir` holds no `config.json`.
    """
    try:
        config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{workdir} holds no config.json: it is not the --workdir of a run"
        ) from None
    name = workdir.resolve().name
    history, unreadable = read_history(workdir / "metrics.jsonl")
    page = render(
        "report.html",
        {"percent": percent, "number": exact_number},
        script=(HERE / "report.js").read_text(encoding="utf-8"),
        title=run_title(config),
        workdir=name,
        again=shlex.quote(f"../{name}-again"),
        result=headline(config, history, artifacts),
        samples=sample_cards(read_samples(workdir)),
        facts=facts(config, history, artifacts),
        charts=[c for spec in CHARTS if (c := _chart(history, *spec))],
        unreadable=unreadable,
        artifacts=artifacts,
        confusion=confusion_view(artifacts) if artifacts else {},
        mistakes=[_picture(m, artifacts) for m in artifacts.mistakes] if artifacts else [],
        attention=[_picture(a, artifacts) for a in artifacts.attention] if artifacts else [],
        config=json.dumps(config, indent=2, ensure_ascii=False),
    )
    path = workdir / "report.html"
    # Never half a page: a reader may reload while a run goes on.
    path.with_suffix(".tmp").write_text(page, encoding="utf-8", errors="replace")
    os.replace(path.with_suffix(".tmp"), path)
    return path


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927, JASA 22:209-212).

    Unlike the textbook p ± 1.96 s it stays within 0 and 1, and keeps its promise near them.
    """
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    p = correct / count
    centre = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def run_title(config: dict[str, Any]) -> str:
    """`ViT-Ti/16 on cifar10`."""
    model = config.get("model", {})
    family = FAMILIES.get(model.get("family"), str(model.get("family", "Model")))
    size = f"-{model['size']}" if model.get("size") else ""
    data = config.get("data", {})
    name = Path(data["dir"]).name if data.get("name") == "text" and data.get("dir") else None
    return f"{family}{size} on {name or data.get('name')}"


def sample_cards(samples: dict[int, list[dict[str, str]]]) -> list[dict[str, Any]]:
    """For each example what the model said at first, half-way and in the end."""
    steps = sorted(samples)
    shown = sorted({steps[i] for i in (0, len(steps) // 2, -1)}) if steps else []
    return [
        {**last, "said": [(step, samples[step][i]["said"]) for step in shown]}
        for i, last in enumerate(samples[steps[-1]] if steps else [])
    ]


def headline(
    config: dict[str, Any], history: History, artifacts: ReportArtifacts | None
) -> dict[str, Any] | None:
    """The result: of the artifacts, else of the last evaluation that was logged."""
    if artifacts:
        split, metrics = artifacts.split, artifacts.metrics
    else:
        splits = eval_splits(history)
        if not splits:
            return None
        split, prefix = splits[0], f"eval/{splits[0]}/"
        last = {n: [*v.values()][-1] for n, v in history.items() if n.startswith(prefix)}
        metrics = {name.removeprefix(prefix): value for name, value in last.items()}
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    kind = config.get("data", {}).get("kind", "images")
    name, about, unit = HEADLINES.get(kind, ("accuracy", "", ""))
    if name in metrics and kind in HEADLINES:
        text = percent(metrics[name]) if unit else exact_number(metrics[name])
        return {"split": split, "value": text, "about": about, "count": int(metrics["count"])}
    accuracy, count = metrics.get("accuracy"), int(metrics.get("count", 0))
    if kind in HEADLINES:
        accuracy = None
    result = {
        "split": split, "accuracy": accuracy, "count": count, "loss": metrics.get("loss"),
    }  # fmt: skip
    if accuracy is not None and count:
        correct = round(accuracy * count)
        low, high = wilson_interval(correct, count)
        result |= {"correct": correct, "low": low, "high": high, "digits": 1 + (count >= 10_000)}
        # The scale beside it ends at 100 %, and begins where the interval has room.
        width = next(w for w in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0) if w >= 1 - low)
        result["scale_from"] = 1 - width
        result["scale"] = [100 * (1 - (1 - value) / width) for value in (low, accuracy, high)]
    return result


def facts(
    config: dict[str, Any], history: History, artifacts: ReportArtifacts | None
) -> list[tuple[str, str, str]]:
    """(name, value, detail) of what is known of the run."""
    model, data = config.get("model", {}), config.get("data", {})
    optimizer = config.get("optimizer", {})
    steps = max((step for values in history.values() for step in values), default=0)
    rate, mfu = (finite_values(history, name) for name in ("examples_per_second", "mfu"))
    batch_size = data.get("batch_size", 0)
    found = []
    if artifacts:
        for name, title in (("loss", "Loss"), ("top5_accuracy", "Top 5")):
            if name in artifacts.metrics:
                value = artifacts.metrics[name]
                text = exact_number(value) if name == "loss" else percent(value)
                found.append((title, text, f"on {artifacts.split}"))
        found.append(("Parameters", f"{artifacts.num_params:,}", ""))
    if "width" in model:
        found.append(("Model", f"{model.get('depth')} layers", f"of width {model['width']}"))
    found.append(("Steps", f"{steps:,}", f"{steps * batch_size:,} examples seen"))
    if rate.size:
        found.append(("Time", duration(training_seconds(history, batch_size)), "in training steps"))
        found.append(("Examples a second", exact_number(float(np.median(rate))), "median"))
    if mfu.size:
        found.append(("MFU", f"{100 * np.median(mfu):.3g} %", "median"))
    if artifacts:
        found.append(("Device", artifacts.device, ""))
    if "lr" in optimizer:
        found.append(("Optimizer", optimizer.get("name", ""), f"peak rate {optimizer['lr']:g}"))
    found.append(("Batch", f"{batch_size:,}", f"for {config.get('total', '?')}"))
    found.append(("Seed", str(config.get("seed", "?")), ""))
    return found


def confusion_view(artifacts: ReportArtifacts) -> dict[str, Any]:
    """Rows of a matrix, or beyond 30 classes the pairs most confused and the hardest classes."""
    matrix, names = artifacts.confusion, artifacts.classes
    if matrix is None:
        return {}
    totals = matrix.sum(1)
    recall = matrix.diagonal() / np.maximum(totals, 1)
    wrong = matrix - np.diag(matrix.diagonal())
    worst = max(int(wrong.max()), 1)
    if len(names) <= MAX_MATRIX:
        rows = []
        for i, name in enumerate(names):
            # The square root keeps a single mistake visible beside a class of fifty.
            strength = [float(np.sqrt(n / worst)) for n in wrong[i]]
            strength[i] = float(recall[i])
            rows.append((name, [*zip(matrix[i].tolist(), strength, strict=True)],
                         float(recall[i]), int(totals[i])))  # fmt: skip
        return {
            "errors": int(wrong.sum()),
            "rows": rows,
            "names": names,
            "wide": max(map(len, names)) > 2,
        }
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [divmod(int(at), len(names)) for at in order if wrong.flat[at] > 0]
    hardest = [int(i) for i in np.argsort(recall, kind="stable") if totals[i] > 0][:MAX_PAIRS]
    return {
        "errors": int(wrong.sum()),
        "pairs": [(names[i], names[j], int(wrong[i, j]), int(totals[i])) for i, j in pairs],
        "worst": worst,
        "hardest": [(names[i], float(recall[i]), int(totals[i])) for i in hardest],
    }


def _chart(history: History, title: str, metric: str, unit: str) -> dict[str, Any] | None:
    scale = 100.0 if unit == "%" else 1.0

    def series(name: str, kind: str, key: str, *, noisy: bool) -> Series:
        x, y = (np.array([*column], float) for column in zip(*history[key].items(), strict=True))
        return Series(name, kind, x, scale * y, noisy)

    # The rate follows a schedule: a mean would round its corners.
    noisy = metric != "learning_rate"
    found = [series("train", "train", metric, noisy=noisy)] if metric in history else []
    splits = [s for s in eval_splits(history) if f"eval/{s}/{metric}" in history]
    for i, split in enumerate(splits):
        found.append(series(split, f"eval eval-{i % 3}", f"eval/{split}/{metric}", noisy=False))
    return chart(title, found, unit=unit, label_gap=6.5 if metric == "loss" else 8.5)


def _picture(item: Mistake | AttentionMap, artifacts: ReportArtifacts) -> dict[str, Any]:
    """A mistake's or an attention map's card."""
    rows, cols = item.image.shape[:2]
    card = {
        "src": image_uri(item.image),
        "small": max(rows, cols) <= 64,
        "wide": cols / rows,
        "truth": artifacts.classes[item.truth],
        "prediction": artifacts.classes[item.prediction],
        "right": item.truth == item.prediction,
        "name": item.name,
    }
    if isinstance(item, Mistake):
        return card | {"bars": (item.probability, item.truth_probability)}
    return card | {"heat": heat_uri(item.heat)}
