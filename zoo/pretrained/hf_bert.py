"""Hugging Face's BERT: BertModel and its heads; sentence encoders such as MiniLM are BertModels.

Names and settings as transformers 4 and 5 write them; files of TensorFlow's age say gamma and beta
for a norm's weight and bias.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.config.bert import BertConfig, Head
from zoo.pretrained import hf_json
from zoo.pretrained.table import Layout, linear, norm, same

MODEL_TYPE = "bert"
BODY = ("embeddings.", "encoder.", "pooler.")
_LAYER = "encoder.layer.{}"
ENCODER = (
    *same("token_embed/table", "embeddings.word_embeddings.weight"),
    *same("pos_embed", "embeddings.position_embeddings.weight"),
    *same("type_embed", "embeddings.token_type_embeddings.weight"),
    *norm("embed_norm", "embeddings.LayerNorm"),
    *linear("blocks/attn/q", f"{_LAYER}.attention.self.query"),
    *linear("blocks/attn/k", f"{_LAYER}.attention.self.key"),
    *linear("blocks/attn/v", f"{_LAYER}.attention.self.value"),
    *linear("blocks/attn/out", f"{_LAYER}.attention.output.dense"),
    *norm("blocks/attn_norm", f"{_LAYER}.attention.output.LayerNorm"),
    *linear("blocks/mlp/up", f"{_LAYER}.intermediate.dense"),
    *linear("blocks/mlp/down", f"{_LAYER}.output.dense"),
    *norm("blocks/mlp_norm", f"{_LAYER}.output.LayerNorm"),
)
HEADS = (
    *linear("pooler", "pooler.dense"),
    *linear("masked_lm/dense", "cls.predictions.transform.dense"),
    *norm("masked_lm/norm", "cls.predictions.transform.LayerNorm"),
    *same("masked_lm/bias", "cls.predictions.bias"),
    *linear("next_sentence", "cls.seq_relationship"),
)
TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
SKIPPED = (
    (r"embeddings\.position_ids", "a constant: 0, 1, 2, ..."),
    (r"pooler\..*", "no head of this model reads the pooler"),
)
ARCHITECTURES: dict[Head, str] = {
    "pretraining": "BertForPreTraining",
    "masked_lm": "BertForMaskedLM",
    "classification": "BertForSequenceClassification",
    "token_classification": "BertForTokenClassification",
    "question_answering": "BertForQuestionAnswering",
    "pooled": "BertModel",
    "none": "BertModel",
}


class Json(hf_json.Model, kw_only=True):
    """Keys of `config.json`, with the library's defaults."""

    vocab_size: hf_json.Size = 30_522
    hidden_size: hf_json.Size = 768
    num_hidden_layers: hf_json.Size = 12
    num_attention_heads: hf_json.Size = 12
    intermediate_size: hf_json.Size = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: hf_json.Size = 512
    type_vocab_size: hf_json.Size = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    position_embedding_type: str = "absolute"
    is_decoder: bool = False


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own: those of a BertModel by itself."""
    found = {}
    for own in names:
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", own.removeprefix("bert."))
        found[re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)] = own
    return found


def publish(name: str, cfg: BertConfig) -> str:
    """The name under which transformers saves an array of the table."""
    inside = name.startswith(BODY) and ARCHITECTURES[cfg.head] != "BertModel"
    return f"bert.{name}" if inside else name


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> BertConfig:
    """The model of a `config.json`; its head is what `names`, spelled as in the table, have.

    Raises:
      UserError: a setting that Zoo's BERT does not have.
    """
    json = hf_json.read(tree, Json, path)
    return make_config(json, find_head(set(names), json.architectures or []), path)


def make_config(json: Json, head: Head, path: Path, *, first_position: int = 0) -> BertConfig:
    """The model of a family's settings; its table of positions has more rows before the first."""
    wanted = {"position_embedding_type": "absolute", "is_decoder": False}
    hf_json.insist(path, hf_json.write(json), wanted)
    has_classes = head in ("classification", "token_classification")
    return BertConfig(
        width=json.hidden_size,
        depth=json.num_hidden_layers,
        mlp_dim=json.intermediate_size,
        num_heads=json.num_attention_heads,
        vocab_size=json.vocab_size,
        max_length=json.max_position_embeddings - first_position,
        num_types=json.type_vocab_size,
        head=head,
        num_classes=len(json.classes) if has_classes else None,
        dropout=json.hidden_dropout_prob,
        attention_dropout=json.attention_probs_dropout_prob,
        gelu=hf_json.read_gelu(json.hidden_act, path),
        norm_epsilon=json.layer_norm_eps,
    )


def find_head(names: set[str], architectures: list[str]) -> Head:
    """What the arrays are enough for; of two heads with the same names, the architecture says."""
    if "cls.seq_relationship.weight" in names:
        return "pretraining"
    if "cls.predictions.bias" in names or "cls.predictions.transform.dense.weight" in names:
        return "masked_lm"
    if "qa_outputs.weight" in names:
        return "question_answering"
    pooled = "pooler.dense.weight" in names
    if "classifier.weight" in names:
        tags = ARCHITECTURES["token_classification"] in architectures
        return "classification" if pooled and not tags else "token_classification"
    return "pooled" if pooled else "none"


def layout(cfg: BertConfig) -> Layout:
    """The table of a model, in the names of a file with its head."""
    top = "qa_outputs" if cfg.head == "question_answering" else "classifier"
    rows = (*ENCODER, *HEADS, *linear("head", top))
    return Layout("Hugging Face's BERT", rows, TIED, SKIPPED)


def write_config(cfg: BertConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    assert cfg.vocab_size is not None
    json = Json(
        model_type=MODEL_TYPE,
        architectures=[ARCHITECTURES[cfg.head]],
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.width,
        num_hidden_layers=cfg.depth,
        num_attention_heads=cfg.num_heads,
        intermediate_size=cfg.mlp_dim,
        hidden_act=hf_json.write_activation(f"gelu_{cfg.gelu}"),
        hidden_dropout_prob=cfg.dropout,
        attention_probs_dropout_prob=cfg.attention_dropout,
        max_position_embeddings=cfg.max_length,
        type_vocab_size=cfg.num_types,
        layer_norm_eps=cfg.norm_epsilon,
    )
    return hf_json.write(json) | (hf_json.labels(classes) if cfg.has_classes else {})
