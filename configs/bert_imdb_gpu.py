"""A BERT of 30 million parameters on 50,000 film reviews, without their labels, by one GPU.

Data: IMDB (Maas 2011), 98 % of its 50,000 texts, a sentence a line; the commands stand in
  configs/bert_imdb.py.
Command: zoo train --config bert_imdb_gpu --workdir runs/bert
Then: zoo fill-mask --workdir runs/bert "The acting was [MASK] and the plot made no [MASK]."
Here: 33.4 % of masked tokens and 4.00 nats (seed 0; bigrams 25.9 % and 4.04), 67.2 % of next
  sentences (always the commoner answer: 55.8 %); 300 s of an H200 that another run shared.
  docs/benchmarks.md.
"""

from ml_collections import ConfigDict

ARGS = ()


def get_config(arg=None):
    assert arg is None, f"bert_imdb_gpu takes no argument, not {arg!r}"
    config = ConfigDict()
    config.seed = 0
    config.total = "1500 steps"
    config.log_every = "100 steps"
    config.eval_every = "375 steps"
    config.save_every = "375 steps"
    config.best_metric = "held_out/masked_lm_accuracy"

    config.data = ConfigDict()
    config.data.kind = "masked_lm"
    config.data.name = "text"
    config.data.dir = "~/zoo_data/imdb"
    config.data.tokenizer = "~/zoo_data/imdb_wordpiece"
    config.data.train_split = "sentences[:98%]"
    config.data.eval_splits = {"held_out": "sentences[98%:]"}
    config.data.length = 128
    config.data.mask_rate = 0.15
    config.data.max_predictions = 20
    config.data.batch_size = 256
    config.data.workers = 8
    config.data.threads = 1
    config.data.prefetch = 16

    config.model = ConfigDict()
    config.model.family = "bert"
    config.model.head = "pretraining"
    config.model.size = "medium"
    config.model.max_length = 128
    config.model.dropout = 0.0
    config.model.attention_dropout = 0.0
    config.model.dtype = "bfloat16"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.options = {"b2": 0.98}
    config.optimizer.lr = 5e-4
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = "600 steps"
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    return config
