"""google-research's BERT, in TensorFlow's checkpoints (github.com/google-research/bert).

Kernels are [in, out] as here, but for those of the heads, and GELU is its tanh form. Beside a
checkpoint lie `bert_config.json` and `vocab.txt`. Read only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from zoo.config import UserError
from zoo.config.bert import BertConfig, Head
from zoo.pretrained import hf_json
from zoo.pretrained.files import Spec
from zoo.pretrained.table import TURNED, Layout, Row, same

CONFIGS = ("bert_config.json", "config.json")
_EPSILON = 1e-12  # no setting there
_LAYER = "bert/encoder/layer_{}"
_WORDS = "bert/embeddings/word_embeddings"
# The kernel of a head's last layer, which is [out, in] there, and its bias.
_TOPS: dict[Head, tuple[str, str]] = {
    "classification": ("output_weights", "output_bias"),
    "question_answering": ("cls/squad/output_weights", "cls/squad/output_bias"),
}
_NEXT = "cls/seq_relationship/output_weights", "cls/seq_relationship/output_bias"
_SKIPPED = (
    (r".*/adam_[mv]", "the optimizer's state, not the model's"),
    (r"global_step", "the count of training steps"),
    (r"bert/pooler/dense/.*", "no head of this model reads the pooler"),
)


class Json(msgspec.Struct, kw_only=True):
    """Keys of `bert_config.json`, with the defaults of the code that reads it."""

    vocab_size: hf_json.Size
    hidden_size: hf_json.Size = 768
    num_hidden_layers: hf_json.Size = 12
    num_attention_heads: hf_json.Size = 12
    intermediate_size: hf_json.Size = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: hf_json.Size = 512
    type_vocab_size: hf_json.Size = 16


def read_config(tree: dict[str, Any], specs: Mapping[str, Spec], path: Path) -> BertConfig:
    """The model of a `bert_config.json`, with the head that the arrays are enough for.

    Raises:
      UserError: a setting that Zoo's BERT does not have, or arrays that are no BERT's.
    """
    if _WORDS not in specs:
        raise UserError(f"{path.parent} holds no BERT of google-research's: no array {_WORDS}")
    json = hf_json.read(tree, Json, path)
    hf_json.insist(path, {"hidden_act": json.hidden_act}, {"hidden_act": "gelu"})
    head = find_head(set(specs))
    classes = specs[_TOPS[head][0]].shape[:1] if head == "classification" else ()
    return BertConfig(
        width=json.hidden_size,
        depth=json.num_hidden_layers,
        mlp_dim=json.intermediate_size,
        num_heads=json.num_attention_heads,
        vocab_size=json.vocab_size,
        max_length=json.max_position_embeddings,
        num_types=json.type_vocab_size,
        head=head,
        num_classes=classes[0] if classes else None,
        dropout=json.hidden_dropout_prob,
        attention_dropout=json.attention_probs_dropout_prob,
        gelu="tanh",
        norm_epsilon=_EPSILON,
    )


def find_head(names: set[str]) -> Head:
    """What the arrays are enough for."""
    for head, (kernel, _) in _TOPS.items():
        if kernel in names:
            return head
    pooled = "bert/pooler/dense/kernel" in names
    if "cls/predictions/output_bias" in names:
        return "pretraining" if pooled and _NEXT[0] in names else "masked_lm"
    return "pooled" if pooled else "none"


def layout(cfg: BertConfig) -> Layout:
    """The table of a model."""
    rows = [
        *same("token_embed/table", _WORDS),
        *same("pos_embed", "bert/embeddings/position_embeddings"),
        *same("type_embed", "bert/embeddings/token_type_embeddings"),
        *_norm("embed_norm", "bert/embeddings/LayerNorm"),
        *_norm("blocks/attn_norm", f"{_LAYER}/attention/output/LayerNorm"),
        *_norm("blocks/mlp_norm", f"{_LAYER}/output/LayerNorm"),
        *_norm("masked_lm/norm", "cls/predictions/transform/LayerNorm"),
        *same("masked_lm/bias", "cls/predictions/output_bias"),
        *_top("next_sentence", *_NEXT),
        *_top("head", *_TOPS.get(cfg.head, _TOPS["classification"])),
    ]
    for ours, theirs in (
        ("blocks/attn/q", f"{_LAYER}/attention/self/query"),
        ("blocks/attn/k", f"{_LAYER}/attention/self/key"),
        ("blocks/attn/v", f"{_LAYER}/attention/self/value"),
        ("blocks/attn/out", f"{_LAYER}/attention/output/dense"),
        ("blocks/mlp/up", f"{_LAYER}/intermediate/dense"),
        ("blocks/mlp/down", f"{_LAYER}/output/dense"),
        ("pooler", "bert/pooler/dense"),
        ("masked_lm/dense", "cls/predictions/transform/dense"),
    ):
        rows += same(f"{ours}/kernel", f"{theirs}/kernel") + same(f"{ours}/bias", f"{theirs}/bias")
    return Layout("google-research's BERT", tuple(rows), {}, _SKIPPED)


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return same(f"{ours}/scale", f"{theirs}/gamma") + same(f"{ours}/bias", f"{theirs}/beta")


def _top(ours: str, kernel: str, bias: str) -> tuple[Row, ...]:
    return Row((f"{ours}/kernel",), kernel, TURNED), Row((f"{ours}/bias",), bias)
