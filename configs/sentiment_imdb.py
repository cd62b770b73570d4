"""A BERT fine-tuned to tell good film reviews from bad ones: ours, MiniLM's published one, or none.

Data: IMDB (Maas 2011), by the commands of configs/bert_imdb.py; trained on 4,000 of its 25,000
  labelled reviews, 2,000 of each class, and evaluated on all 25,000 test ones, the first 64
  tokens of each. Most of the test reviews were among the texts of our BERT's pre-training, without
  their labels.
Command: zoo train --config sentiment_imdb --workdir runs/sentiment
    --config.init_from=runs/bert --config.seed=0
  zoo train --config sentiment_imdb:scratch --workdir runs/sentiment_scratch --config.seed=0
  zoo train --config sentiment_imdb:minilm --workdir runs/sentiment_minilm --config.seed=0
  each with the seeds 0, 1 and 2; all 25,000 to train on: --config.data.train_split=train
Then: zoo classify-text --workdir runs/sentiment "What a waste of time."
Argument: pretrained (default) by bert_imdb:adamw; scratch, from nothing; or minilm, from
  all-MiniLM-L6-v2 (22.7 M, `python benchmarks/fetch_data.py minilm`) with its own tokenizer. What
  is to be learnt from nothing is further away and has a higher learning rate. Each rate is the
  better of two on 2,000 other reviews.
Here: 78.9 % from MiniLM (2 epochs, ten minutes of a core), 69.6 % from bert_imdb:adamw, 68.5 % from
  nothing, means of three seeds that do not overlap; a linear model of the same tokens has 72.4 %
  (of MiniLM's; 72.1 % of ours). docs/benchmarks.md.
"""

from ml_collections import ConfigDict

ARGS = ("pretrained", "scratch", "minilm")
MINILM = "~/zoo_data/minilm"
RATES = {"pretrained": 2e-4, "scratch": 1e-3, "minilm": 1e-4}


def get_config(arg="pretrained"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    config = ConfigDict()
    config.seed = 0
    config.total = "2 epochs" if arg == "minilm" else "3 epochs"
    config.log_every = "25 steps"
    config.eval_every = config.total  # the test split is six times as large as what is trained on
    config.save_every = "1 epochs"
    config.best_metric = "test/accuracy"
    if arg == "pretrained":
        config.init_from = "SET --config.init_from=runs/bert"
    elif arg == "minilm":
        config.init_from = MINILM

    config.data = ConfigDict()
    config.data.kind = "text_classification"
    config.data.name = "text"
    config.data.dir = "~/zoo_data/imdb"
    config.data.tokenizer = MINILM if arg == "minilm" else "~/zoo_data/imdb_wordpiece"
    config.data.train_split = "train[10500:14500]"  # the first 12,500 are bad, the others good
    config.data.eval_splits = {"test": "test"}
    config.data.length = 64
    config.data.batch_size = 32
    config.data.eval_batch_size = 256

    config.model = ConfigDict()
    config.model.family = "bert"
    config.model.head = "classification"
    if arg == "minilm":
        config.model.width = 384
        config.model.depth = 6
        config.model.mlp_dim = 1536
        config.model.num_heads = 12
        config.model.max_length = 512
        config.model.gelu = "erf"
    else:
        config.model.width = 128
        config.model.depth = 4
        config.model.mlp_dim = 512
        config.model.num_heads = 2
        config.model.max_length = 128
    config.model.dropout = 0.1
    config.model.attention_dropout = 0.1

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.lr = RATES[arg]
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = "0.2 epochs"
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    return config
