"""Hugging Face's DistilBERT (arXiv 1910.01108): BERT's encoder without types and without a pooler.

Its head for classes has a layer as large as BERT's pooler, with a ReLU in place of the tanh.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.config.bert import BertConfig, Head
from zoo.pretrained import hf_json
from zoo.pretrained.table import Layout, linear, norm, same

MODEL_TYPE = "distilbert"
_EPSILON = 1e-12  # no setting there
_LAYER = "transformer.layer.{}"
_BODY = ("embeddings.", "transformer.")
ENCODER = (
    *same("token_embed/table", "embeddings.word_embeddings.weight"),
    *same("pos_embed", "embeddings.position_embeddings.weight"),
    *norm("embed_norm", "embeddings.LayerNorm"),
    *linear("blocks/attn/q", f"{_LAYER}.attention.q_lin"),
    *linear("blocks/attn/k", f"{_LAYER}.attention.k_lin"),
    *linear("blocks/attn/v", f"{_LAYER}.attention.v_lin"),
    *linear("blocks/attn/out", f"{_LAYER}.attention.out_lin"),
    *norm("blocks/attn_norm", f"{_LAYER}.sa_layer_norm"),
    *linear("blocks/mlp/up", f"{_LAYER}.ffn.lin1"),
    *linear("blocks/mlp/down", f"{_LAYER}.ffn.lin2"),
    *norm("blocks/mlp_norm", f"{_LAYER}.output_layer_norm"),
)
HEADS = (
    *linear("masked_lm/dense", "vocab_transform"),
    *norm("masked_lm/norm", "vocab_layer_norm"),
    *same("masked_lm/bias", "vocab_projector.bias"),
)
TIED = {"vocab_projector.weight": "embeddings.word_embeddings.weight"}
SKIPPED = ((r"embeddings\.position_ids", "a constant: 0, 1, 2, ..."),)
ARCHITECTURES: dict[Head, str] = {
    "masked_lm": "DistilBertForMaskedLM",
    "classification": "DistilBertForSequenceClassification",
    "token_classification": "DistilBertForTokenClassification",
    "question_answering": "DistilBertForQuestionAnswering",
    "none": "DistilBertModel",
}


class Json(hf_json.Model, kw_only=True):
    """Keys of `config.json`, with the library's defaults."""

    vocab_size: hf_json.Size = 30_522
    dim: hf_json.Size = 768
    n_layers: hf_json.Size = 6
    n_heads: hf_json.Size = 12
    hidden_dim: hf_json.Size = 3072
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    max_position_embeddings: hf_json.Size = 512
    pad_token_id: int | None = 0


def spell(names: Iterable[str]) -> dict[str, str]:
    """The table's name of each array -> the file's own: those of a DistilBertModel by itself."""
    return {own.removeprefix("distilbert."): own for own in names}


def publish(name: str, cfg: BertConfig) -> str:
    """The name under which transformers saves an array of the table."""
    return f"distilbert.{name}" if name.startswith(_BODY) and cfg.head != "none" else name


def read_config(tree: dict[str, Any], names: Iterable[str], path: Path) -> BertConfig:
    """The model of a `config.json`; its head is what `names`, spelled as in the table, have.

    Raises:
      UserError: a setting that Zoo's BERT does not have.
    """
    json = hf_json.read(tree, Json, path)
    head = find_head(set(names))
    has_classes = head in ("classification", "token_classification")
    return BertConfig(
        width=json.dim,
        depth=json.n_layers,
        mlp_dim=json.hidden_dim,
        num_heads=json.n_heads,
        vocab_size=json.vocab_size,
        max_length=json.max_position_embeddings,
        num_types=0,
        head=head,
        num_classes=len(json.classes) if has_classes else None,
        pooler_activation="relu",
        dropout=json.dropout,
        attention_dropout=json.attention_dropout,
        gelu=hf_json.read_gelu(json.activation, path),
        norm_epsilon=_EPSILON,
    )


def find_head(names: set[str]) -> Head:
    """What the arrays are enough for."""
    tops: dict[str, Head] = {
        "vocab_projector.bias": "masked_lm",
        "pre_classifier.weight": "classification",
        "classifier.weight": "token_classification",
        "qa_outputs.weight": "question_answering",
    }
    for name, head in tops.items():
        if name in names:
            return head
    return "none"


def layout(cfg: BertConfig) -> Layout:
    """The table of a model, in the names of a file with its head."""
    top = "qa_outputs" if cfg.head == "question_answering" else "classifier"
    rows = (*ENCODER, *HEADS, *linear("head", top))
    if cfg.head == "classification":  # a pooler for its own sake there is none
        rows += linear("pooler", "pre_classifier")
    return Layout("Hugging Face's DistilBERT", rows, TIED, SKIPPED)


def write_config(cfg: BertConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `config.json` with which transformers loads what `layout` lays out."""
    assert cfg.vocab_size is not None
    json = Json(
        model_type=MODEL_TYPE,
        architectures=[ARCHITECTURES.get(cfg.head, "")],
        vocab_size=cfg.vocab_size,
        dim=cfg.width,
        n_layers=cfg.depth,
        n_heads=cfg.num_heads,
        hidden_dim=cfg.mlp_dim,
        activation=hf_json.write_activation(f"gelu_{cfg.gelu}"),
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        max_position_embeddings=cfg.max_length,
    )
    return hf_json.write(json) | (hf_json.labels(classes) if cfg.has_classes else {})
