"""Hugging Face's decoders: in by their own names, out as they came."""

import json

import numpy as np
import pytest

from tests.pretrained.published import load, random_arrays, write_published
from zoo.cli import main
from zoo.config import UserError
from zoo.pretrained.opening import open_pretrained

D, F, V, H = 16, 24, 20, 6
GPT2_LAYER = {
    "ln_1.weight": (D,), "ln_1.bias": (D,), "attn.c_attn.weight": (D, 3 * D),
    "attn.c_attn.bias": (3 * D,), "attn.c_proj.weight": (D, D), "attn.c_proj.bias": (D,),
    "ln_2.weight": (D,), "ln_2.bias": (D,), "mlp.c_fc.weight": (D, 4 * D),
    "mlp.c_fc.bias": (4 * D,), "mlp.c_proj.weight": (4 * D, D), "mlp.c_proj.bias": (D,),
}  # fmt: skip
LLAMA_LAYER = {
    "input_layernorm.weight": (D,), "self_attn.q_proj.weight": (4 * H, D),
    "self_attn.k_proj.weight": (2 * H, D), "self_attn.v_proj.weight": (2 * H, D),
    "self_attn.o_proj.weight": (D, 4 * H), "post_attention_layernorm.weight": (D,),
    "mlp.gate_proj.weight": (F, D), "mlp.up_proj.weight": (F, D), "mlp.down_proj.weight": (D, F),
}  # fmt: skip
QK = {"self_attn.q_norm.weight": (H,), "self_attn.k_norm.weight": (H,)}
POST = {"pre_feedforward_layernorm.weight": (D,), "post_feedforward_layernorm.weight": (D,)}
SHARED = {
    "vocab_size": V, "hidden_size": D, "intermediate_size": F, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": H,
    "max_position_embeddings": 48, "rms_norm_eps": 1e-5,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip


def layers(prefix, layer):
    return {f"{prefix}.{i}.{name}": shape for i in range(3) for name, shape in layer.items()}


def llama(layer, *, tied):
    ends = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    ends |= {} if tied else {"lm_head.weight": (V, D)}
    return ends | layers("model.layers", layer)


# The config and the arrays of each family.
FAMILIES = {
    "gpt2": (
        {
            "model_type": "gpt2", "vocab_size": V, "n_embd": D, "n_layer": 3, "n_head": 4,
            "n_positions": 48,
        },
        {
            "transformer.wte.weight": (V, D), "transformer.wpe.weight": (48, D),
            "transformer.ln_f.weight": (D,), "transformer.ln_f.bias": (D,),
            **layers("transformer.h", GPT2_LAYER),
        },
    ),
    "llama": (
        {"model_type": "llama", **SHARED, "rope_theta": 5e5, "rope_scaling": LLAMA3},
        llama(LLAMA_LAYER, tied=False),
    ),
    "llama, tied": (
        {"model_type": "llama", **SHARED, "tie_word_embeddings": True},
        llama(LLAMA_LAYER, tied=True),
    ),
    "qwen3": (
        {"model_type": "qwen3", **SHARED, "rope_theta": 1e6, "tie_word_embeddings": True},
        llama(LLAMA_LAYER | QK, tied=True),
    ),
    "gemma3": (
        {
            "model_type": "gemma3_text", **SHARED, "query_pre_attn_scalar": H, "sliding_window": 4,
            "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 2,
        },
        llama(LLAMA_LAYER | QK | POST, tied=True),
    ),
}  # fmt: skip


def publish(directory, family, **changes):
    tree, shapes = FAMILIES[family]
    return write_published(directory, {**tree, **changes}, random_arrays(shapes))


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_come_out_byte_by_byte_as_they_came_in(family, tmp_path):
    source = publish(tmp_path / "source", family)
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "hf"]) == 0
    assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    tree = json.loads((back / "config.json").read_text())
    assert tree["model_type"] == FAMILIES[family][0]["model_type"]
    expected = open_pretrained(source).config.model
    assert open_pretrained(ours).config.model == expected
    assert open_pretrained(back).config.model == expected


