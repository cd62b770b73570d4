"""Hugging Face's BERT: every head comes in by its names alone, and goes out as it came."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.models.berts import run_head
from tests.pretrained.published import load, random_arrays, write_published, write_vocabulary
from zoo.cli import main
from zoo.config import UserError
from zoo.pretrained.opening import open_pretrained

D, F, V = 16, 24, 30
CONFIG = {
    "model_type": "bert", "vocab_size": V, "hidden_size": D, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": F, "max_position_embeddings": 12,
    "hidden_act": "gelu", "position_embedding_type": "absolute", "use_cache": True,
}  # fmt: skip
EMBEDDINGS = {
    "embeddings.word_embeddings.weight": (V, D),
    "embeddings.position_embeddings.weight": (12, D),
    "embeddings.token_type_embeddings.weight": (2, D),
    "embeddings.LayerNorm.weight": (D,),
    "embeddings.LayerNorm.bias": (D,),
}
LAYER = {
    "attention.self.query.weight": (D, D), "attention.self.query.bias": (D,),
    "attention.self.key.weight": (D, D), "attention.self.key.bias": (D,),
    "attention.self.value.weight": (D, D), "attention.self.value.bias": (D,),
    "attention.output.dense.weight": (D, D), "attention.output.dense.bias": (D,),
    "attention.output.LayerNorm.weight": (D,), "attention.output.LayerNorm.bias": (D,),
    "intermediate.dense.weight": (F, D), "intermediate.dense.bias": (F,),
    "output.dense.weight": (D, F), "output.dense.bias": (D,),
    "output.LayerNorm.weight": (D,), "output.LayerNorm.bias": (D,),
}  # fmt: skip
BODY = EMBEDDINGS | {
    f"encoder.layer.{i}.{name}": shape for i in (0, 1) for name, shape in LAYER.items()
}
POOLER = {"pooler.dense.weight": (D, D), "pooler.dense.bias": (D,)}
MASKED = {
    "cls.predictions.transform.dense.weight": (D, D), "cls.predictions.transform.dense.bias": (D,),
    "cls.predictions.transform.LayerNorm.weight": (D,),
    "cls.predictions.transform.LayerNorm.bias": (D,), "cls.predictions.bias": (V,),
}  # fmt: skip
NEXT = {"cls.seq_relationship.weight": (2, D), "cls.seq_relationship.bias": (2,)}


def classes(name, count):
    return {f"{name}.weight": (count, D), f"{name}.bias": (count,)}


def prefixed(shapes):
    return {f"bert.{name}": shape for name, shape in shapes.items()}


# What a head is called here; the class there; its arrays.
HEADS = {
    "pretraining": ("BertForPreTraining", prefixed(BODY | POOLER) | MASKED | NEXT),
    "masked_lm": ("BertForMaskedLM", prefixed(BODY) | MASKED),
    "classification": (
        "BertForSequenceClassification", prefixed(BODY | POOLER) | classes("classifier", 3)
    ),
    "token_classification": (
        "BertForTokenClassification", prefixed(BODY) | classes("classifier", 3)
    ),
    "question_answering": (
        "BertForQuestionAnswering", prefixed(BODY) | classes("qa_outputs", 2)
    ),
    "pooled": ("BertModel", BODY | POOLER),
    "none": ("BertModel", BODY),
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
    assert tree["architectures"] == [HEADS[head][0]]
    assert open_pretrained(ours).config.model == open_pretrained(source).config.model
    assert open_pretrained(back).config.model == open_pretrained(source).config.model
    assert open_pretrained(back).classes == open_pretrained(source).classes


def test_kernels_are_turned_and_each_layer_finds_its_place(tmp_path):
    source = publish(tmp_path, "pretraining")
    arrays = random_arrays(HEADS["pretraining"][1])
    cfg, params = load(source)
    assert (cfg.head, cfg.gelu, cfg.norm_epsilon, cfg.num_heads) == ("pretraining", "erf", 1e-12, 2)
    name = "bert.encoder.layer.1.intermediate.dense.weight"
    np.testing.assert_array_equal(params["blocks"]["mlp"]["up"]["kernel"][1], arrays[name].T)
    np.testing.assert_array_equal(params["masked_lm"]["bias"], arrays["cls.predictions.bias"])


def test_a_file_with_old_names_a_constant_and_tied_copies_is_the_same_model(tmp_path):
    arrays = random_arrays(HEADS["masked_lm"][1])
    expected = load(publish(tmp_path / "new", "masked_lm"))[1]
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): a for n, a in arrays.items()}
    old = {n.replace("LayerNorm.bias", "LayerNorm.beta"): a for n, a in old.items()}
    old["bert.embeddings.position_ids"] = np.arange(12)[None]
    old["cls.predictions.decoder.weight"] = arrays["bert.embeddings.word_embeddings.weight"].copy()
    old["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"].copy()
    path = write_published(tmp_path / "old", CONFIG, old)
    _, params = load(path)
    np.testing.assert_array_equal(params["embed_norm"]["scale"], expected["embed_norm"]["scale"])
    states = {entry.name: entry.state for entry in open_pretrained(path).mapped.report}
    assert states["bert.embeddings.position_ids"] == "skipped"
    assert states["cls.predictions.decoder.weight"] == "tied"
    assert list(states.values()).count("mapped") == len(arrays)
    old["cls.predictions.decoder.weight"][3] += 1
    path = write_published(tmp_path / "untied", CONFIG, old)
    with pytest.raises(UserError, match=r"decoder.weight is another array than .*word_embeddings"):
        load(path)


def test_sixteen_bit_files_give_the_same_numbers_in_float32(tmp_path):
    source = publish(tmp_path / "source", "none")
    for dtype in ("bfloat16", "float16"):
        short = tmp_path / dtype
        argv = ["--from", str(source), "--to", str(short), "--format", "hf", "--dtype", dtype]
        assert main(["convert", *argv]) == 0
        wide = load(source)[1]["token_embed"]["table"]
        assert load(short)[1]["token_embed"]["table"].dtype == jnp.float32
        np.testing.assert_array_equal(
            load(short)[1]["token_embed"]["table"], wide.astype(dtype).astype(jnp.float32)
        )


def test_masks_are_filled_and_texts_classified_from_published_files(tmp_path, capsys):
    source = publish(tmp_path / "masked", "masked_lm")
    assert main(["fill-mask", "--weights", str(source), "a [MASK] c", "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    source = publish(tmp_path / "classes", "classification")
    assert main(["classify-text", "--weights", str(source), "a b c", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["class"] for one in found[0]["top"]} == {"no", "perhaps", "yes"}


def test_a_bare_encoder_gives_the_mean_of_its_tokens(tmp_path):
    source = publish(tmp_path, "pooled")
    encoder = zoo.load(source)
    text = "a b [c"  # 4 pieces, of which one is unknown
    cfg, params = load(source)
    tokens = [2, *encoder.opened.tokenizer.encode(text).tolist(), 3]
    batch = {name: jnp.asarray([value]) for name, value in {
        "tokens": tokens, "type": [0] * len(tokens), "segment": [1] * len(tokens),
    }.items()}  # fmt: skip
    mean = np.asarray(run_head(cfg, params, batch)["hidden"])[0].mean(0)
    found = encoder.embed([text, "a"])
    assert found.shape == (2, D)
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), rtol=2e-5)
    (source / "1_Pooling").mkdir()
    modes = {"word_embedding_dimension": D, "pooling_mode_cls_token": True}
    (source / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    first = np.asarray(run_head(cfg, params, batch)["hidden"])[0, 0]
    np.testing.assert_allclose(zoo.load(source).embed([text])[0], first, rtol=2e-5)
    modes["pooling_mode_max_tokens"] = True
    (source / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    with pytest.raises(UserError, match="pooling_mode_max_tokens"):
        zoo.load(source)


def test_what_zoos_bert_does_not_compute_is_refused(tmp_path):
    for changes, complaint in (
        ({"hidden_act": "mish"}, "the activation 'mish' is not read here"),
        ({"hidden_act": "relu"}, "only forms of GELU"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"hidden_size": "16"}, r"Expected `int`, got `str` - at `\$.hidden_size`"),
        ({"num_attention_heads": 3}, "width 16 is not a multiple of num_heads 3"),
        ({"hidden_size": 2**40}, r"Expected `int` <= 2147483648"),
        ({"hidden_size": 2**20}, "the config belongs to other weights"),
        ({"num_hidden_layers": 3}, r"lacks encoder.layer.2.attention"),
        ({"num_hidden_layers": 1}, r"holds bert.encoder.layer.1.*, of which no parameter"),
        ({"vocab_size": 31}, r"word_embeddings.weight is \[30, 16\].* made of \[31, 16\]"),
    ):
        path = publish(tmp_path, "masked_lm", **changes)
        with pytest.raises(UserError, match=complaint):
            open_pretrained(path)


def test_published_weights_take_one_text_or_two(tmp_path, capsys):
    source = publish(tmp_path, "classification")
    classify = ["classify-text", "--weights", str(source), "--json"]
    assert main([*classify, "a b", "c d e"]) == 0
    assert [one["texts"] for one in json.loads(capsys.readouterr().out)] == [["a b"], ["c d e"]]
    assert main([*classify, "--pairs", "a b", "c d e"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["texts"] for one in found] == [["a b", "c d e"]]
    cfg, params = load(source)
    tokens = [2, 5, 6, 3, 7, 8, 9, 3]  # [CLS] a b [SEP] c d e [SEP]
    batch = {"tokens": tokens, "type": [0] * 4 + [1] * 4, "segment": [1] * 8}
    batch = {name: jnp.asarray([value]) for name, value in batch.items()}
    logits = np.asarray(run_head(cfg, params, batch)["class"])[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    shown = {one["class"]: one["probability"] for one in found[0]["top"]}
    np.testing.assert_allclose([shown[n] for n in ("no", "perhaps", "yes")], expected, rtol=1e-4)
    assert main([*classify, "--pairs", "a b"]) == 2
    assert "give an even number, not 1" in capsys.readouterr().err
