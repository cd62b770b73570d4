"""A small decoder-only language model of 5,000 film reviews: an hour and a half of one core.

Data: IMDB (Maas 2011), its 50,000 texts in random order, each once: 10 % to train on, six times
  over, and none of those among the 1,000 that are held out;
  `python benchmarks/fetch_data.py imdb`, then
  zoo data tokenizer text --dir ~/zoo_data/imdb --split "unlabelled[:98%]" --kind bpe
      --vocab-size 4000 --out ~/zoo_data/imdb_bpe
Command: zoo train --config lm_imdb --workdir runs/lm_imdb
Then: zoo eval --workdir runs/lm_imdb
  zoo generate --workdir runs/lm_imdb "This film was"
Here: 1.672 bits per byte (seed 0); a 5-gram Kneser-Ney model of the same tokens has 1.793:
  `python benchmarks/ngram.py --config lm_imdb`.
"""

from ml_collections import ConfigDict

ARGS = ()


def get_config(arg=None):
    assert arg is None, f"lm_imdb takes no argument, not {arg!r}"
    config = ConfigDict()
    config.seed = 0
    config.total = "2500 steps"
    config.log_every = "50 steps"
    config.eval_every = "1250 steps"
    config.save_every = "250 steps"
    config.best_metric = "held_out/bits_per_byte"

    config.data = ConfigDict()
    config.data.kind = "lm"
    config.data.name = "text"
    config.data.dir = "~/zoo_data/imdb"
    config.data.tokenizer = "~/zoo_data/imdb_bpe"
    config.data.train_split = "unlabelled[:10%]"
    config.data.eval_splits = {"held_out": "unlabelled[98%:]"}
    config.data.length = 256
    config.data.batch_size = 16
    config.data.eval_batch_size = 32

    config.model = ConfigDict()
    config.model.family = "decoder"
    config.model.width = 192
    config.model.depth = 4
    config.model.mlp_dim = 512
    config.model.num_heads = 6
    config.model.qk_norm = True
    config.model.dropout = 0.1
    config.model.max_length = 1024  # to generate; rotary positions have no table

    config.optimizer = ConfigDict()
    config.optimizer.name = "muon"  # learns more in few steps than AdamW
    config.optimizer.lr = 0.02
    # The matrices go by Muon; the table and the norms by AdamW, at 0.004.
    config.optimizer.lr_rules = [("blocks/.*/kernel", 1.0), (".*", 0.2)]
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = "100 steps"
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    return config
