"""A small BERT pre-trained on 50,000 film reviews, without their labels, in two hours of one core.

Data: IMDB (Maas 2011), its 50,000 texts in random order, 98 % to train on;
  `python benchmarks/fetch_data.py imdb`, then
  zoo data tokenizer text --dir ~/zoo_data/imdb --split unlabelled --kind wordpiece
      --vocab-size 8000 --out ~/zoo_data/imdb_wordpiece
Command: zoo train --config bert_imdb --workdir runs/bert1
  zoo train --config bert_imdb:phase2 --workdir runs/bert --config.init_from=runs/bert1
  or, to fine-tune it: zoo train --config bert_imdb:adamw --workdir runs/bert
Then: zoo fill-mask --workdir runs/bert "The acting was [MASK] and the plot made no [MASK]."
Argument: phase1 (default), phase2 or adamw. Three masked tokens in ten teach more a step than
  BERT's 15 %. The lines of the first phase are paragraphs, of which many reviews have one, so that
  three rows in four have a next sentence from elsewhere; those of the others are sentences. Muon
  learns more in few steps, but what it has learnt fine-tunes badly.
Here: 36.2 % of masked tokens (bigrams 25.7 %), at 15 % masked; with adamw 32.8 %, in 35 minutes.
  docs/benchmarks.md has the other baselines of benchmarks/masked_baselines.py, and next sentences,
  of which both learn little.
"""

from ml_collections import ConfigDict

ARGS = ("phase1", "phase2", "adamw")


def get_config(arg="phase1"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    second = arg == "phase2"
    texts = "unlabelled" if arg == "phase1" else "sentences"
    config = ConfigDict()
    config.seed = 0
    config.total = {"phase1": "3000 steps", "phase2": "4000 steps", "adamw": "5000 steps"}[arg]
    config.log_every = "50 steps"
    config.eval_every = "1000 steps"
    config.save_every = "500 steps"
    config.best_metric = "held_out/masked_lm_accuracy"
    if second:
        config.init_from = "SET --config.init_from=WORKDIR of the first phase"

    config.data = ConfigDict()
    config.data.kind = "masked_lm"
    config.data.name = "text"
    config.data.dir = "~/zoo_data/imdb"
    config.data.tokenizer = "~/zoo_data/imdb_wordpiece"
    config.data.train_split = f"{texts}[:98%]"
    config.data.eval_splits = {"held_out": f"{texts}[98%:]"}
    config.data.length = 64
    config.data.mask_rate = {"phase1": 0.3, "phase2": 0.2, "adamw": 0.15}[arg]
    config.data.max_predictions = {"phase1": 20, "phase2": 13, "adamw": 10}[arg]
    config.data.batch_size = 64
    config.data.eval_batch_size = 256

    config.model = ConfigDict()
    config.model.family = "bert"
    config.model.head = "pretraining"
    config.model.width = 128
    config.model.depth = 4
    config.model.mlp_dim = 512
    config.model.num_heads = 2
    config.model.max_length = 128
    config.model.dropout = 0.0
    config.model.attention_dropout = 0.0

    config.optimizer = ConfigDict()
    config.optimizer.schedule = "linear"
    if arg == "adamw":
        config.optimizer.name = "adamw"
        config.optimizer.options = {"b2": 0.98}
        config.optimizer.lr = 2e-3
        config.optimizer.warmup = "300 steps"
    else:
        config.optimizer.name = "muon"
        config.optimizer.lr = 0.011 if second else 0.02
        # The matrices go by Muon; tables, biases and norms by AdamW.
        config.optimizer.lr_rules = [("blocks/.*/kernel", 1.0), (".*", 0.1)]
        config.optimizer.warmup = "50 steps" if second else "100 steps"
        # What a line to zero at step 6,500 has at step 3,000: the second phase goes on from there.
        config.optimizer.final_lr = 0.0 if second else 0.0109375
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    return config
