"""Our BERT's parameters under the names of Hugging Face's PyTorch models, for the oracle tests."""

from typing import Any

import numpy as np

from tests.pretrained.published import exported
from tests.torch_library import torch
from zoo.config.bert import BertConfig
from zoo.pretrained import hf_bert

# RoBERTa's encoder is BERT's; a classifier's pooler stands in its head.
_ROBERTA = {
    "bert.pooler.": "classifier.",
    "classifier.": "classifier.out_proj.",
    "bert.": "roberta.",
    "cls.predictions.transform.dense.": "lm_head.dense.",
    "cls.predictions.transform.LayerNorm.": "lm_head.layer_norm.",
    "cls.predictions.": "lm_head.",
}


def to_torch(cfg: BertConfig, params: dict[str, Any], kind: str = "Bert") -> dict[str, Any]:
    """A state_dict for a `Bert...` or `Roberta...`, or gradients by its names."""
    weights = exported(hf_bert, cfg, params)
    if kind == "Roberta":
        weights = {_roberta_name(name): array for name, array in weights.items()}
    return {name: torch.tensor(np.array(array)) for name, array in weights.items()}


def _roberta_name(name: str) -> str:
    old = next(old for old in _ROBERTA if name.startswith(old))
    return _ROBERTA[old] + name.removeprefix(old).replace("out_proj.dense", "dense")
