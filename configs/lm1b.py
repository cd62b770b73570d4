"""Flax's language model of One Billion Words, 49.7 M parameters: loss 3.127 after 500k steps.

Source: flax/examples/lm1b, README.md and configs/default.py: 13h18m on a TPUv3-8. The loss is in
  nats a piece of a vocabulary of 30,000 that was learnt in the run, a perplexity of 22.8: not that
  of a word, which the literature reports. Not reproduced here.
Command: zoo data tokenizer tfds:lm1b --kind sentencepiece --vocab-size 30000 --out VOCAB
  zoo train --config lm1b --workdir runs/lm1b --config.data.tokenizer=VOCAB

Differs from the source: a sentence's first piece is no target, where there it is predicted from
nothing; evaluation has rows of 128 pieces, as training has, where there they have 512; sentences
are cut at the end of a row and go on in the next one, where there they are packed whole.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.total = "500000 steps"
    config.log_every = "100 steps"
    config.eval_every = "1000 steps"
    config.save_every = "10000 steps"

    config.data = ConfigDict()
    config.data.kind = "lm"
    config.data.name = "tfds:lm1b"
    config.data.tokenizer = "SET --config.data.tokenizer=VOCAB"
    config.data.length = 128
    config.data.batch_size = 256
    config.data.workers = 4

    config.model = ConfigDict()
    config.model.family = "decoder"
    config.model.size = "lm1b"
    config.model.dropout = 0.1
    config.model.attention_dropout = 0.1
    config.model.mlp_dropout = 0.1
    config.model.dtype = "bfloat16"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.options = {"b1": 0.9, "b2": 0.98, "eps": 1e-9}
    config.optimizer.lr = 1.6e-3
    config.optimizer.schedule = "rsqrt"
    config.optimizer.warmup = "1000 steps"
    config.optimizer.weight_decay = 0.1
    config.optimizer.decay_rules = [(".*", 1.0)]  # there too
    return config
