"""BERT pre-training, as published: 110.1 M (base) or 336.2 M (large) parameters, 1M steps of 256.

Source: Devlin 2018 (arXiv 1810.04805); google-research/bert, README.md, run_pretraining.py and
  optimization.py. 4 days on 4 (base) or 16 (large) Cloud TPUs; its authors' held-out loss of
  masked tokens for base is about 1.4, and better than 2.0 is on the way (issue 90 there). Not
  reproduced here.
Command: zoo train --config bert_pretrain:base --workdir runs/bert1 --config.data.dir=DIR
    --config.data.tokenizer=VOCAB
  zoo train --config bert_pretrain:base,phase2 --workdir runs/bert2 --config.init_from=runs/bert1
    --config.data.dir=DIR --config.data.tokenizer=VOCAB
  where DIR holds train.txt and test.txt, documents with a sentence a line and an empty line
  between documents, and VOCAB is vocab.txt or what `zoo data tokenizer` made.
Argument: base (default) or large, then phase2 for the last tenth, with rows of 512 tokens.

Differs from the source: masks and next sentences are drawn anew in each epoch, not once for ten
copies of the text; the second phase begins with fresh moments of Adam; the rate falls on one line
from the end of warm-up through both phases, where there it is up to 1 % less; gradients are
clipped after they are added up over devices, not before.
"""

from ml_collections import ConfigDict

ARGS = ("base", "large", "base,phase2", "large,phase2")
STEPS = 1_000_000
PHASE_1 = 900_000


def get_config(arg="base"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    size, _, second = arg.partition(",")
    config = ConfigDict()
    config.seed = 0
    config.total = f"{STEPS - PHASE_1 if second else PHASE_1} steps"
    config.log_every = "100 steps"
    config.eval_every = "5000 steps"
    config.save_every = "5000 steps"
    config.best_metric = "test/masked_lm_loss"
    if second:
        config.init_from = "SET --config.init_from=WORKDIR of the first phase"

    config.data = ConfigDict()
    config.data.kind = "masked_lm"
    config.data.name = "text"
    config.data.dir = "SET --config.data.dir=DIR"
    config.data.tokenizer = "SET --config.data.tokenizer=VOCAB"
    config.data.length = 512 if second else 128
    config.data.max_predictions = 76 if second else 20
    config.data.mask_rate = 0.15
    config.data.short_rate = 0.1
    config.data.batch_size = 256
    config.data.workers = 8

    config.model = ConfigDict()
    config.model.family = "bert"
    config.model.size = size
    config.model.vocab_size = 30522
    config.model.max_length = 512
    config.model.head = "pretraining"
    config.model.dropout = 0.1
    config.model.attention_dropout = 0.1
    config.model.dtype = "bfloat16"

    # One line from 1e-4 at the end of warm-up to 0 after both phases.
    between = 1e-4 * (STEPS - PHASE_1) / (STEPS - 10_000)
    config.optimizer = ConfigDict()
    config.optimizer.name = "bert_adamw"
    config.optimizer.lr = between if second else 1e-4
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = "0 steps" if second else "10000 steps"
    config.optimizer.final_lr = 0.0 if second else between
    config.optimizer.weight_decay = 0.01
    config.optimizer.decay_rules = [(".*norm.*|.*bias", 0.0), (".*", 1.0)]
    config.optimizer.clip_norm = 1.0
    return config
