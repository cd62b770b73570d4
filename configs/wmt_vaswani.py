"""Transformer base or big, English to German, newstest2014: 27.3 / 28.4 BLEU.

Source: Vaswani 2017 (arXiv 1706.03762), tables 2 and 3: 100k steps, 12 hours (base), 300k steps,
  3.5 days (big), on 8 x P100. Not reproduced here.
The metric: the paper's BLEU is of tokenised text with compounds split, by the script
  get_ende_bleu.sh of tensor2tensor. It is not sacreBLEU's: there one base checkpoint has 27.5
  by sacreBLEU and 29.0 by that script. Expect `zoo eval --bleu` to say 1.5 less than the paper for
  equally good translations, and compare only what has the same signature.
Data: wmt14_translate/de-en of TFDS, and a vocabulary of both languages by
  zoo data tokenizer tfds:wmt14_translate/de-en --field en --field de --kind sentencepiece
      --vocab-size 37000 --out ~/zoo_data/wmt14_37k
Command: zoo train --config wmt_vaswani:base --workdir runs/wmt_base
Then: zoo eval --workdir runs/wmt_base --bleu --average 5      (20 for big)
Argument: base or big.

Differs from the source: SentencePiece for byte-pair encoding; rows of 256 tokens in which pairs are
packed, 96 of them, some 24k tokens a side, for batches of 25,000 tokens by length; positions are
sines, then cosines, as in tensor2tensor; checkpoints every 1,500 steps for every 10 minutes.
"""

from ml_collections import ConfigDict

ARGS = ("base", "big")
STEPS = {"base": 100_000, "big": 300_000}
WIDTH = {"base": 512, "big": 1024}


def get_config(arg="base"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    config = ConfigDict()
    config.seed = 0
    config.total = f"{STEPS[arg]} steps"
    config.eval_every = "5000 steps"
    config.save_every = "1500 steps"
    config.keep_last = 5 if arg == "base" else 20

    config.data = ConfigDict()
    config.data.kind = "seq2seq"
    config.data.name = "tfds:wmt14_translate/de-en"
    config.data.fields = {"source": "en", "target": "de"}
    config.data.tokenizer = "~/zoo_data/wmt14_37k"
    config.data.eval_splits = {"newstest2013": "validation", "newstest2014": "test"}
    config.data.length = 256
    config.data.target_length = 256
    config.data.pack = True
    config.data.batch_size = 96

    config.task = ConfigDict()
    config.task.label_smoothing = 0.1

    config.model = ConfigDict()
    config.model.family = "transformer"
    config.model.size = arg
    config.model.dropout = 0.1 if arg == "base" else 0.3
    config.model.dtype = "bfloat16"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.options = {"b1": 0.9, "b2": 0.98, "eps": 1e-9}
    config.optimizer.lr = (WIDTH[arg] * 4000) ** -0.5
    config.optimizer.schedule = "rsqrt"
    config.optimizer.warmup = "4000 steps"
    return config
