"""The published recipes of text models, one row each, as their sources have them.

Multiply-adds of one row by the usual formula: T per layer (4 D^2 + 2 D M, or with a gate 3 D M)
+ 2 T^2 D, and the logits. `seen` counts all tokens of a row, of source and target and padding too,
where `tokens` says so.
"""

from math import log

import numpy as np

from tests.configs.fidelity import Rung
from tests.configs.rates import bert_line, flax_rsqrt, t5_rsqrt, vaswani, warmup_cosine
from tests.configs.rungs_vision import ADAM, everything
from tests.configs.small import LENGTH, VOCABULARY

# Of the shrunk models: width 128, a vocabulary of VOCABULARY. Logits of a normalised vector by a
# table of N(0, 0.02^2) have the variance 0.02^2 x 128, half of which the loss is above log V.
TABLE_002 = log(VOCABULARY) + 0.02**2 * 128 / 2


def no_norm_no_bias(path):
    """google-research/bert, optimization.py: all but LayerNorm, layer_norm and bias."""
    *parents, name = path.split("/")
    return name != "bias" and not any(part.endswith("norm") for part in parents)


def matrices(path):
    """nanoGPT: parameters of two dimensions and more, embeddings too."""
    return not path.endswith(("/bias", "/scale"))


# google-research/bert: README.md, run_pretraining.py, optimization.py, create_pretraining_data.py.
BERT = {
    "batch": 256,
    "peak": 1e-4,
    "rate_error": 0.011,
    "update": "bert_adam",
    "options": {"b1": 0.9, "b2": 0.999, "eps": 1e-6},
    "decay": 0.01,
    "decayed": no_norm_no_bias,
    "clip": 1.0,
    "regularisers": {"dropout": 0.1, "attention_dropout": 0.1},
    "model": {"gelu": "tanh", "norm_epsilon": 1e-12, "max_length": 512, "head": "pretraining"},
    "loss": TABLE_002 + log(2),
    "loss_error": 0.06,
    "tokens": True,
    "filled": {"vocab_size": 30_522},
}
BERT_1 = {
    **BERT,
    "steps": 900_000,
    "seen": 900_000 * 256 * 128,
    "rate": bert_line(1e-4, 10_000, 1_000_000),
    "data": {"length": 128, "max_predictions": 20, "mask_rate": 0.15, "short_rate": 0.1},
}
BERT_2 = {
    **BERT,
    "steps": 100_000,
    "seen": 100_000 * 256 * 512,
    "rate": bert_line(1e-4, 10_000, 1_000_000, first=900_000),
    "peak": 1.0101e-5,
    "data": {"length": 512, "max_predictions": 76, "mask_rate": 0.15, "short_rate": 0.1},
}
# mlcommons/logging, rcp_checker/training_5.0.0/rcps_bert.json; LAMB of mlcommons/training.
MLPERF = {
    **BERT,
    "params": 336_226_108,
    "rate_error": 1e-5,
    "update": "lamb",
    "data": {"length": 512, "max_predictions": 76},
    "gmac": 169.96,
}
# transformers, examples/flax/text-classification/run_flax_glue.py and its README.md.
GLUE = {
    "params": 108_310_272 + 2 * 769,
    "batch": 32,
    "peak": 2e-5,
    "rate_error": 0.01,
    "seen_error": 3e-3,
    "update": "adamw",
    "options": {**ADAM, "eps": 1e-6},
    "decayed": no_norm_no_bias,
    "regularisers": {"dropout": 0.1, "attention_dropout": 0.1},
    "model": {"gelu": "erf", "head": "classification", "width": 768, "depth": 12},
    "loss": log(2),
    "loss_error": 0.03,
    "gmac": 11.174,
    "filled": {"vocab_size": 28_996, "num_classes": 2},
}


