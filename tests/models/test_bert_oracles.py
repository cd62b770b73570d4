"""The same random weights in Hugging Face's PyTorch models give the same numbers.

float32 against float32, logits within 1e-5 and gradients within 1e-4 of the largest: what is
left is the order of sums.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models.bert_weights import to_torch, torch
from tests.models.berts import make_batch, make_params, run_head, small_config

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]
transformers = pytest.importorskip("transformers")

# Their tied copies of parameters that we give under another name.
TIED = {
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    "lm_head.decoder.weight",
    "lm_head.decoder.bias",
}


def make_theirs(name, cfg, params, **options):
    """Hugging Face's model of that name with our parameters, without dropout."""
    kind = "Roberta" if "Roberta" in name else "Bert"
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=cfg.width,
        num_hidden_layers=cfg.depth,
        num_attention_heads=cfg.num_heads,
        intermediate_size=cfg.mlp_dim,
        vocab_size=cfg.vocab_size,
        type_vocab_size=cfg.num_types,
        hidden_act="gelu" if cfg.gelu == "erf" else "gelu_new",
        layer_norm_eps=cfg.norm_epsilon,
        **{"max_position_embeddings": cfg.max_length, **options},
    )
    theirs = getattr(transformers, name)(config).eval()
    result = theirs.load_state_dict(to_torch(cfg, params, kind), strict=False)
    assert not result.unexpected_keys
    assert set(result.missing_keys) <= TIED
    return theirs


def inputs(batch):
    return {
        "input_ids": tensor(batch["tokens"]),
        "token_type_ids": tensor(batch["type"]),
        "attention_mask": tensor(batch["segment"]),
    }


def tensor(x):
    x = torch.tensor(np.asarray(x))
    return x.long() if x.dtype == torch.int32 else x


def close(actual, expected, tolerance=1e-5):
    expected = expected.detach().numpy() if hasattr(expected, "detach") else np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def compare_step(cfg, params, batch, theirs, our_loss, their_loss):
    """Compares a loss of `run_head`'s outputs and all its gradients with PyTorch's."""

    @jax.jit
    def step(params):
        return jax.value_and_grad(lambda p: our_loss(run_head(cfg, p, batch)))(params)

    loss, grads = step(params)
    close(loss, their_loss)
    their_loss.backward()
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}
    actual = to_torch(cfg, grads)
    assert set(actual) == set(expected)
    largest = max(np.abs(g).max() for g in expected.values())
    for name, grad in actual.items():
        # The gradient of key biases is zero but for rounding errors.
        atol = 1e-4 * np.abs(expected[name]).max() + 1e-6 * largest
        np.testing.assert_allclose(grad, expected[name], rtol=0, atol=atol, err_msg=name)


cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def masked_labels(batch):
    """Their labels: the target where a token is predicted, else -100."""
    labels = np.full(batch["tokens"].shape, -100)
    np.put_along_axis(labels, np.asarray(batch["masked_positions"]), batch["masked_targets"], 1)
    return torch.tensor(labels)


def masked_loss(batch, outputs):
    return cross_entropy(outputs["masked"], batch["masked_targets"]).mean()


def masked_logits(batch, logits):
    positions = np.asarray(batch["masked_positions"])[..., None]
    return np.take_along_axis(logits.detach().numpy(), positions, 1)


GELU = pytest.mark.parametrize("gelu", ["tanh", "erf"])


@GELU
def test_pretraining(gelu):
    cfg, batch = small_config(gelu=gelu, depth=3), make_batch()
    params = make_params(cfg)
    theirs = make_theirs("BertForPreTraining", cfg, params)
    expected = theirs(
        **inputs(batch),
        labels=masked_labels(batch),
        next_sentence_label=tensor(batch["next_sentence"]),
    )
    outputs = run_head(cfg, params, batch)
    close(outputs["masked"], masked_logits(batch, expected.prediction_logits))
    close(outputs["next_sentence"], expected.seq_relationship_logits)

    def loss(outputs):
        next_sentence = cross_entropy(outputs["next_sentence"], batch["next_sentence"]).mean()
        return masked_loss(batch, outputs) + next_sentence

    compare_step(cfg, params, batch, theirs, loss, expected.loss)


@GELU
def test_masked_lm(gelu):
    cfg, batch = small_config(head="masked_lm", gelu=gelu), make_batch()
    params = make_params(cfg)
    theirs = make_theirs("BertForMaskedLM", cfg, params)
    expected = theirs(**inputs(batch), labels=masked_labels(batch))
    close(run_head(cfg, params, batch)["masked"], masked_logits(batch, expected.logits))
    loss = functools.partial(masked_loss, batch)
    compare_step(cfg, params, batch, theirs, loss, expected.loss)


