"""Published weights in training and evaluation: what fits is taken, what does not is named."""

import json

import jax
import numpy as np
import pytest

from tests.pretrained import test_hf_bert, test_vits
from tests.pretrained.published import load, random_arrays, write_published
from tests.tiny import tiny_config
from zoo.cli import main
from zoo.config import UserError, parse_config
from zoo.config.load import to_dict
from zoo.config.schema import MeshConfig
from zoo.experiment.evaluate import evaluate_weights
from zoo.models.positions import resize_positions
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import init_params
from zoo.training.loop import train
from zoo.training.weights import open_weights, params_from

GREY = test_vits.TIMM | {
    "patch_embed.proj.weight": (16, 1, 4, 4), "head.weight": (10, 16), "head.bias": (10,),
}  # fmt: skip
# The model of those arrays; no image operation changes an 8 x 8 digit.
STILL = {"freeze": ["(?!head/bias).*"]}
VIT = {"mlp_dim": 24, "gelu": "erf", "image_size": 8, "channels": 1}


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    directory = tmp_path_factory.mktemp("timm")
    tree = test_vits.TIMM_CONFIG | {"num_classes": 10, "label_names": [*"0123456789"]}
    tree["pretrained_cfg"] = {"input_size": [1, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3}
    return write_published(directory, tree, random_arrays(GREY))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    directory = tmp_path_factory.mktemp("texts")
    rows = [{"text": "a b c d"[i % 4 :], "label": "no" if i % 2 else "yes"} for i in range(16)]
    for split in ("train", "test"):
        (directory / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return directory


def text_config(texts, source, **model):
    shapes = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 2, "max_length": 12}
    return parse_config(
        {
            "model": {
                "family": "bert", "head": "classification", "gelu": "erf", **shapes, **model,
            },
            "data": {
                "kind": "text_classification", "name": "text", "dir": str(texts), "length": 12,
                "tokenizer": str(source), "batch_size": 8, "threads": 1,
            },
            "init_from": str(source), "optimizer": STILL, "total": "1 steps",
            "eval_every": "1 steps", "save_every": "1 steps",
        }
    )  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def test_a_vit_is_evaluated_where_it_comes_from_and_as_a_run(vit, tmp_path):
    config = tiny_config(model=VIT)
    found = evaluate_weights(str(vit), config)
    ours = tmp_path / "ours"
    assert main(["convert", "--from", str(vit), "--to", str(ours)]) == 0
    assert evaluate_weights(str(ours), config) == found
    assert found["test/count"] == 360
    with pytest.raises(UserError, match=r"add --config.model.gelu=erf"):
        evaluate_weights(str(vit), tiny_config(model={**VIT, "gelu": "tanh"}))
    with pytest.raises(UserError, match=r"mlp/down/kernel is \[2, 24, 16\] there, and \[2, 32, 16"):
        evaluate_weights(str(vit), tiny_config(model={**VIT, "mlp_dim": 32}))


def test_a_run_starts_from_published_weights_of_images(vit, capsys):
    config = tiny_config(model={**VIT, "num_classes": 7}, init_from=str(vit))
    fresh = init_params(config, jax.random.key(0))
    found, published = params_from(str(vit), config, fresh, _mesh()), load(vit)[1]
    assert "has no head of this kind: it starts fresh" in capsys.readouterr().err
    np.testing.assert_array_equal(found["head"]["kernel"], fresh["head"]["kernel"])
    del found["head"], published["head"]
    jax.tree.map(np.testing.assert_array_equal, found, published)


def test_positions_go_to_another_grid_as_the_source_takes_them_there(vit):
    config = tiny_config(
        model={**VIT, "image_size": 16}, data={"image_size": 16}, init_from=str(vit)
    )
    fresh = init_params(config, jax.random.key(0))
    found = params_from(str(vit), config, fresh, _mesh())["pos_embed"]
    table = load(vit)[1]["pos_embed"]
    expected = resize_positions(table, (2, 2), (4, 4), "bicubic_antialias")
    assert config.model.position_resize == "bilinear"
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_classifier_of_texts_starts_from_a_bare_encoder_and_goes_out(texts, tmp_path, capsys):
    source = test_hf_bert.publish(tmp_path / "source", "pooled")
    train(text_config(texts, source), tmp_path / "run")
    assert "has no head of this kind: it starts fresh" in capsys.readouterr().err
    before, weights = load(source)[1], open_weights(tmp_path / "run")
    after = weights.load(_mesh())
    for name in ("pooler", "embed_norm", "token_embed"):  # 30 rows, of which 24 are tokens
        for leaf in before[name]:
            np.testing.assert_array_equal(before[name][leaf], after[name][leaf])
    out = tmp_path / "hf"
    assert main(["convert", "--from", str(tmp_path / "run"), "--to", str(out)]) == 0
    found = open_weights(out)
    assert (found.config.model.head, found.classes) == ("classification", ("no", "yes"))
    argv = ["classify-text", "--weights", str(out), "a b", "--json"]
    capsys.readouterr()
    assert main(argv) == 0
    there = json.loads(capsys.readouterr().out)
    assert main([*argv[:1], "--workdir", str(tmp_path / "run"), *argv[3:]]) == 0
    assert json.loads(capsys.readouterr().out) == there


def test_a_config_that_computes_otherwise_is_told_how(texts, tmp_path):
    source = test_hf_bert.publish(tmp_path / "source", "pooled")
    config = text_config(texts, source, gelu="tanh", num_heads=4)
    with pytest.raises(UserError, match=r"add --config.model.num_heads=2 --config.model.gelu=erf"):
        train(config, tmp_path / "run")


def test_inspect_lists_every_array_and_what_it_is(vit, capsys):
    assert main(["inspect", str(vit), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in found["arrays"]} == GREY.keys()
    assert found["num_params"] == sum(int(np.prod(shape)) for shape in GREY.values())
    assert main(["inspect", str(vit)]) == 0
    assert "blocks.1.attn.qkv.weight" in capsys.readouterr().out


def test_the_resolved_config_of_weights_is_a_config(vit, tmp_path):
    assert main(["convert", "--from", str(vit), "--to", str(tmp_path / "ours")]) == 0
    tree = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert to_dict(parse_config(tree)) == tree


def _mesh():
    return make_mesh(MeshConfig(data=1), jax.devices()[:1])