def test_joint_kernels_of_gpt2_are_queries_keys_and_values(tmp_path):
    arrays = random_arrays(FAMILIES["gpt2"][1])
    cfg, params = load(publish(tmp_path, "gpt2"))
    assert (cfg.position, cfg.activation, cfg.tied, cfg.gated) == (
        "learned", "gelu_tanh", True, False,
    )  # fmt: skip
    joint = np.split(arrays["transformer.h.2.attn.c_attn.weight"], 3, 1)
    for part, name in zip(joint, "qkv", strict=True):
        np.testing.assert_array_equal(params["blocks"]["attn"][name]["kernel"][2], part)


def test_gpt2_as_on_the_hub_has_no_prefix_but_masks(tmp_path):
    arrays = random_arrays(FAMILIES["gpt2"][1])
    hub = {name.removeprefix("transformer."): array for name, array in arrays.items()}
    hub |= {f"h.{i}.attn.bias": np.ones((1, 1, 48, 48), np.float32) for i in range(3)}
    hub["lm_head.weight"] = arrays["transformer.wte.weight"].copy()
    path = write_published(tmp_path, FAMILIES["gpt2"][0], hub)
    found = open_pretrained(path)
    states = [entry.state for entry in found.mapped.report]
    assert [states.count(s) for s in ("mapped", "skipped", "tied")] == [len(arrays), 3, 1]
    assert load(path)[0] == load(publish(tmp_path / "saved", "gpt2"))[0]


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_both_ways_to_write_rotations_are_one(family, tmp_path):
    old = open_pretrained(publish(tmp_path / "old", family)).config.model
    tree = dict(FAMILIES[family][0])
    theta, scaling = tree.pop("rope_theta"), tree.pop("rope_scaling", {"rope_type": "default"})
    tree["rope_parameters"] = {"rope_theta": theta, **scaling}
    if family == "gemma3":
        local = {"rope_type": "default", "rope_theta": tree.pop("rope_local_base_freq")}
        kinds = ("full_attention", "sliding_attention")
        tree["rope_parameters"] = dict(zip(kinds, (tree["rope_parameters"], local), strict=True))
        del tree["sliding_window_pattern"]
        tree["layer_types"] = [kinds[1], kinds[0], kinds[1]]
    path = write_published(tmp_path / "new", tree, random_arrays(FAMILIES[family][1]))
    assert open_pretrained(path).config.model == old


@pytest.mark.parametrize(
    ("family", "changes", "complaint"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "is True, and only False is read"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "of type 'yarn'"),
        ("llama", {"rope_scaling": {**LLAMA3, "high_freq_factor": 8}}, "high_freq_factor is 8"),
        ("llama", {"rope_scaling": {"rope_type": "llama3"}}, "low_freq_factor"),
        ("llama", {"tie_word_embeddings": True}, "is another array than"),
        ("llama", {"num_key_value_heads": 3}, "not a multiple of num_kv_heads 3"),
        ("llama, tied", {"tie_word_embeddings": False}, "lacks lm_head.weight"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("gemma3", {"query_pre_attn_scalar": 99}, "query_pre_attn_scalar is 99"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
        ("gemma3", {"layer_types": ["full_attention", "sliding_attention", "x"]}, "layer_types"),
    ],
)
def test_what_zoos_decoder_does_not_compute_is_refused(family, changes, complaint, tmp_path):
    path = publish(tmp_path, family, **changes)
    with pytest.raises(UserError, match=complaint):
        load(path)


def test_a_decoder_of_no_published_kind_is_refused(tmp_path, capsys):
    ours = tmp_path / "ours"
    source = publish(tmp_path / "source", "llama, tied")
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    tree = json.loads((ours / "config.json").read_text())
    tree["model"]["embed_scale"] = True
    (ours / "config.json").write_text(json.dumps(tree))
    argv = ["convert", "--from", str(ours), "--to", str(tmp_path / "out"), "--format", "hf"]
    capsys.readouterr()
    assert main(argv) == 2
    assert "cannot hold this model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
