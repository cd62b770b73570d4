"""An encoder-decoder's parameters under the names of PyTorch's models, for the oracle tests."""

from typing import Any

import jax
import numpy as np

from tests.pretrained.published import exported
from tests.torch_library import torch
from zoo.config.transformer import TransformerConfig
from zoo.pretrained import hf_t5


def to_t5(cfg: TransformerConfig, params: dict[str, Any]) -> dict[str, Any]:
    """A state_dict for `T5ForConditionalGeneration`, or gradients under its names."""
    arrays = exported(hf_t5, cfg, params)
    return {name: torch.tensor(np.array(array)) for name, array in arrays.items()}


def to_torch_stack(params: dict[str, Any]) -> dict[str, Any]:
    """A state_dict for `torch.nn.TransformerEncoder` or `TransformerDecoder`."""
    cross = "cross_attn" in params["blocks"]
    norms = {"attn_norm": "norm1", "cross_norm": "norm2", "mlp_norm": "norm3" if cross else "norm2"}
    leaves, found = {"kernel": "weight", "scale": "weight", "bias": "bias"}, {}
    attentions = {"attn": "self_attn", "cross_attn": "multihead_attn"}
    for i in range(len(params["blocks"]["attn_norm"]["scale"])):
        block = jax.tree.map(lambda x, i=i: np.array(x[i]), params["blocks"])
        for ours, theirs in attentions.items():
            for leaf in ("kernel", "bias") if ours in block else ():
                joined = np.concatenate([block[ours][name][leaf] for name in "qkv"], -1)
                found[f"layers.{i}.{theirs}.in_proj_{leaves[leaf]}"] = joined.T
                found[f"layers.{i}.{theirs}.out_proj.{leaves[leaf]}"] = block[ours]["out"][leaf].T
        for ours, theirs in {"up": "linear1", "down": "linear2"}.items():
            for leaf, value in block["mlp"][ours].items():
                found[f"layers.{i}.{theirs}.{leaves[leaf]}"] = value.T
        for ours in norms.keys() & block.keys():
            for leaf, value in block[ours].items():
                found[f"layers.{i}.{norms[ours]}.{leaves[leaf]}"] = value
    for leaf, value in params.get("norm", {}).items():
        found[f"norm.{leaves[leaf]}"] = np.array(value)
    return {name: torch.tensor(np.ascontiguousarray(value)) for name, value in found.items()}
