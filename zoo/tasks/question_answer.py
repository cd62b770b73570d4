"""Finding an answer in a context, as in SQuAD 1.1 and 2.0 (Rajpurkar 2016, 2018).

A context that is longer than a row is read in windows, each a row of its own. Its answer is the
likeliest span of all of them; in 2.0, where a question may have no answer, [CLS] stands for that.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from zoo.config.data import QuestionData
from zoo.config.schema import Config
from zoo.data.base import Rows
from zoo.tasks.base import Batch, Metrics, shares, softmax_only
from zoo.tasks.bert_parts import bert_parts, encode, read_rows, refuse_options

NUM_BEST = 20  # spans of a window that are kept
_NEVER = -1e30


@runtime_checkable
class Questions(Rows, Protocol):
    """What rows of questions can tell besides their arrays."""

    def context_span(self, index: int, start: int, end: int) -> str:
        """The text from one token of a row to another; "" where they are not its context's."""
        ...

    def answers(self, example: int) -> tuple[str, ...]:
        """What people answered; () where the context does not say."""
        ...


@dataclass(frozen=True)
class QuestionAnswer:
    """The mathematics of extractive question answering."""

    max_answer: int  # tokens
    null_threshold: float | None  # None: every question has an answer

    metric_names = ("f1", "exact_match", "loss")

    @classmethod
    def from_config(cls, config: Config) -> "QuestionAnswer":
        """The task of a config."""
        softmax_only(config.task)
        _, data = bert_parts(config, QuestionData, "question_answering")
        refuse_options(config, "label_smoothing", "z_loss")
        return cls(data.max_answer, data.null_threshold)

    def prepare(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Adds each window's share of the batch.

        Args:
          batch: as `QuestionRows` makes it, with `weight` float32 [B].
          key: of this step.
        """
        weight = shares(batch["weight"])
        spans = {name: batch[name] for name in ("start", "end")}
        return {**read_rows(batch, key), **spans, "weight": weight}

    def loss(self, model, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Some windows' part of the mean loss and accuracy of a prepared batch.

        The loss is the mean of those of start and end; as in BERT's own code, a window without
        the whole answer points at [CLS], and any token but padding may be pointed at. `accuracy`
        counts windows with both right.
        """
        start, end = self._logits(model, batch)
        loss = jnp.sum(span_losses(start, end, batch) * batch["weight"])
        right = (jnp.argmax(start, -1) == batch["start"]) & (jnp.argmax(end, -1) == batch["end"])
        return loss, {"loss": loss, "accuracy": jnp.sum(right * batch["weight"])}

    def _logits(self, model, batch: Batch) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
        real = batch["segment"] > 0
        start, end = model.span_logits(encode(model, batch))
        return jnp.where(real, start, _NEVER), jnp.where(real, end, _NEVER)

    def predict(self, model, batch: Batch) -> dict[str, Array]:
        """Each window's best spans [B, n], best first, as `start`, `end` and `score`; the score of
        no answer, `null_score` [B]; its question, `example` [B], and `loss` [B]."""
        start, end = self._logits(model, batch)
        return {
            **best_spans(start, end, batch["mask"], self.max_answer),
            "null_score": start[:, 0] + end[:, 0],
            "example": batch["example"],
            "loss": span_losses(start, end, batch),
        }

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """`exact_match` and `f1`, 0 to 100 as published, of the split's `questions`, and the mean
        `loss` of its windows.

        With a null threshold also `best_f1`, and the `best_threshold` that gives it: chosen on
        these very questions, as the evaluation script of SQuAD 2.0 does. What is chosen on
        another split is set as `data.null_threshold`.
        """
        assert isinstance(rows, Questions)
        answers = best_answers(results, rows)
        gold = {example: rows.answers(example) for example in answers}
        threshold = self.null_threshold
        said = {example: answer.decide(threshold) for example, answer in answers.items()}
        metrics: dict[str, float | int] = {
            "f1": 100 * float(np.mean([best_of(f1, said[e], gold[e]) for e in answers])),
            "exact_match": 100
            * float(np.mean([best_of(exact, said[e], gold[e]) for e in answers])),
            "loss": float(np.mean(results["loss"], dtype=np.float64)),
            "questions": len(answers),
        }
        if threshold is not None:
            margins = [answer.margin for answer in answers.values()]
            spoken = [best_of(f1, answer.text, gold[e]) for e, answer in answers.items()]
            silent = [best_of(f1, "", gold[e]) for e in answers]
            best, at = best_threshold(margins, spoken, silent)
            metrics |= {"best_f1": 100 * best, "best_threshold": at}
        return metrics


def span_losses(
    start: Float[Array, "B T"], end: Float[Array, "B T"], batch: Batch
) -> Float[Array, " B"]:
    """The mean of the losses of where the answer starts and where it ends."""
    loss = optax.softmax_cross_entropy_with_integer_labels
    return (loss(start, batch["start"]) + loss(end, batch["end"])) / 2


def best_spans(
    start: Float[Array, "B T"], end: Float[Array, "B T"], mask: Bool[Array, "B T"], max_answer: int
) -> dict[str, Array]:
    """The likeliest answers of each window: `start` and `end` tokens, both included, and `score`,
    the sum of their logits, all [B, n]; less than -1e29 where there is none.

    Every span is looked at, where BERT's own code joins the 20 best starts and ends.

    Args:
      mask: tokens that may be in an answer.
      max_answer: tokens that it may have.
    """
    B, T = start.shape
    size = min(max_answer, T)
    first = jnp.where(mask, start, _NEVER)
    last = jnp.pad(jnp.where(mask, end, _NEVER), ((0, 0), (0, size - 1)), constant_values=_NEVER)
    ends = jnp.arange(T)[:, None] + jnp.arange(size)[None]
    scores = first[:, :, None] + last[:, ends]
    score, at = jax.lax.top_k(scores.reshape(B, -1), min(NUM_BEST, T * size))
    found: Int[Array, "B n"] = at // size
    return {"start": found, "end": found + at % size, "score": score}


class Answer(NamedTuple):
    """The likeliest answer to a question, over all its windows."""

    text: str
    score: float
    null_score: float  # of there being none: the least sure window's

    @property
    def margin(self) -> float:
        """By how much no answer is likelier."""
        return self.null_score - self.score

    def decide(self, null_threshold: float | None) -> str:
        """The text; "" where no answer is likelier by more than the threshold."""
        return "" if null_threshold is not None and self.margin > null_threshold else self.text


def best_answers(results: dict[str, np.ndarray], rows: Questions) -> dict[int, Answer]:
    """Each question's answer, by its number; spans without text are passed over.

    Args:
      results: of `predict`, and `index` of the rows.
    """
    windows: dict[int, list[int]] = {}
    for window, example in enumerate(results["example"].tolist()):
        windows.setdefault(example, []).append(window)
    found = {}
    for example, own in windows.items():
        null_score = float(results["null_score"][own].min())
        scores = results["score"][own]
        text, score = "", null_score
        for flat in np.argsort(-scores, axis=None, kind="stable").tolist():
            at = own[flat // scores.shape[1]], flat % scores.shape[1]
            if results["score"][at] < _NEVER / 10:
                break
            span = (int(results[name][at]) for name in ("start", "end"))
            text = rows.context_span(int(results["index"][at[0]]), *span)
            if text:
                score = float(results["score"][at])
                break
        found[example] = Answer(text, score, null_score)
    return found


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation, then without articles, single spaces: as SQuAD compares."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact(said: str, gold: str) -> float:
    """1 where both are the same answer."""
    return float(normalize_answer(said) == normalize_answer(gold))


def f1(said: str, gold: str) -> float:
    """The harmonic mean of precision and recall of words, as in SQuAD 2.0: of two empty answers 1.

    1.1's script differs where both are nothing but articles: it gives 0.
    """
    ours, theirs = normalize_answer(said).split(), normalize_answer(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def best_of(metric, said: str, gold: Iterable[str]) -> float:
    """The best that an answer scores against any that people gave; "" where they gave none."""
    real = [answer for answer in gold if normalize_answer(answer)] or [""]
    return max(metric(said, answer) for answer in real)


def best_threshold(
    margins: Sequence[float], spoken: Sequence[float], silent: Sequence[float]
) -> tuple[float, float]:
    """The highest mean score that a threshold on the margin gives, and that threshold.

    Args:
      margins: by how much no answer is likelier, of each question.
      spoken: its score with the answer.
      silent: its score with none.
    """
    order = np.argsort(margins, kind="stable")
    gains = (np.asarray(spoken, np.float64) - np.asarray(silent))[order]
    means = (np.sum(silent) + np.concatenate([[0.0], np.cumsum(gains)])) / len(order)
    ranked = np.asarray(margins, np.float64)[order]
    # Equal margins are decided alike: only after the last of them may a threshold stand.
    may = np.append(np.append(True, ranked[1:] > ranked[:-1]), True)
    best = int(np.argmax(np.where(may, means, -np.inf)))
    return float(means[best]), float(ranked[best - 1] if best else ranked[0] - 1)
