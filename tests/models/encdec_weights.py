"""An encoder-decoder's parameters under the names of PyTorch's models, for the oracle tests."""

from typing import Any

import jax
import numpy as np

from tests.torch_library import torch

_T5_ATTENTION = {"q": "q", "k": "k", "v": "v", "out": "o"}
_T5_LAYERS = {
    "encoder": {"attn": "0.SelfAttention", "mlp": "1.DenseReluDense"},
    "decoder": {
        "attn": "0.SelfAttention", "cross_attn": "1.EncDecAttention", "mlp": "2.DenseReluDense",
    },
}  # fmt: skip
_T5_NORMS = {
    "encoder": {"attn_norm": "0", "mlp_norm": "1"},
    "decoder": {"attn_norm": "0", "cross_norm": "1", "mlp_norm": "2"},
}


def t5_names(gated: bool) -> dict[str, str]:
    """Our paths -> Hugging Face's; a number stands for the layer."""
    mlp = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    names = {"token_embed/table": "shared.weight", "head/kernel": "lm_head.weight"}
    for stack, layers in _T5_LAYERS.items():
        for ours, theirs in layers.items():
            for dense, name in (mlp if ours == "mlp" else _T5_ATTENTION).items():
                names[f"{stack}/blocks/{ours}/{dense}/kernel"] = (
                    f"{stack}.block.{{}}.layer.{theirs}.{name}.weight"
                )
        for ours, number in _T5_NORMS[stack].items():
            names[f"{stack}/blocks/{ours}/scale"] = (
                f"{stack}.block.{{}}.layer.{number}.layer_norm.weight"
            )
        names[f"{stack}/norm/scale"] = f"{stack}.final_layer_norm.weight"
        names[f"{stack}/relative"] = (
            f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        )
    return names


def to_t5(params: dict[str, Any], *, gated: bool) -> dict[str, Any]:
    """A state_dict for `T5ForConditionalGeneration`, or gradients under its names."""
    names, found = t5_names(gated), {}
    for path, value in _flat(params):
        for i, layer in enumerate(value if "blocks" in path else value[None]):
            array = layer.T if path.endswith("kernel") else layer
            found[names[path].format(i)] = torch.tensor(np.array(array))
    return found


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


def _flat(params: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    return [
        ("/".join(key.key for key in path), np.asarray(value))
        for path, value in jax.tree.leaves_with_path(params)
    ]
