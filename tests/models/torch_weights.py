"""Our parameters under the names that PyTorch models give them, for the oracle tests."""

from typing import Any

import jax
import numpy as np

from tests.torch_library import torch

# Modules, ours -> theirs: the names in memory, which are not those of files.
HF_VIT = {
    "blocks/attn_norm": "vit.layers.{}.layernorm_before",
    "blocks/attn/q": "vit.layers.{}.attention.q_proj",
    "blocks/attn/k": "vit.layers.{}.attention.k_proj",
    "blocks/attn/v": "vit.layers.{}.attention.v_proj",
    "blocks/attn/out": "vit.layers.{}.attention.o_proj",
    "blocks/mlp_norm": "vit.layers.{}.layernorm_after",
    "blocks/mlp/up": "vit.layers.{}.mlp.fc1",
    "blocks/mlp/down": "vit.layers.{}.mlp.fc2",
    "patch_embed": "vit.embeddings.patch_embeddings.projection",
    "cls": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "norm": "vit.layernorm",
    "head": "classifier",
}
HF_DINOV3 = {
    "blocks/attn_norm": "model.layer.{}.norm1",
    "blocks/attn/q": "model.layer.{}.attention.q_proj",
    "blocks/attn/k": "model.layer.{}.attention.k_proj",
    "blocks/attn/v": "model.layer.{}.attention.v_proj",
    "blocks/attn/out": "model.layer.{}.attention.o_proj",
    "blocks/attn_scale": "model.layer.{}.layer_scale1.lambda1",
    "blocks/mlp_norm": "model.layer.{}.norm2",
    "blocks/mlp/up": "model.layer.{}.mlp.up_proj",
    "blocks/mlp/down": "model.layer.{}.mlp.down_proj",
    "blocks/mlp_scale": "model.layer.{}.layer_scale2.lambda1",
    "patch_embed": "embeddings.patch_embeddings",
    "cls": "embeddings.cls_token",
    "registers": "embeddings.register_tokens",
    "norm": "norm",
}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def to_torch(params: dict[str, Any], names: dict[str, str], patch_size: int) -> dict[str, Any]:
    """A state_dict for a PyTorch model, by one of the tables above; raises on any other name."""
    joined: dict[str, list[np.ndarray]] = {}
    order = list(names)

    def parse(path):
        *module, leaf = [entry.key for entry in path]
        return "/".join(module if leaf in LEAVES else [*module, leaf]), module, leaf

    leaves = [(*parse(path), value) for path, value in jax.tree.leaves_with_path(params)]
    for ours, module, leaf, value in sorted(leaves, key=lambda item: order.index(item[0])):
        name = names[ours]
        name = f"{name}.{LEAVES[leaf]}" if leaf in LEAVES else name
        for i, layer in enumerate(value if module[:1] == ["blocks"] else [value]):
            array = np.asarray(layer)
            if module == ["patch_embed"] and leaf == "kernel":
                array = array.reshape(patch_size, patch_size, -1, array.shape[1])
                array = array.transpose(3, 2, 0, 1)
            elif leaf == "kernel":
                array = array.T
            elif leaf not in LEAVES and not module:
                array = array[None]  # tokens and positions have a batch axis
            elif leaf == "probe":
                array = array[None]
            joined.setdefault(name.format(i), []).append(array)
    return {name: torch.tensor(np.concatenate(parts)) for name, parts in joined.items()}
