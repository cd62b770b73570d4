"""Every published recipe against its source, and configs with one thing wrong, which must fail."""

import numpy as np
import pytest

from tests.configs import rungs_small, rungs_text, rungs_vision
from tests.configs.fidelity import CHECKS, change, run_update
from tests.configs.small import fill, step_flops
from tests.configs.updates import algoperf_nadamw, nadamw
from zoo.config import load_config
from zoo.config.load import to_dict

RUNGS = {**rungs_small.RUNGS, **rungs_vision.RUNGS, **rungs_text.RUNGS}
# Rungs whose programs are those of another, but for a size: they compile in the slow set.
TWINS = {
    "augreg_in1k:S/16", "bert_mlperf:4096", "bert_pretrain:base,phase2", "bert_pretrain:large",
    "bert_pretrain:large,phase2", "cifar_vit:cifar100", "cifar_vit_lite:cifar100", "deit_in1k:B",
    "deit3_in1k:B,800", "deit3_in1k:S,800",
    "fashion_mnist_vit", "finetune:cifar100", "finetune:in1k", "glue:mnli",
    "glue:mrpc", "glue:stsb", "s16_in1k:300", "t5_11_c4:base", "t5_mnli:small",
    "wmt17_deen:algoperf", "wmt_vaswani:big",
}  # fmt: skip
PROGRAMS = ("start", "update", "work")
CASES = [
    pytest.param(case, name, marks=[pytest.mark.slow] * (case in TWINS and name in PROGRAMS))
    for case in RUNGS
    for name in CHECKS
]


@pytest.mark.parametrize(("case", "name"), CASES)
def test_config_is_as_its_source_says(case, name):
    CHECKS[name](load_config(case), RUNGS[case])


def without(key, index):
    """Of a list of the config, all but one."""

    def value(config):
        section, _, name = key.partition(".")
        kept = list(to_dict(getattr(config, section))[name])
        del kept[index]
        return kept

    return value


# (case, key, wrong value, the check that must notice)
MUTANTS = [
    # big_vision's number without its convention: a thousand times too weak.
    ("s16_in1k:90", "optimizer.weight_decay", 1e-4, "decay"),
    ("s16_in1k:90", "optimizer.weight_decay", 1e-4, "update"),
    ("gpt2_124m", "optimizer.weight_decay", 0.01, "decay"),
    ("bert_pretrain:base", "optimizer.decay_rules", [(".*", 1.0)], "decay"),
    ("bert_pretrain:base", "optimizer.decay_rules", [(".*", 1.0)], "update"),
    ("cifar_vit:cifar10", "optimizer.decay_rules", [(".*/kernel", 1.0), (".*", 0.0)], "decay"),
    ("deit_in1k:S", "optimizer.warmup", "5 steps", "rate"),
    ("s16_in1k:90", "optimizer.warmup", "10000 examples", "rate"),
    ("wmt_vaswani:base", "optimizer.warmup", "8000 steps", "rate"),
    ("bert_pretrain:base,phase2", "optimizer.lr", 1e-4, "rate"),
    ("gpt2_124m", "optimizer.final_lr", 0.0, "rate"),
    ("mnist_vit", "optimizer.final_lr", 0.0, "rate"),
    ("lm1b", "optimizer.cooldown", "100000 steps", "rate"),
    ("mnist_vit", "optimizer.warmup", "10 steps", "rate"),
    ("cifar_vit_lite:cifar10", "optimizer.schedule", "linear", "rate"),
    ("t5_11_c4:small", "optimizer.lr", 0.001, "rate"),
    ("s16_in1k:90", "optimizer.clip_norm", None, "optimizer"),
    ("s16_in1k:90", "optimizer.clip_norm", None, "update"),
    ("gpt2_124m", "optimizer.clip_norm", None, "update"),
    ("gpt2_124m", "optimizer.options.b2", 0.999, "optimizer"),
    ("gpt2_124m", "optimizer.options.b2", 0.999, "update"),
    ("bert_pretrain:base", "optimizer.name", "adamw", "optimizer"),
    ("bert_pretrain:base", "optimizer.name", "adamw", "update"),
    ("bert_mlperf:256", "optimizer.decay_rules", [(".*", 1.0)], "update"),
    ("algoperf_vit", "optimizer.options.nesterov", False, "update"),
    ("finetune:cifar10", "optimizer.options.momentum", 0.99, "update"),
    ("t5_mnli:small", "optimizer.lr", 1e-3, "rate"),  # what its source's scheduler says
    ("t5_mnli:small", "optimizer.clip_norm", 1.0, "optimizer"),
    ("t5_11_c4:small", "optimizer.options.multiply_by_parameter_scale", False, "update"),
    ("deit_in1k:S", "ema_decay", 0.9999, "optimizer"),
    ("deit_in1k:S", "data.batch_size", 512, "length"),
    ("gpt2_124m", "data.batch_size", 12, "length"),
    ("bert_pretrain:base", "data.length", 512, "length"),
    ("t5_11_c4:small", "data.batch_size", 256, "length"),
    ("lm1b", "total", "50000 steps", "length"),
    ("deit_in1k:S", "data.repeats", 1, "length"),
    ("cifar_vit_lite:cifar10", "data.train_ops", without("data.train_ops", 0), "augmentation"),
    ("deit3_in1k:S,400", "data.train_ops", without("data.train_ops", 3), "augmentation"),
    ("s16_in1k:90", "data.train_ops.2.magnitude", 9, "augmentation"),
    ("s16_in1k:90", "data.train_ops.0.area", (0.08, 1.0), "augmentation"),
    ("finetune:in1k", "data.eval_ops.0.crop_fraction", 0.875, "augmentation"),
    ("s16_in1k:90", "data.mix.keep_larger", False, "augmentation"),
    ("deit_in1k:S", "data.mix.cutmix", 0.0, "augmentation"),
    ("deit_in1k:S", "task.label_smoothing", 0.0, "regularisation"),
    ("wmt_vaswani:big", "model.dropout", 0.1, "regularisation"),
    ("deit3_in1k:B,800", "model.drop_path_growth", "linear", "regularisation"),
    ("deit3_in1k:B,800", "task.binary_targets", False, "regularisation"),
    ("s16_in1k:90", "model.head_init", "trunc_normal", "start"),
    ("augreg_in1k:B/16", "model.head_bias", 0.0, "start"),
    ("augreg_in1k:B/16", "task.loss", "sigmoid_mean", "start"),
    ("deit_in1k:S", "model.depth", 11, "size"),
    ("deit_in1k:S", "model.depth", 11, "work"),
    ("wmt17_deen:algoperf", "model.mlp_dim", 4096, "size"),
    ("deit3_in1k:S,400", "model.layer_scale", None, "size"),
    ("s16_in1k:90", "model.position", "learned", "size"),
]


