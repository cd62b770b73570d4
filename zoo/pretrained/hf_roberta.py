"""Hugging Face's RoBERTa: BERT's encoder with positions from 2 on, and heads of other names."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from zoo.config.bert import BertConfig, Head
from zoo.pretrained import hf_bert, hf_json
from zoo.pretrained.table import Layout, Row, Shape, Way, linear, norm, same

MODEL_TYPE = "roberta"
PAD = 1  # the number of its token, and of its row of the table of positions
_FIRST = 2  # the row of position 0; row 0 is never used
TIED = {
    "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
ARCHITECTURES: dict[Head, str] = {
    "masked_lm": "RobertaForMaskedLM",
    "classification": "RobertaForSequenceClassification",
    "token_classification": "RobertaForTokenClassification",
    "question_answering": "RobertaForQuestionAnswering",
    "pooled": "RobertaModel",
    "none": "RobertaModel",
}


class Json(hf_bert.Json, kw_only=True):
    """BERT's keys; where the library's defaults are RoBERTa's, they are here."""

    vocab_size: hf_json.Size = 50_265
    type_vocab_size: hf_json.Size = 1
    pad_token_id: int | None = PAD


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own: those of a RobertaModel by itself."""
    return {own.removeprefix("roberta."): own for own in names}


def publish(name: str, cfg: BertConfig) -> str:
    """The name under which transformers saves an array of the table."""
    inside = name.startswith(hf_bert.BODY) and ARCHITECTURES.get(cfg.head) != "RobertaModel"
    return f"roberta.{name}" if inside else name


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> BertConfig:
    """The model of a `config.json`; its head is what `names`, spelled as in the table, have.

    Raises:
      UserError: a setting that Zoo's BERT does not have.
    """
    json = hf_json.read(tree, Json, path)
    hf_json.insist(path, hf_json.write(json), {"pad_token_id": PAD, "type_vocab_size": 1})
    head = find_head(set(names))
    return hf_bert.make_config(json, head, path, first_position=_FIRST)


def find_head(names: set[str]) -> Head:
    """What the arrays are enough for."""
    tops: dict[str, Head] = {
        "lm_head.bias": "masked_lm",
        "classifier.out_proj.weight": "classification",
        "classifier.weight": "token_classification",
        "qa_outputs.weight": "question_answering",
        "pooler.dense.weight": "pooled",
    }
    for name, head in tops.items():
        if name in names:
            return head
    return "none"


def layout(cfg: BertConfig) -> Layout:
    """The table of a model, in the names of a file with its head."""
    classes = cfg.head == "classification"
    tops = {"classification": "classifier.out_proj", "question_answering": "qa_outputs"}
    rows = (
        *(row for row in hf_bert.ENCODER if row.ours != ("pos_embed",)),
        Row(("pos_embed",), "embeddings.position_embeddings.weight", _positions()),
        *linear("pooler", "classifier.dense" if classes else "pooler.dense"),
        *linear("masked_lm/dense", "lm_head.dense"),
        *norm("masked_lm/norm", "lm_head.layer_norm"),
        *same("masked_lm/bias", "lm_head.bias"),
        *linear("head", tops.get(cfg.head, "classifier")),
    )
    return Layout("Hugging Face's RoBERTa", rows, TIED, hf_bert.SKIPPED)


def write_config(cfg: BertConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    tree = hf_bert.write_config(cfg, classes)
    tree |= {"model_type": MODEL_TYPE, "pad_token_id": PAD, "bos_token_id": 0}
    tree |= {"eos_token_id": 2, "architectures": [ARCHITECTURES.get(cfg.head, "")]}
    return tree | {"max_position_embeddings": cfg.max_length + _FIRST}


def _positions() -> Way:
    """Ours begin with position 0; the two rows before it, which nothing reads, come back as 0."""

    def restore(x: np.ndarray, shape: Shape) -> np.ndarray:
        return x[_FIRST:]

    return Way(lambda x: np.pad(x, ((_FIRST, 0), (0, 0))), restore)
