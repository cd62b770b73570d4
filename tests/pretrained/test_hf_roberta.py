"""Hugging Face's RoBERTa: in by its own names, out as it came where its tokenizer is with it."""

import json

import numpy as np
import pytest

from tests.pretrained import test_hf_bert
from tests.pretrained.published import random_arrays, write_published, write_words
from zoo.cli import main
from zoo.config import UserError
from zoo.pretrained.opening import open_pretrained

D, V = 16, 30
CONFIG = test_hf_bert.CONFIG | {
    "model_type": "roberta", "max_position_embeddings": 14, "type_vocab_size": 1,
    "layer_norm_eps": 1e-5, "pad_token_id": 1,
}  # fmt: skip
BODY = test_hf_bert.BODY | {
    "embeddings.position_embeddings.weight": (14, D),
    "embeddings.token_type_embeddings.weight": (1, D),
}
MASKED = {
    "lm_head.dense.weight": (D, D), "lm_head.dense.bias": (D,), "lm_head.layer_norm.weight": (D,),
    "lm_head.layer_norm.bias": (D,), "lm_head.bias": (V,),
}  # fmt: skip
CLASSES = {
    "classifier.dense.weight": (D, D), "classifier.dense.bias": (D,),
    "classifier.out_proj.weight": (2, D), "classifier.out_proj.bias": (2,),
}  # fmt: skip
BOTH = {"masked_lm": MASKED, "classification": CLASSES}


def publish(directory, head, **changes):
    shapes = {f"roberta.{name}": shape for name, shape in BODY.items()} | BOTH[head]
    arrays = random_arrays(shapes)
    arrays["roberta.embeddings.position_embeddings.weight"][:2] = 0
    path = write_published(directory, {**CONFIG, **changes}, arrays)
    write_words(path, ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdef"])
    return path, arrays


@pytest.mark.parametrize("head", BOTH)
def test_weights_come_out_byte_by_byte_as_they_came_in(head, tmp_path):
    (source, arrays), ours, back = publish(tmp_path / "s", head), tmp_path / "o", tmp_path / "b"
    found = open_pretrained(source)
    assert (found.config.model.head, found.config.model.max_length) == (head, 12)
    positions = arrays["roberta.embeddings.position_embeddings.weight"]
    np.testing.assert_array_equal(found.mapped.read("pos_embed"), positions[2:])
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "hf"]) == 0
    assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert open_pretrained(back).config.model == found.config.model


def test_without_its_tokenizer_it_is_a_bert_of_one_type(tmp_path):
    source, _ = publish(tmp_path / "source", "masked_lm")
    (source / "tokenizer.json").unlink()
    out = tmp_path / "out"
    assert main(["convert", "--from", str(source), "--to", str(out), "--format", "hf"]) == 0
    assert json.loads((out / "config.json").read_text())["model_type"] == "bert"


def test_a_mask_is_filled_as_the_tokenizer_calls_it(tmp_path, capsys):
    source, _ = publish(tmp_path, "masked_lm")
    assert main(["fill-mask", "--weights", str(source), "a [MASK] c", "--top", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_other_padding_is_refused(tmp_path):
    source, _ = publish(tmp_path, "masked_lm", pad_token_id=0)
    with pytest.raises(UserError, match="pad_token_id is 0, and only 1 is read"):
        open_pretrained(source)