# What each check complains of.
COMPLAINTS = {
    "size": "parameters, its source|model.",
    "length": "data.|steps, its source|seen",
    "rate": "learning rate at step|optimizer.lr is",
    "optimizer": "optimizer.|ema_decay",
    "decay": "weight decay is|decayed (True|False), by its source",
    "augmentation": "data.(train_ops|eval_ops|mix)",
    "regularisation": "task.|model.",
    "start": "loss at the start is",
    "update": "off its source's formula",
    "work": "GMAC",
}


@pytest.mark.parametrize(("case", "key", "value", "name"), MUTANTS)
def test_a_wrong_value_is_noticed(case, key, value, name):
    config = load_config(case)
    wrong = change(config, key, value(config) if callable(value) else value)
    assert wrong != config
    with pytest.raises(AssertionError, match=COMPLAINTS[name]):
        CHECKS[name](wrong, RUNGS[case])


def test_every_check_has_a_config_that_it_refuses():
    assert {name for *_, name in MUTANTS} == CHECKS.keys()


@pytest.mark.parametrize("case", ["cifar_vit_lite:cifar10", "gpt2_124m", "bert_mlperf:256"])
def test_a_change_that_is_none_passes(case):
    # What `change` itself does to a config is nothing that a check minds.
    config = load_config(case)
    same = change(config, "model.dropout", config.model.dropout)
    for name in CHECKS.keys() - {"start", "work"}:
        CHECKS[name](same, RUNGS[case])


@pytest.mark.parametrize(
    "case", ["s16_in1k:90", "gpt2_124m", "bert_pretrain:base", "wmt17_deen:flax", "t5_11_c4:small"]
)
def test_a_step_is_three_forward_passes(case):
    config = fill(load_config(case), RUNGS[case])
    ratio = step_flops(config, backward=True) / step_flops(config)
    assert ratio == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize("case", ["algoperf_vit", "wmt17_deen:algoperf"])
def test_momentum_of_algoperf_is_ours_after_a_hundred_steps(case):
    rng = np.random.default_rng(0)
    grads = [{"x": 1 + rng.normal(size=8)} for _ in range(120)]
    updates = [f(grads, {"x": np.ones(8)}, RUNGS[case], 1.0) for f in (nadamw, algoperf_nadamw)]
    ours, theirs = (np.array([update["x"] for update in steps]) for steps in updates)
    off = np.abs(ours / theirs - 1).max(1)
    assert off[0] > 0.2
    assert off[100:].max() < 2e-3


def torch_adamw(grads, params, rung, factor):
    """PyTorch's AdamW, with its parameters in two groups, and its clipping."""
    import torch

    tensors = {path: torch.nn.Parameter(torch.tensor(p)) for path, p in params.items()}
    groups = [
        {
            "params": [p for path, p in tensors.items() if rung.decayed(path) == decayed],
            "weight_decay": rung.decay * decayed,
        }
        for decayed in (True, False)
    ]
    options = rung.options
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=rung.peak * factor,
        betas=(options["b1"], options["b2"]),
        eps=options["eps"],
    )
    moved = []
    for grad in grads:
        before = {path: p.detach().numpy().copy() for path, p in tensors.items()}
        for path, p in tensors.items():
            p.grad = torch.tensor(grad[path])
        if rung.clip is not None:
            torch.nn.utils.clip_grad_norm_(tensors.values(), rung.clip)
        optimizer.step()
        moved.append({path: p.detach().numpy() - before[path] for path, p in tensors.items()})
    return moved


@pytest.mark.oracle
@pytest.mark.parametrize(
    "case",
    [
        "mnist_vit",
        "fashion_mnist_vit",
        "cifar_vit_lite:cifar10",
        "cifar_vit:cifar10",
        "deit_in1k:S",
        "deit3_in1k_finetune:B",
        "gpt2_124m",
        "llama_1b:llama3.2-1b",
    ],
)
def test_update_is_that_of_pytorch(case):
    pytest.importorskip("torch")
    run_update(load_config(case), RUNGS[case], torch_adamw)