@GELU
def test_sequence_classification(gelu):
    cfg, batch = small_config(head="classification", gelu=gelu), make_batch()
    params = make_params(cfg)
    theirs = make_theirs("BertForSequenceClassification", cfg, params, num_labels=3)
    expected = theirs(**inputs(batch), labels=tensor(batch["class"]))
    close(run_head(cfg, params, batch)["class"], expected.logits)
    loss = lambda outputs: cross_entropy(outputs["class"], batch["class"]).mean()
    compare_step(cfg, params, batch, theirs, loss, expected.loss)


def test_regression():
    cfg, batch = small_config(head="classification", num_classes=1, gelu="erf"), make_batch()
    params = make_params(cfg)
    theirs = make_theirs("BertForSequenceClassification", cfg, params, num_labels=1)
    expected = theirs(**inputs(batch), labels=tensor(batch["number"]))
    close(run_head(cfg, params, batch)["class"], expected.logits)
    loss = lambda outputs: jnp.mean((outputs["class"][:, 0] - batch["number"]) ** 2)
    compare_step(cfg, params, batch, theirs, loss, expected.loss)


def test_token_classification():
    cfg, batch = small_config(head="token_classification", gelu="erf"), make_batch()
    params = make_params(cfg)
    theirs = make_theirs("BertForTokenClassification", cfg, params, num_labels=5)
    real = np.asarray(batch["segment"]) > 0
    labels = torch.tensor(np.where(real, batch["tags"], -100)).long()
    expected = theirs(**inputs(batch), labels=labels)
    # Padding sees all tokens in theirs, and padding alone in ours: nobody sees it in either.
    close(run_head(cfg, params, batch)["tags"][real], expected.logits[real])
    loss = lambda outputs: jnp.mean(cross_entropy(outputs["tags"], batch["tags"]), where=real)
    compare_step(cfg, params, batch, theirs, loss, expected.loss)


def test_question_answering():
    cfg, batch = small_config(head="question_answering", gelu="erf"), make_batch()
    params = make_params(cfg)
    theirs = make_theirs("BertForQuestionAnswering", cfg, params)
    expected = theirs(**inputs(batch))
    outputs = run_head(cfg, params, batch)
    real = np.asarray(batch["segment"]) > 0
    their_loss = 0.0
    for name, logits in (("start", expected.start_logits), ("end", expected.end_logits)):
        close(outputs[name][real], logits[real])
        # Their own loss lets an answer stand in the padding.
        logits = logits.masked_fill(~torch.tensor(real), -1e30)
        their_loss += torch.nn.functional.cross_entropy(logits, tensor(batch[name])) / 2

    def loss(outputs):
        logits = {n: jnp.where(real, outputs[n], -1e30) for n in ("start", "end")}
        return sum(cross_entropy(logits[n], batch[n]).mean() for n in logits) / 2

    compare_step(cfg, params, batch, theirs, loss, their_loss)


def test_roberta_numbers_positions_from_two():
    cfg = small_config(head="masked_lm", num_types=1, gelu="erf", norm_epsilon=1e-5)
    params, batch = make_params(cfg), make_batch()
    batch["type"] = jnp.zeros_like(batch["type"])
    batch["tokens"] = jnp.where(batch["segment"] > 0, jnp.maximum(batch["tokens"], 2), 1)
    # Token 1 is their padding; its position is row 1, and real tokens' rows start at 2.
    options = {"max_position_embeddings": 14, "pad_token_id": 1}
    theirs = make_theirs("RobertaForMaskedLM", cfg, params, **options)
    expected = theirs(**inputs(batch))
    close(run_head(cfg, params, batch)["masked"], masked_logits(batch, expected.logits))


def test_roberta_classifies_by_a_pooler_of_its_own():
    changes = {"num_types": 1, "gelu": "erf", "norm_epsilon": 1e-5}
    cfg, batch = small_config(head="classification", **changes), make_batch()
    params = make_params(cfg)
    batch["type"] = jnp.zeros_like(batch["type"])
    batch["tokens"] = jnp.where(batch["segment"] > 0, jnp.maximum(batch["tokens"], 2), 1)
    options = {"max_position_embeddings": 14, "pad_token_id": 1, "num_labels": 3}
    theirs = make_theirs("RobertaForSequenceClassification", cfg, params, **options)
    close(run_head(cfg, params, batch)["class"], theirs(**inputs(batch)).logits)
