"""Hugging Face's T5: in by its own names, out as it came, and in use."""

import json

import numpy as np
import pytest

from tests.pretrained.published import random_arrays, write_published, write_words
from zoo.cli import main
from zoo.config import UserError
from zoo.pretrained.opening import open_pretrained

D, F, V, H, N = 16, 24, 20, 6, 4
CONFIG = {
    "model_type": "t5", "vocab_size": V, "d_model": D, "d_kv": H, "d_ff": F, "num_layers": 2,
    "num_decoder_layers": 3, "num_heads": N, "is_encoder_decoder": True,
    "decoder_start_token_id": 0,
}  # fmt: skip


def sublayer(number, name, shapes):
    found = {f"layer.{number}.{name}.{part}.weight": shape for part, shape in shapes.items()}
    return found | {f"layer.{number}.layer_norm.weight": (D,)}


def arrays_of(*, gated):
    attention = dict.fromkeys("qkv", (N * H, D)) | {"o": (D, N * H)}
    up = {"wi_0": (F, D), "wi_1": (F, D)} if gated else {"wi": (F, D)}
    mlp = up | {"wo": (D, F)}
    blocks = {
        "encoder": sublayer(0, "SelfAttention", attention) | sublayer(1, "DenseReluDense", mlp),
        "decoder": sublayer(0, "SelfAttention", attention)
        | sublayer(1, "EncDecAttention", attention)
        | sublayer(2, "DenseReluDense", mlp),
    }
    shapes = {"shared.weight": (V, D)} | ({"lm_head.weight": (V, D)} if gated else {})
    for stack, depth in (("encoder", 2), ("decoder", 3)):
        shapes[f"{stack}.final_layer_norm.weight"] = (D,)
        table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        shapes[table] = (32, N)
        for i in range(depth):
            shapes |= {f"{stack}.block.{i}.{n}": shape for n, shape in blocks[stack].items()}
    return random_arrays(shapes)


def publish(directory, *, gated, extra=None, **changes):
    kind = {"feed_forward_proj": "gated-gelu" if gated else "relu"}
    tree = {**CONFIG, **kind, "tie_word_embeddings": not gated, **changes}
    return write_published(directory, tree, arrays_of(gated=gated) | (extra or {}))


@pytest.mark.parametrize("gated", [False, True], ids=["1.0", "1.1"])
def test_weights_come_out_byte_by_byte_as_they_came_in(gated, tmp_path):
    source = publish(tmp_path / "source", gated=gated)
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "hf"]) == 0
    assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    expected = open_pretrained(source).config.model
    assert (expected.tied, expected.logits_scale, expected.gated) == (not gated, not gated, gated)
    assert open_pretrained(back).config.model == expected


def test_old_files_repeat_the_table_and_have_one_that_nobody_reads(tmp_path):
    table = arrays_of(gated=False)["shared.weight"]
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    names = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    extra = {name: table.copy() for name in names} | {unread: np.ones((32, N), np.float32)}
    found = open_pretrained(publish(tmp_path, gated=False, extra=extra))
    states = {entry.name: entry.state for entry in found.mapped.report}
    assert [states[name] for name in names] == ["tied"] * 3
    assert states[unread] == "skipped"
    np.testing.assert_array_equal(found.mapped.read("token_embed/table"), table)
    extra["decoder.embed_tokens.weight"] = table + 1
    found = open_pretrained(publish(tmp_path, gated=False, extra=extra))
    with pytest.raises(UserError, match=r"decoder.embed_tokens.weight is another array"):
        found.mapped.read("token_embed/table")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"relative_attention_num_buckets": 16}, "relative_attention_num_buckets is 16"),
        ({"feed_forward_proj": "gated-relu"}, "feed_forward_proj 'gated-relu' is none of"),
        ({"decoder_start_token_id": 3}, "decoder_start_token_id is 3"),
        ({"num_decoder_layers": 2}, "decoder.block.2.*of which no parameter"),
    ],
)
def test_what_zoos_does_not_compute_is_refused(changes, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        open_pretrained(publish(tmp_path, gated=False, **changes))


def test_a_text_is_translated(tmp_path, capsys):
    source = publish(tmp_path, gated=True)
    write_words(source, ["<pad>", "</s>", "<unk>", *"abcdefgh"])
    assert main(["translate", "--weights", str(source), "a b c", "--beam", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["source"] == "a b c"
    assert len(found[0]["beams"]) == 2
