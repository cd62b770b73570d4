"""Configs with odd values are refused in a line, soon, and without much memory; never a crash."""

import contextlib
import copy
import json
import random

import pytest

from tests.pretrained import (
    test_hf_bert,
    test_hf_decoders,
    test_hf_dinov2,
    test_hf_distilbert,
    test_hf_marian,
    test_hf_roberta,
    test_hf_t5,
    test_tf_bert,
    test_vits,
)
from zoo.config import UserError
from zoo.pretrained.opening import open_pretrained

ODD = (
    -1,
    0,
    1,
    7,
    10**9,
    10**18,
    2**70,
    1.5,
    -0.5,
    1e300,
    True,
    None,
    "x",
    "",
    [],
    [3],
    {},
    {"a": 1},
)
PUBLISHED = {
    "bert": lambda path: test_hf_bert.publish(path, "classification"),
    "roberta": lambda path: test_hf_roberta.publish(path, "masked_lm")[0],
    "distilbert": lambda path: test_hf_distilbert.publish(path, "token_classification"),
    "gpt2": lambda path: test_hf_decoders.publish(path, "gpt2"),
    "llama": lambda path: test_hf_decoders.publish(path, "llama"),
    "gemma3": lambda path: test_hf_decoders.publish(path, "gemma3"),
    "marian": lambda path: test_hf_marian.publish(path),
    "t5": lambda path: test_hf_t5.publish(path, gated=True),
    "dinov2": lambda path: test_hf_dinov2.publish(path, "dinov2_with_registers"),
    "deit": lambda path: test_hf_dinov2.publish_deit(path),
    "vit": lambda path: test_vits.publish(path, "hf"),
    "tensorflow": lambda path: test_tf_bert.publish(path, "pretraining"),
    "timm": lambda path: test_vits.publish(path, "timm"),
}
SAMPLES = 25  # of some four hundred
MORE = ("num_labels", "id2label", "rope_parameters", "rope_scaling", "layer_types", "head_dim")


@pytest.mark.parametrize("kind", PUBLISHED)
def test_odd_values_of_any_key_are_refused_or_do_not_matter(kind, tmp_path):
    path = PUBLISHED[kind](tmp_path)
    settings = path / ("bert_config.json" if kind == "tensorflow" else "config.json")
    good = json.loads(settings.read_text())
    rng = random.Random(0)
    places = [(key,) for key in (*good, *MORE) if key not in ("model_type", "architecture")]
    places += [(key, k) for key in good if isinstance(good[key], dict) for k in good[key]]
    cases = [(place, value) for place in places for value in ODD]
    for place, value in rng.sample(cases, min(len(cases), SAMPLES)):
        tree = copy.deepcopy(good)
        inner = tree[place[0]] if len(place) == 2 else tree
        inner[place[-1]] = value
        settings.write_text(json.dumps(tree))
        with contextlib.suppress(UserError):
            found = open_pretrained(path)
            [found.mapped.read(name) for name in found.mapped.shapes]
