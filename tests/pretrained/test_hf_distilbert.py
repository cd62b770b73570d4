"""Hugging Face's DistilBERT: every head comes in by its names alone, and goes out as it came."""

import json

import numpy as np
import pytest

from tests.models.berts import make_params, small_config
from tests.pretrained.published import (
    load,
    random_arrays,
    write_published,
    write_vocabulary,
)
from zoo.cli import main
from zoo.config import UserError
from zoo.config.data import MaskedData
from zoo.config.schema import Config
from zoo.models.paths import leaves_by_path
from zoo.pretrained.opening import open_pretrained
from zoo.pretrained.saving import Model, save

D, F, V = 16, 24, 30
CONFIG = {
    "model_type": "distilbert", "vocab_size": V, "dim": D, "n_layers": 2, "n_heads": 2,
    "hidden_dim": F, "max_position_embeddings": 12, "activation": "gelu", "qa_dropout": 0.1,
    "sinusoidal_pos_embds": False, "tie_weights_": True,
}  # fmt: skip
LAYER = {
    "attention.q_lin.weight": (D, D), "attention.q_lin.bias": (D,),
    "attention.k_lin.weight": (D, D), "attention.k_lin.bias": (D,),
    "attention.v_lin.weight": (D, D), "attention.v_lin.bias": (D,),
    "attention.out_lin.weight": (D, D), "attention.out_lin.bias": (D,),
    "sa_layer_norm.weight": (D,), "sa_layer_norm.bias": (D,),
    "ffn.lin1.weight": (F, D), "ffn.lin1.bias": (F,), "ffn.lin2.weight": (D, F),
    "ffn.lin2.bias": (D,), "output_layer_norm.weight": (D,), "output_layer_norm.bias": (D,),
}  # fmt: skip
BODY = {
    "embeddings.word_embeddings.weight": (V, D),
    "embeddings.position_embeddings.weight": (12, D),
    "embeddings.LayerNorm.weight": (D,),
    "embeddings.LayerNorm.bias": (D,),
    **{f"transformer.layer.{i}.{name}": shape for i in (0, 1) for name, shape in LAYER.items()},
}
MASKED = {
    "vocab_transform.weight": (D, D), "vocab_transform.bias": (D,),
    "vocab_layer_norm.weight": (D,), "vocab_layer_norm.bias": (D,), "vocab_projector.bias": (V,),
}  # fmt: skip


def dense(name, count):
    return {f"{name}.weight": (count, D), f"{name}.bias": (count,)}


INSIDE = {f"distilbert.{name}": shape for name, shape in BODY.items()}
# What a head is called here; the class there; its arrays.
HEADS = {
    "masked_lm": ("DistilBertForMaskedLM", INSIDE | MASKED),
    "classification": (
        "DistilBertForSequenceClassification",
        INSIDE | dense("pre_classifier", D) | dense("classifier", 3),
    ),
    "token_classification": (
        "DistilBertForTokenClassification", INSIDE | dense("classifier", 3)
    ),
    "question_answering": ("DistilBertForQuestionAnswering", INSIDE | dense("qa_outputs", 2)),
    "none": ("DistilBertModel", BODY),
}  # fmt: skip


def publish(directory, head, **changes):
    architecture, shapes = HEADS[head]
    tree = {**CONFIG, "architectures": [architecture], **changes}
    if "classification" in head:
        tree["id2label"] = {"0": "no", "1": "perhaps", "2": "yes"}
    path = write_published(directory, tree, random_arrays(shapes))
    write_vocabulary(path)
    return path


@pytest.mark.parametrize("head", HEADS)
def test_weights_come_out_byte_by_byte_as_they_came_in(head, tmp_path):
    source = publish(tmp_path / "source", head)
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "hf"]) == 0
    assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    tree = json.loads((back / "config.json").read_text())
    assert tree["model_type"] == "distilbert"
    assert tree["architectures"] == [HEADS[head][0]]
    there, here = open_pretrained(source), open_pretrained(back)
    assert here.config.model == there.config.model
    assert here.classes == there.classes
    cfg = there.config.model
    assert (cfg.head, cfg.num_types, cfg.pooler_activation) == (head, 0, "relu")


def test_each_array_finds_its_place(tmp_path):
    source = publish(tmp_path, "classification")
    arrays = random_arrays(HEADS["classification"][1])
    _, params = load(source)
    for path, name in (
        (("blocks", "attn", "out"), "distilbert.transformer.layer.1.attention.out_lin"),
        (("blocks", "mlp", "down"), "distilbert.transformer.layer.1.ffn.lin2"),
    ):
        kernel = params[path[0]][path[1]][path[2]]["kernel"][1]
        np.testing.assert_array_equal(kernel, arrays[f"{name}.weight"].T)
    np.testing.assert_array_equal(params["pooler"]["kernel"], arrays["pre_classifier.weight"].T)
    assert "type_embed" not in params


def test_masks_are_filled_and_texts_classified(tmp_path, capsys):
    source = publish(tmp_path / "masked", "masked_lm")
    assert main(["fill-mask", "--weights", str(source), "a [MASK] c", "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    source = publish(tmp_path / "classes", "classification")
    assert main(["classify-text", "--weights", str(source), "a b c", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["class"] for one in found[0]["top"]} == {"no", "perhaps", "yes"}


def test_old_files_repeat_the_table(tmp_path):
    arrays = random_arrays(HEADS["masked_lm"][1])
    table = arrays["distilbert.embeddings.word_embeddings.weight"].copy()
    arrays["vocab_projector.weight"] = table
    path = write_published(tmp_path, CONFIG, arrays)
    states = {one.name: one.state for one in open_pretrained(path).mapped.report}
    assert states["vocab_projector.weight"] == "tied"
    table[3] += 1
    write_published(tmp_path, CONFIG, arrays)
    with pytest.raises(UserError, match=r"vocab_projector.weight is another array"):
        load(path)


def own_model(**changes):
    """A model of one's own, as `zoo convert` takes it from a run."""
    cfg = small_config(num_types=0, gelu="erf", **changes)
    flat = leaves_by_path(make_params(cfg))
    shapes = {path: leaf.shape for path, leaf in flat.items()}
    config = Config(model=cfg, data=MaskedData(name="text", tokenizer="t", length=8))
    read = lambda path, layer: np.asarray(flat[path] if layer is None else flat[path][layer])
    return Model(config, (), None, shapes, read)


def test_a_model_without_types_is_written_as_one(tmp_path):
    save(own_model(head="masked_lm"), tmp_path / "masked", "hf")
    tree = json.loads((tmp_path / "masked" / "config.json").read_text())
    assert tree["model_type"] == "distilbert"
    with pytest.raises(UserError, match="has pooler_activation relu, not tanh"):
        save(own_model(head="classification", num_classes=3), tmp_path / "classes", "hf")
    with pytest.raises(UserError, match=r"pooler/bias has no place in the format of .*DistilBERT"):
        save(own_model(head="pooled", pooler_activation="relu"), tmp_path / "pooled", "hf")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"activation": "relu"}, "only forms of GELU"),
        ({"dim": "16"}, r"Expected `int`, got `str` - at `\$.dim`"),
        ({"n_layers": 3}, "lacks transformer.layer.2.attention"),
        ({"n_layers": 1}, "holds distilbert.transformer.layer.1.*of which no parameter"),
    ],
)
def test_what_zoos_bert_does_not_compute_is_refused(changes, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        open_pretrained(publish(tmp_path, "masked_lm", **changes))
