"""Real published weights behave as they are known to, where `benchmarks/fetch_data.py` put them."""

import os
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.cli import main
from zoo.inference.decoding import GREEDY
from zoo.pretrained.files import open_arrays

DATA = Path(os.environ.get("ZOO_DATA_DIR") or Path.home() / "zoo_data")
MINILM, STORIES = DATA / "minilm", DATA / "stories15m"
TEXTS = (
    "A man is eating food.",
    "Someone is having a meal.",
    "The stock market crashed yesterday.",
)
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the "
    "sunshine. One day, she saw a big, red ball in the sky."
)
BEGIN = "Once upon a time, there was a little girl"

pytestmark = pytest.mark.slow


def needs(path):
    return pytest.mark.skipif(
        not path.is_dir(), reason=f"python benchmarks/fetch_data.py {path.name} fetches it"
    )


@needs(MINILM)
def test_minilms_cosines(tmp_path):
    out = tmp_path / "hf"
    assert main(["convert", "--from", str(MINILM), "--to", str(out), "--format", "hf"]) == 0
    before, after = open_arrays(MINILM), open_arrays(out)
    assert before.specs.keys() - after.specs.keys() == {"embeddings.position_ids"}
    for name in after.specs:
        np.testing.assert_array_equal(before.read(name), after.read(name))
    for path in (MINILM, out):
        vectors = zoo.load(path).embed(TEXTS)
        cosines = (vectors @ vectors.T)[np.triu_indices(3, 1)]
        np.testing.assert_allclose(cosines, [0.689, 0.003, -0.017], atol=6e-4)


@needs(STORIES)
def test_the_story_goes_on(tmp_path):
    out = tmp_path / "hf"
    assert main(["convert", "--from", str(STORIES), "--to", str(out), "--format", "hf"]) == 0
    for path in (STORIES, STORIES / "model.bin", out):
        found = zoo.load(path).generate(["", BEGIN], max_tokens=40, sampling=GREEDY)
        assert found[0]["text"].startswith(STORY)
        assert (BEGIN + found[1]["text"]).startswith(STORY)
