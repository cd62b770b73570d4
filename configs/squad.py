"""BERT-base, uncased, on SQuAD 1.1: F1 88.4, exact match 81.2 on the development set.

Source: google-research/bert, README.md and run_squad.py: F1 88.41, exact match 81.25, one run, on
  one GPU of 12 GB or more, time not given; BERT-large has 90.5 to 91.0 F1. Not reproduced here.
  It gives no number of BERT-base on SQuAD 2.0.
Command: zoo train --config squad:1.1 --workdir runs/squad --config.init_from=WEIGHTS
    --config.data.tokenizer=VOCAB
  where WEIGHTS is a workdir or a checkpoint of this model, and VOCAB the vocab.txt that goes with
  it; for one of another size add --config.model.size=large, and expect another number.
Argument: 1.1 (default) or 2.0, where a question may have no answer. There, evaluations say which
  `best_threshold` gives the `best_f1`; both are chosen on the questions that they are measured on,
  as in the official script. Set one that was chosen elsewhere with --config.data.null_threshold.

Differs from the source: windows begin and end with words; the 20 best spans of a window are those
of all spans, not of the 20 best starts and ends; an answer is cut from the context at its tokens'
characters, not aligned again by a heuristic; the loss points at no padding; the rate falls on a
line from the end of warm-up, there from where a line from step 0 would be (1.1 x less at first).
"""

from ml_collections import ConfigDict

ARGS = ("1.1", "2.0")
# Two epochs by the number of questions, as in the source; there are 1 % more windows than those.
STEPS = {"1.1": (14_599, 1_459), "2.0": (21_719, 2_171)}


def get_config(arg="1.1"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    config = ConfigDict()
    config.seed = 0
    steps, warmup = STEPS[arg]
    config.total = f"{steps} steps"
    config.eval_every = "0.5 epochs"
    config.save_every = "0.5 epochs"
    config.best_metric = "validation/f1" if arg == "1.1" else "validation/best_f1"
    config.init_from = "SET --config.init_from=WEIGHTS"

    config.data = ConfigDict()
    config.data.kind = "question_answering"
    config.data.name = f"tfds:squad/v{arg}"
    config.data.eval_splits = {"validation": "validation"}
    config.data.tokenizer = "SET --config.data.tokenizer=VOCAB"
    config.data.length = 384
    config.data.stride = 128
    config.data.max_question = 64
    config.data.max_answer = 30
    if arg == "2.0":
        config.data.null_threshold = 0.0
    config.data.batch_size = 12
    config.data.eval_batch_size = 8

    config.model = ConfigDict()
    config.model.family = "bert"
    config.model.size = "base"
    config.model.max_length = 512
    config.model.head = "question_answering"
    config.model.dropout = 0.1
    config.model.attention_dropout = 0.1

    config.optimizer = ConfigDict()
    config.optimizer.name = "bert_adamw"
    config.optimizer.lr = 3e-5
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = f"{warmup} steps"
    config.optimizer.weight_decay = 0.01
    config.optimizer.decay_rules = [(".*norm.*|.*bias", 0.0), (".*", 1.0)]
    config.optimizer.clip_norm = 1.0
    return config
