"""A Llama of 1,235.8 M parameters (or MaxText's default, 1,104.2 M) on 1.05 T tokens of your text.

Source: the size of Llama 3.2 1B (as AXLearn's fuji-1B has it), or of MaxText's base.yml; the recipe
  of Touvron 2023 (arXiv 2302.13971) for 7B, with the batch and the length of OpenLLaMA's
  (EasyLM, examples/pretrain_llama_7b.sh: 2,048 rows of 2,048 tokens, 250k steps). No loss is
  published for this size and recipe. Not reproduced here.
Command: zoo train --config llama_1b --workdir runs/llama --config.data.dir=DIR
    --config.data.tokenizer=VOCAB
  where DIR holds the text and VOCAB a tokenizer; with Llama 3's own of 128,256 the model has the
  parameters named above.
Argument: llama3.2-1b (default) or maxtext-1b.

Differs from the source: Llama 3.2 1B was pruned and distilled from a larger model, this one starts
from nothing, and without the stretched rotations that serve texts beyond 8,192 tokens.
"""

from ml_collections import ConfigDict

ARGS = ("llama3.2-1b", "maxtext-1b")


def get_config(arg="llama3.2-1b"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    config = ConfigDict()
    config.seed = 0
    config.total = "250000 steps"
    config.log_every = "10 steps"
    config.eval_every = "1000 steps"
    config.save_every = "1000 steps"

    config.data = ConfigDict()
    config.data.kind = "lm"
    config.data.name = "text"
    config.data.dir = "SET --config.data.dir=DIR"
    config.data.tokenizer = "SET --config.data.tokenizer=VOCAB"
    config.data.length = 2048
    config.data.batch_size = 2048  # 4.2 M tokens
    config.data.workers = 8

    config.model = ConfigDict()
    config.model.family = "decoder"
    config.model.size = arg
    config.model.rope_scaling = 1.0
    config.model.max_length = 2048
    config.model.dtype = "bfloat16"
    config.model.remat = "full"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.options = {"b1": 0.9, "b2": 0.95}
    config.optimizer.lr = 3e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = "2000 steps"
    config.optimizer.final_lr = 3e-5
    config.optimizer.weight_decay = 0.1
    config.optimizer.decay_rules = [(".*/kernel|.*/table", 1.0), (".*", 0.0)]
    config.optimizer.clip_norm = 1.0

    config.mesh = ConfigDict()
    config.mesh.data = 1
    config.mesh.fsdp = -1
    return config
