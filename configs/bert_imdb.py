"""A small BERT pre-trained on 50,000 film reviews, without their labels: an hour on two cores.

Data: IMDB (Maas 2011), its 50,000 texts in random order, 98 % to train on;
  `python benchmarks/fetch_data.py imdb`, then
  zoo data tokenizer text --dir ~/zoo_data/imdb --split unlabelled --kind wordpiece
      --vocab-size 8000 --out ~/zoo_data/imdb_wordpiece
Command: zoo train --config bert_imdb --workdir runs/bert_imdb
Then: zoo fill-mask --workdir runs/bert_imdb "The acting was [MASK] and the plot made no [MASK]."
Here: see docs/benchmarks.md, beside the unigram and bigram baselines of
  benchmarks/masked_baselines.py.
"""

from ml_collections import ConfigDict

ARGS = ()


def get_config(arg=None):
    assert arg is None, f"bert_imdb takes no argument, not {arg!r}"
    config = ConfigDict()
    config.seed = 0
    config.total = "3000 steps"
    config.log_every = "50 steps"
    config.eval_every = "1000 steps"
    config.save_every = "500 steps"
    config.best_metric = "held_out/masked_lm_accuracy"

    config.data = ConfigDict()
    config.data.kind = "masked_lm"
    config.data.name = "text"
    config.data.dir = "~/zoo_data/imdb"
    config.data.tokenizer = "~/zoo_data/imdb_wordpiece"
    config.data.train_split = "unlabelled[:98%]"
    config.data.eval_splits = {"held_out": "unlabelled[98%:]"}
    config.data.length = 64
    config.data.max_predictions = 10
    config.data.batch_size = 64
    config.data.eval_batch_size = 256

    config.model = ConfigDict()
    config.model.family = "bert"
    config.model.head = "pretraining"
    config.model.width = 128
    config.model.depth = 4
    config.model.mlp_dim = 512
    config.model.num_heads = 4
    config.model.max_length = 128
    config.model.dropout = 0.0
    config.model.attention_dropout = 0.0

    config.optimizer = ConfigDict()
    config.optimizer.name = "muon"  # learns more in few steps than AdamW
    config.optimizer.lr = 0.01
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = "200 steps"
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    return config
