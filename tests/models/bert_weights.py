"""Our BERT's parameters under the names of Hugging Face's PyTorch models, for the oracle tests."""

from typing import Any

import numpy as np

from tests.pretrained.published import exported
from tests.torch_library import torch
from zoo.config.bert import BertConfig
from zoo.pretrained import hf_bert, hf_roberta


def to_torch(cfg: BertConfig, params: dict[str, Any], kind: str = "Bert") -> dict[str, Any]:
    """A state_dict for a `Bert...` or `Roberta...`, or gradients by its names."""
    arrays = exported(hf_bert if kind == "Bert" else hf_roberta, cfg, params)
    return {name: torch.tensor(np.array(array)) for name, array in arrays.items()}
