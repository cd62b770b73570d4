"""The same random weights in Hugging Face's decoders give the same logits, loss and gradients."""

import numpy as np
import pytest
from flax import nnx

from tests.models.decoder_weights import load_theirs, to_theirs, torch
from tests.models.decoders import (
    GEMMA,
    GPT2,
    LLAMA,
    QWEN,
    apply,
    loss_and_grads,
    make_keys,
    make_model,
    make_params,
    make_tokens,
    small_config,
)
from zoo.inference.decoding import GREEDY, Writer

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]

# Relative to the largest number: float32 sums in another order, through layers that double them,
# and for gradients through them twice.
TOLERANCE, GRADIENTS = 1e-5, 5e-5
CASES = {
    "gpt2": ("gpt2", GPT2),
    "llama 3, longer": ("llama", {**LLAMA, "tied": True}),
    "llama, untied": ("llama", {**LLAMA, "rope_scaling": 1.0, "num_kv_heads": 4}),
    "qwen 3": ("qwen", {**QWEN, "norm_epsilon": 1e-6}),
    "qwen 3, untied": ("qwen", {**QWEN, "tied": False}),
    "gemma 3": ("gemma", {**GEMMA, "depth": 5, "norm_epsilon": 1e-6}),
}


def close(actual, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("family", "options"), CASES.values(), ids=CASES)
def test_logits_loss_and_gradients(family, options):
    cfg = small_config(**options)
    params, tokens = make_params(cfg), make_tokens(3, 12)
    theirs = load_theirs(family, cfg, params)
    labels = torch.tensor(np.asarray(tokens), dtype=torch.long)
    output = theirs(labels, labels=labels)
    close(apply(cfg, params, tokens), output.logits.detach().numpy())
    loss, grads = loss_and_grads(cfg, params, tokens)
    close(loss, output.loss.detach().numpy())
    output.loss.backward()
    ours = to_theirs(family, cfg, grads)
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        close(ours[name], gradient, GRADIENTS)


@pytest.mark.parametrize(("family", "options"), CASES.values(), ids=CASES)
def test_the_likeliest_tokens_are_those_that_generate_writes(family, options):
    cfg = small_config(**{**options, "max_length": 24})
    params = make_params(cfg)
    theirs = load_theirs(family, cfg, params)
    prompts = np.asarray(make_tokens(3, 5)).tolist()
    with torch.no_grad():
        expected = theirs.generate(torch.tensor(prompts), max_new_tokens=12, do_sample=False)
    graphdef, _ = nnx.split(make_model(cfg, params))
    writer = Writer(graphdef, eos=(), max_length=24)
    found = writer.write(params, prompts, max_tokens=12, keys=make_keys(3), sampling=GREEDY)
    assert found == expected[:, 5:].tolist()
