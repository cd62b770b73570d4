"""How good generated texts are, decoded by beam search: BLEU, chrF, ROUGE, or the very text."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from zoo.config import UserError
from zoo.config.data import PairData
from zoo.config.schema import Config
from zoo.data.base import Rows
from zoo.data.text.records import open_records
from zoo.data.text.tokenizers import Tokenizer, load_tokenizer
from zoo.evaluation.evaluate import Evaluator, evaluate, make_evaluator
from zoo.inference.beam_search import wu_penalty
from zoo.inference.translate import search_targets
from zoo.tasks.base import Batch, Metrics
from zoo.tasks.build import Params

SCORES = ("bleu", "bleu_lowercase", "bleu_compound", "chrf", "rouge", "exact_match")


@dataclass(frozen=True)
class Generate:
    """A task that only predicts: the best target of each source."""

    eos: int
    max_length: int
    beams: int
    alpha: float

    metric_names = ()

    def prepare(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        raise NotImplementedError("beam search is not trained")

    def loss(self, model: Any, batch: Batch) -> tuple[Array, Metrics]:
        raise NotImplementedError("beam search is not trained")

    def predict(self, model: Any, batch: Batch) -> dict[str, Array]:
        """`tokens` [B, N], of which the first `length` [B] count."""
        found = search_targets(
            model,
            batch["source"],
            batch["source_segment"],
            beams=self.beams,
            max_length=self.max_length,
            eos=self.eos,
            penalty=wu_penalty(self.alpha),
        )
        return {"tokens": found.tokens[:, 0], "length": found.length[:, 0]}

    def summarize(self, results: dict[str, np.ndarray], rows: Rows) -> dict[str, float | int]:
        """Mean tokens of a text, its end included."""
        return {"length": float(np.mean(results["length"]))}


class TextScorer:
    """Decodes splits and scores them, on the devices of a mesh.

    Raises:
      UserError: the model is not of pairs of texts; a scoring library is missing.
    """

    def __init__(
        self,
        config: Config,
        mesh: Mesh,
        *,
        scores: tuple[str, ...],
        beams: int = 4,
        alpha: float = 0.6,
    ):
        data = config.data
        if not isinstance(data, PairData):
            flag = f"--{scores[0].replace('_', '-')}"
            raise UserError(f"{flag} is for data of kind 'seq2seq': this model writes no targets")
        for score in scores:
            if score != "exact_match":
                _library(score)
        if "bleu_compound" in scores:
            compound_splitter()
        self._data, self._scores = data, scores
        self._tokenizer: Tokenizer = load_tokenizer(data.tokenizer)
        eos = self._tokenizer.eos
        assert eos is not None
        task = Generate(eos, data.target_length, beams, alpha)
        self._eos, self._evaluator = eos, make_evaluator(config, mesh, task=task)

    def score(self, params: Params, split: str) -> dict[str, float | int | str]:
        """The scores of a split, of every example exactly once against its whole reference."""
        evaluator: Evaluator = self._evaluator
        found = evaluate(evaluator, params, self._data, split)
        records = open_records(self._data, split)
        tokens, length = found.results["tokens"], found.results["length"]
        texts, references = [], []
        for i, index in enumerate(found.index):
            kept = [int(t) for t in tokens[i, : length[i]] if t != self._eos]
            texts.append(self._tokenizer.decode(kept))
            references.append(records[int(index)].text("target"))
        metrics: dict[str, float | int | str] = {}
        for score in self._scores:
            metrics |= text_scores(score, texts, references)
        return metrics


def text_scores(
    score: str, texts: list[str], references: list[str]
) -> dict[str, float | int | str]:
    """Of a corpus, 0 to 100.

    `bleu` and `chrf` are sacreBLEU's (Post 2018, arXiv 1804.08771) with its defaults, each with
    the signature that says which they are; texts are scored as written, neither tokenised nor
    lower-cased before. `bleu_lowercase` is the same of lower-cased texts. `bleu_compound` is that
    of the papers since GNMT, as tensor2tensor's get_ende_bleu.sh takes it: tokenised by Moses,
    compounds split at their hyphens, nothing smoothed. It is the higher one, and no other system's
    sacreBLEU may be compared with it. `rouge1`, `rouge2` and `rougeL` are the means of Google's
    rouge-score's F, with stems. `exact_match` is the share of texts that are their reference: the
    accuracy of a model that says its classes, as T5 does.
    """
    if score == "exact_match":
        same = [text.strip() == ref.strip() for text, ref in zip(texts, references, strict=True)]
        return {score: 100 * float(np.mean(same))}
    library = _library(score)
    if score == "rouge":
        kinds = ["rouge1", "rouge2", "rougeL"]
        scorer = library.RougeScorer(kinds, use_stemmer=True)
        each = [scorer.score(ref, text) for ref, text in zip(references, texts, strict=True)]
        return {kind: 100 * float(np.mean([one[kind].fmeasure for one in each])) for kind in kinds}
    if score == "bleu_compound":
        split = compound_splitter()
        texts, references = [*map(split, texts)], [*map(split, references)]
        metric = library.BLEU(tokenize="none", smooth_method="none", force=True)
    elif score == "chrf":
        metric = library.CHRF()
    else:
        metric = library.BLEU(lowercase=score == "bleu_lowercase")
    value = metric.corpus_score(texts, [references]).score
    return {score: float(value), f"{score}_signature": str(metric.get_signature())}


def compound_splitter() -> Callable[[str], str]:
    """Cuts a text into Moses' tokens, and "a-b" into "a ##AT##-##AT## b".

    Raises:
      UserError: sacremoses is missing.
    """
    moses = _library("moses")
    tokenizer, punctuation = moses.MosesTokenizer(lang="de"), moses.MosesPunctNormalizer(lang="de")

    def split(text: str) -> str:
        plain = punctuation.replace_unicode_punct(text)
        tokens = tokenizer.tokenize(plain, aggressive_dash_splits=False, return_str=True)
        return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", str(tokens))

    return split


def _library(score: str) -> Any:
    try:
        if score == "rouge":
            from rouge_score import rouge_scorer

            return rouge_scorer
        if score == "moses":
            import sacremoses

            return sacremoses
        from sacrebleu import metrics

        return metrics
    except ImportError as error:
        name = {"rouge": "rouge-score", "moses": "sacremoses"}.get(score, "sacrebleu")
        raise UserError(f"{score} needs the package {name}: pip install 'zoo[text]'") from error
