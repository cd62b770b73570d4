"""The BERT of bert_imdb_gpu, fine-tuned to tell good film reviews from bad ones; or without its start.

Data: IMDB (Maas 2011), by the commands of configs/bert_imdb.py: trained on its 25,000 labelled
  reviews, evaluated on its 25,000 test ones, the first 128 tokens of each. Most of the test reviews
  were among the texts of the pre-training, without their labels.
Command: zoo train --config sentiment_imdb_gpu --workdir runs/sentiment
    --config.init_from=runs/bert --config.seed=0
  zoo train --config sentiment_imdb_gpu:scratch --workdir runs/sentiment_scratch --config.seed=0
Then: zoo classify-text --workdir runs/sentiment "What a waste of time."
Argument: pretrained (default) or scratch.
"""

from ml_collections import ConfigDict

ARGS = ("pretrained", "scratch")


def get_config(arg="pretrained"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    config = ConfigDict()
    config.seed = 0
    config.total = "3 epochs"
    config.log_every = "50 steps"
    config.eval_every = "3 epochs"
    config.save_every = "3 epochs"
    config.best_metric = "test/accuracy"
    if arg == "pretrained":
        config.init_from = "SET --config.init_from=runs/bert"

    config.data = ConfigDict()
    config.data.kind = "text_classification"
    config.data.name = "text"
    config.data.dir = "~/zoo_data/imdb"
    config.data.tokenizer = "~/zoo_data/imdb_wordpiece"
    config.data.eval_splits = {"test": "test"}
    config.data.length = 128
    config.data.batch_size = 64
    config.data.eval_batch_size = 500

    config.model = ConfigDict()
    config.model.family = "bert"
    config.model.head = "classification"
    config.model.size = "medium"
    config.model.max_length = 128
    config.model.dropout = 0.1
    config.model.attention_dropout = 0.0
    config.model.dtype = "bfloat16"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.lr = 1e-4 if arg == "pretrained" else 3e-4
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = "0.2 epochs"
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    return config
