"""BERT-base, cased, on GLUE: CoLA 59.0, SST-2 92.2, MRPC 89.0 F1, STS-B 88.9, QQP 90.8, ...

Source: transformers/examples/flax/text-classification/README.md (run_flax_glue.py): means of 5
  seeds on the validation sets, the nine tasks in 1h03m on a TPUv3-8. Not reproduced here.
    cola  59.04 (+- 1.06) matthews_correlation   mnli  83.80 (+- 0.16) accuracy, matched
    sst2  92.23 accuracy                         qnli  90.82 accuracy
    mrpc  88.97 f1, 84.36 accuracy               rte   64.76 (+- 1.04) accuracy
    stsb  88.94 pearson, 88.63 spearman          wnli  37.01 accuracy
    qqp   90.76 accuracy, 87.51 f1
  All start from bert-base-cased. Metrics here are 0 to 1.
Command: zoo train --config glue:mrpc --workdir runs/mrpc --config.init_from=WEIGHTS
    --config.data.tokenizer=VOCAB
  where WEIGHTS is a workdir or a checkpoint of this model, and VOCAB the vocab.txt that goes with
  it; for one of another size add --config.model.size=tiny, and expect another number.
Argument: the task: cola, sst2, mrpc (default), stsb, qqp, mnli, qnli, rte or wnli.

Differs from the source: there are four evaluations an epoch, and the best checkpoint is kept
besides the last; the numbers above are those of the last. The last rows of an epoch, which fill no
batch, are left out there: its runs are a step or two shorter, WNLI's four of 99.
"""

from ml_collections import ConfigDict

ARGS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
# argument: (its texts in TFDS, the metric that GLUE ranks by)
TASKS = {
    "cola": (("sentence",), "matthews_correlation"),
    "sst2": (("sentence",), "accuracy"),
    "mrpc": (("sentence1", "sentence2"), "f1"),
    "stsb": (("sentence1", "sentence2"), "pearson"),
    "qqp": (("question1", "question2"), "accuracy"),
    "mnli": (("premise", "hypothesis"), "accuracy"),
    "qnli": (("question", "sentence"), "accuracy"),
    "rte": (("sentence1", "sentence2"), "accuracy"),
    "wnli": (("sentence1", "sentence2"), "accuracy"),
}


def get_config(arg="mrpc"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    texts, metric = TASKS[arg]
    config = ConfigDict()
    config.seed = 0
    config.total = "5 epochs" if arg in ("mrpc", "wnli") else "3 epochs"
    config.eval_every = "0.25 epochs"
    config.save_every = "0.25 epochs"
    config.log_every = "10 steps"
    config.init_from = "SET --config.init_from=WEIGHTS"

    config.data = ConfigDict()
    config.data.kind = "text_classification"
    config.data.name = f"tfds:glue/{arg}"
    config.data.eval_splits = {"validation": "validation"}
    if arg == "mnli":
        config.data.eval_splits = {
            "matched": "validation_matched",
            "mismatched": "validation_mismatched",
        }
    config.best_metric = f"{next(iter(config.data.eval_splits))}/{metric}"
    config.data.tokenizer = "SET --config.data.tokenizer=VOCAB"
    config.data.fields = dict(zip(("text", "text_pair"), texts, strict=False))
    config.data.pair = len(texts) == 2
    config.data.regression = arg == "stsb"
    config.data.length = 128
    config.data.batch_size = 32

    config.model = ConfigDict()
    config.model.family = "bert"
    config.model.size = "base"
    config.model.max_length = 512
    config.model.head = "classification"
    config.model.gelu = "erf"
    config.model.dropout = 0.1
    config.model.attention_dropout = 0.1

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.options = {"eps": 1e-6}
    config.optimizer.lr = 2e-5
    config.optimizer.schedule = "linear"
    config.optimizer.weight_decay = 0.0
    return config