def glue(examples, epochs, steps, fields, **more):
    """A task of GLUE; an epoch of the source has `examples // 32` steps, the last rows left out."""
    rung = {**GLUE, "rate": bert_line(2e-5, 0, examples // 32 * epochs), **more}
    data = {"length": 128, "fields": fields, "pair": len(fields) == 2}
    data["regression"] = "num_classes" in more.get("filled", {}) and more["loss"] == 9.0
    seen = epochs * examples
    return Rung(**{**rung, "data": data, "examples": examples, "steps": steps, "seen": seen})


SENTENCES = {"text": "sentence1", "text_pair": "sentence2"}
# google/flax, examples/wmt/configs/default.py and train.py.
WMT17 = {
    "params": 209_055_744,
    "batch": 256,
    "steps": 100_000,
    "seen": 100_000 * 256 * 512,
    "rate": flax_rsqrt(2e-3, 1000),
    "peak": 2e-3,
    "update": "adamw",
    "options": {**ADAM, "b2": 0.98, "eps": 1e-9},
    "decayed": everything,
    "smoothing": 0.1,
    "regularisers": {"dropout": 0.1, "attention_dropout": 0.1, "mlp_dropout": 0.1},
    "model": {
        "norm_order": "pre",
        "activation": "relu",
        "attention_bias": False,
        "mlp_bias": True,
        "tied": True,
        "shared": True,
        "logits_scale": True,
        "embed_scale": False,
    },
    "data": {
        "length": 256,
        "target_length": 256,
        "pack": True,
        "fields": {"source": "de", "target": "en"},
    },
    # The table starts with N(0, 1): logits of variance 1, and the token just read has a large one.
    "loss": log(VOCABULARY) + 0.5,
    "loss_error": 0.15,
    "tokens": True,
    "gmac": 55.90,
    "filled": {"vocab_size": 32_000},
}
# Vaswani 2017, sections 3 and 5, table 3; batches of 25,000 tokens a side.
VASWANI = {
    **WMT17,
    "batch": 96,
    "options": {**ADAM, "b2": 0.98, "eps": 1e-9},
    "model": {
        "norm_order": "post",
        "activation": "relu",
        "tied": True,
        "shared": True,
        "embed_scale": True,
        "position": "sinusoidal",
    },
    "data": {"fields": {"source": "en", "target": "de"}, "pack": True},
    "filled": {"vocab_size": 37_000},
}
# Raffel 2020, section 3.7 (a million steps of 2^11 rows of 512); google-research/t5x,
# examples/t5/t5_1_1/base.gin and examples/base_c4_pretrain.gin, configs/runs/pretrain.gin,
# adafactor.py.
T5 = {
    "batch": 2048,
    "steps": 1_000_000,
    "seen": 1_000_000 * 2048 * (512 + 114),
    "rate": t5_rsqrt(),
    "peak": 0.01,
    "early": (10_000, 1.0),  # where it rises to 0.01, which the source has from the start
    "update": "adafactor",
    "options": {
        "decay_rate": 0.8,
        "multiply_by_parameter_scale": True,
        "clipping_threshold": 1.0,
        "min_dim_size_to_factor": 128,
        "momentum": None,
    },
    "decayed": everything,
    "task": {"z_loss": 1e-4},
    "model": {
        "norm": "rms",
        "activation": "gelu_tanh",
        "gated": True,
        "tied": False,
        "attention_scale": False,
        "position": "relative",
        "norm_epsilon": 1e-6,
    },
    "data": {"length": 512, "mask_rate": 0.15, "mean_span": 3.0},
    # An output of its own, N(0, 1 / D): logits of variance 1; and 1e-4 log(Z)^2.
    "loss": log(VOCABULARY) + 0.5 + 1e-4 * (log(VOCABULARY) + 0.5) ** 2,
    "loss_error": 0.1,
    "tokens": True,
    "filled": {"vocab_size": 32_128},
}

# google-research/t5x, contrib/gpu/t5: configs/runs/finetune_mnli.gin, t5_1_1/adamw_opt.gin,
# t5_1_1/examples/small_mnli2_finetune_adam.gin, network.py. Its OptaxWrapper (t5x/optimizers.py)
# passes no learning rate on, so that adamw's own counts. The loss is divided by 131,077 there, not
# by the 128 x 16 places of a batch: a norm of 1 is 64 of the mean.
T5_MNLI = {
    **T5,
    "batch": 128,
    "steps": 15_001,
    "seen": 15_001 * 128 * (512 + 16),
    "rate": lambda t: np.full(np.shape(t), 1e-4),
    "peak": 1e-4,
    "early": (0, 0.0),
    "update": "adamw",
    "options": ADAM,
    "decay": 0.01,
    "clip": 64.0,
    "regularisers": {"dropout": 0.1, "attention_dropout": 0.1, "mlp_dropout": 0.1},
    "data": {
        "length": 512,
        "target_length": 16,
        "pack": True,
        "fields": {
            "source": "mnli hypothesis: {hypothesis} premise: {premise}",
            "target": "label",
        },
    },
}

RUNGS = {
    # google/flax, examples/lm1b: configs/default.py, train.py, README.md.
    "lm1b": Rung(
        params=49_653_040,
        batch=256,
        steps=500_000,
        seen=500_000 * 256 * 128,
        rate=flax_rsqrt(1.6e-3, 1000),
        peak=1.6e-3,
        update="adamw",
        options={**ADAM, "b2": 0.98, "eps": 1e-9},
        decay=0.1,
        decayed=everything,
        regularisers={"dropout": 0.1, "attention_dropout": 0.1, "mlp_dropout": 0.1},
        model={"tied": False, "head_bias": True, "activation": "relu", "position": "sinusoidal"},
        data={"length": 128},
        loss=log(VOCABULARY) + 128 * 2 / (128 + VOCABULARY) / 2,  # Xavier's head
        loss_error=0.05,
        tokens=True,
        gmac=4.483,
        filled={"vocab_size": 30_000},
    ),
    "wmt17_deen:flax": Rung(**WMT17),
    # mlcommons/algorithmic-efficiency: target_setting_algorithms/wmt, get_batch_size.py,
    # jax_nadamw.py (int(0.75 x 133,333) steps), workloads/wmt.
    "wmt17_deen:algoperf": Rung(
        **WMT17
        | {
            "params": 133_521_408,
            "batch": 128,
            "steps": 99_999,
            "seen": 99_999 * 128 * 512,
            "rate": warmup_cosine(0.0017486387539278373, 1999, 99_999),
            "rate_error": 1e-4,
            "peak": 0.0017486387539278373,
            "update": "nadamw",
            "options": {
                "b1": 0.9326607383586145,
                "b2": 0.9955159689799007,
                "eps": 1e-8,
                "nesterov": True,
            },
            "decay": 0.08121616522670176,
            "smoothing": 0.0,
            "gmac": 36.57,
        }
    ),
    "wmt_vaswani:base": Rung(
        **VASWANI
        | {
            "params": 63_045_632,
            "steps": 100_000,
            "seen": 100_000 * 50_000,
            "rate": vaswani(512),
            "peak": 6.98771e-4,
            "regularisers": {"dropout": 0.1},
            "gmac": 17.33,
        },
        seen_error=0.02,
    ),
    "wmt_vaswani:big": Rung(
        **VASWANI
        | {
            "params": 214_171_648,
            "steps": 300_000,
            "seen": 300_000 * 50_000,
            "rate": vaswani(1024),
            "peak": 4.94106e-4,
            "regularisers": {"dropout": 0.3},
            "gmac": 57.21,
        },
        seen_error=0.02,
    ),
    "bert_pretrain:base": Rung(**BERT_1, params=110_106_428, gmac=11.654),
    "bert_pretrain:base,phase2": Rung(**BERT_2, params=110_106_428, gmac=50.145),
    "bert_pretrain:large": Rung(**BERT_1, params=336_226_108, gmac=40.106),
    "bert_pretrain:large,phase2": Rung(**BERT_2, params=336_226_108, gmac=169.96),
    "bert_mlperf:256": Rung(
        **MLPERF
        | {
            "batch": 256,
            "steps": 13_700,
            "seen": 13_700 * 256 * 512,
            "rate": bert_line(3.5e-4, 0, 13_700),
            "peak": 3.5e-4,
        }
    ),
    "bert_mlperf:4096": Rung(
        **MLPERF
        | {
            "batch": 4096,
            "steps": 855,
            "seen": 855 * 4096 * 512,
            "rate": bert_line(2.4e-3, 0, 855),
            "peak": 2.4e-3,
            "options": {"b1": 0.66, "b2": 0.998, "eps": 1e-6},
        }
    ),
    "glue:cola": glue(8_551, 3, 802, {"text": "sentence"}),
    "glue:sst2": glue(67_349, 3, 6_314, {"text": "sentence"}),
    "glue:mrpc": glue(3_668, 5, 573, SENTENCES),
    "glue:stsb": glue(
        5_749,
        3,
        539,
        SENTENCES,
        params=108_310_272 + 769,
        filled={"vocab_size": 28_996, "num_classes": 1},
        loss=9.0,  # mean squared error of about 0 where all labels are 3
        loss_error=0.5,
    ),
    "glue:qqp": glue(363_849, 3, 34_111, {"text": "question1", "text_pair": "question2"}),
    "glue:mnli": glue(
        392_702,
        3,
        36_816,
        {"text": "premise", "text_pair": "hypothesis"},
        params=108_310_272 + 3 * 769,
        filled={"vocab_size": 28_996, "num_classes": 3},
        loss=log(3),
    ),
    "glue:qnli": glue(104_743, 3, 9_820, {"text": "question", "text_pair": "sentence"}),
    "glue:rte": glue(2_490, 3, 233, SENTENCES),
    "glue:wnli": glue(635, 5, 99, SENTENCES, rate_error=0.045),
    # google-research/bert: README.md, run_squad.py.
    "squad:1.1": Rung(
        **BERT
        | {
            "batch": 12,
            "steps": 14_599,  # int(87,599 / 12 x 2)
            "seen": 2 * 87_599,
            "rate": bert_line(3e-5, 1459, 14_599),
            "rate_error": 0.11,
            "peak": 3e-5,
            "model": {"gelu": "tanh", "norm_epsilon": 1e-12, "head": "question_answering"},
            "data": {"length": 384, "stride": 128, "max_question": 64, "max_answer": 30},
            "examples": 87_599,
            "tokens": False,
            "loss": log(LENGTH) + 0.02**2 * 128 / 2,
            "loss_error": 0.1,
        },
        params=109_482_240 - 768 * 769 + 2 * 769,
        gmac=35.33,
    ),
    # karpathy/nanoGPT: config/train_gpt2.py, train.py, model.py. Parameters: OpenAI's weights.
    "gpt2_124m": Rung(
        params=124_439_808,
        batch=480,
        steps=600_000,
        seen=600_000 * 491_520,
        rate=warmup_cosine(6e-4, 2000, 600_000, end=6e-5),
        peak=6e-4,
        update="adamw",
        options={**ADAM, "b2": 0.95},
        decay=0.1,
        decayed=matrices,
        clip=1.0,
        model={"position": "learned", "activation": "gelu_tanh", "tied": True, "norm": "layer"},
        data={"length": 1024},
        loss=TABLE_002,
        loss_error=0.05,
        tokens=True,
        gmac=145.8,
        filled={"vocab_size": 50_257},
    ),
    "t5_11_c4:small": Rung(**T5, params=76_961_152, gmac=17.71),
    "t5_11_c4:base": Rung(**T5, params=247_577_856, gmac=70.99),
    "t5_mnli:small": Rung(**T5_MNLI, params=76_961_152, gmac=13.55),
    # Touvron 2023, table 2 (7B: rate, decay, clip, betas, 2,000 steps of warm-up, end at 10 %);
    # EasyLM, examples/pretrain_llama_7b.sh: 2,048 rows of 2,048 tokens, 250,000 steps.
    "llama_1b:llama3.2-1b": Rung(
        params=1_235_814_400,
        batch=2048,
        steps=250_000,
        seen=250_000 * 4_194_304,
        rate=warmup_cosine(3e-4, 2000, 250_000, end=3e-5),
        peak=3e-4,
        update="adamw",
        options={**ADAM, "b2": 0.95},
        decay=0.1,
        decayed=matrices,
        clip=1.0,
        model={"num_kv_heads": 8, "activation": "silu", "tied": True, "rope_base": 500_000.0},
        data={"length": 2048},
        loss=TABLE_002,
        loss_error=0.05,
        tokens=True,
        gmac=2805.7,
        filled={"vocab_size": 128_256},
    ),
}
