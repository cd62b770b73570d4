"""Our BERT's parameters under the names of Hugging Face's PyTorch models, for the oracle tests."""

from typing import Any

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

# Modules and tables, ours -> theirs; those of a layer have its number in the middle.
ENCODER = {
    "token_embed/table": "bert.embeddings.word_embeddings.weight",
    "pos_embed": "bert.embeddings.position_embeddings.weight",
    "type_embed": "bert.embeddings.token_type_embeddings.weight",
    "embed_norm": "bert.embeddings.LayerNorm",
    "blocks/attn/q": "bert.encoder.layer.{}.attention.self.query",
    "blocks/attn/k": "bert.encoder.layer.{}.attention.self.key",
    "blocks/attn/v": "bert.encoder.layer.{}.attention.self.value",
    "blocks/attn/out": "bert.encoder.layer.{}.attention.output.dense",
    "blocks/attn_norm": "bert.encoder.layer.{}.attention.output.LayerNorm",
    "blocks/mlp/up": "bert.encoder.layer.{}.intermediate.dense",
    "blocks/mlp/down": "bert.encoder.layer.{}.output.dense",
    "blocks/mlp_norm": "bert.encoder.layer.{}.output.LayerNorm",
    "pooler": "bert.pooler.dense",
}
PRETRAINING = {
    "masked_lm": "cls.predictions",
    "masked_lm/dense": "cls.predictions.transform.dense",
    "masked_lm/norm": "cls.predictions.transform.LayerNorm",
    "next_sentence": "cls.seq_relationship",
}
CLASSES = {"head": "classifier"}
SPANS = {"head": "qa_outputs"}
# RoBERTa's encoder is BERT's; a classifier's pooler stands in its head.
ROBERTA = {ours: theirs.replace("bert.", "roberta.", 1) for ours, theirs in ENCODER.items()}
ROBERTA_MASKED = {
    "masked_lm": "lm_head",
    "masked_lm/dense": "lm_head.dense",
    "masked_lm/norm": "lm_head.layer_norm",
}
ROBERTA_CLASSES = {"pooler": "classifier.dense", "head": "classifier.out_proj"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def to_torch(params: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A state_dict, or gradients by its names; raises on a parameter that the table lacks."""
    weights = {}
    for path, value in jax.tree.leaves_with_path(params):
        *module, leaf = [entry.key for entry in path]
        if leaf in LEAVES:
            name = f"{names['/'.join(module)]}.{LEAVES[leaf]}"
        else:
            name = names["/".join([*module, leaf])]
        for i, layer in enumerate(value if module[:1] == ["blocks"] else [value]):
            array = np.asarray(layer)
            weights[name.format(i)] = torch.tensor(array.T if leaf == "kernel" else array)
    return weights
