"""What the oracle tests share: PyTorch's side, and the way there and back."""

import numpy as np
import pytest

from tests.torch_library import torch
from zoo.cli import main

transformers = pytest.importorskip("transformers")
# float32 sums in another order, as a share of the largest number.
TOLERANCE = 1e-5


def tensor(x):
    """Numbers of tokens are 64-bit there."""
    x = torch.tensor(np.asarray(x))
    return x.long() if x.dtype == torch.int32 else x


def inputs(batch):
    """A batch of BERT's, by their names."""
    names = {"input_ids": "tokens", "token_type_ids": "type", "attention_mask": "segment"}
    return {theirs: tensor(batch[ours]) for theirs, ours in names.items()}


def close(actual, expected, tolerance=TOLERANCE):
    """Equal but for rounding."""
    expected = expected.detach().numpy()
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-3)
    )


def round_trip(tmp_path, kind):
    """theirs/ -> Zoo's -> back/: the same file, which their class loads with nothing left over."""
    paths = {name: str(tmp_path / name) for name in ("theirs", "ours", "back")}
    assert main(["convert", "--from", paths["theirs"], "--to", paths["ours"]]) == 0
    argv = ["convert", "--from", paths["ours"], "--to", paths["back"], "--format", "hf"]
    assert main(argv) == 0
    before, after = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("theirs", "back")
    )
    assert before == after
    found, info = kind.from_pretrained(paths["back"], output_loading_info=True)
    assert not any(info.values()), info
    return found.eval()
