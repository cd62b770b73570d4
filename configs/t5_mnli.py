"""T5 1.1, fine-tuned to say in words how two sentences of MNLI relate: small 83.06 % of matched.

Source: google-research/t5x, contrib/gpu: configs/runs/finetune_mnli.gin, and of t5_1_1
  examples/small_mnli2_finetune_adam.gin and adamw_opt.gin: small 83.06, large 90.50, xl 91.15 on
  the matched validation set, after a pre-training on the Pile. Not reproduced here.
Data: glue/mnli of TFDS, and T5's vocabulary as for configs/t5_11_c4.py.
Command: zoo train --config t5_mnli:small --workdir runs/t5_mnli --config.init_from=WEIGHTS
  where WEIGHTS is a run of t5_11_c4:small, or T5 1.1 small as published (Hugging Face's files).
Then: zoo eval --workdir runs/t5_mnli --exact-match
  zoo translate --workdir runs/t5_mnli "mnli hypothesis: It rains. premise: The sun is shining."
Argument: small, large or xl.

The source's scheduler (a rate of 0.001 that falls) has no effect: an optimizer of optax's keeps
its own, which is 0.0001 all the time. Its loss is a sum over the 2,048 target places of a batch,
divided by 131,077, so that its clipping at a norm of 1 is one at 64 of the mean that is minimised
here.

Differs from the source: its pre-training, by AdamW and with scaled attention; it draws one dropout
mask for all places of a text; its answers are greedy, those of zoo eval by beam search.
"""

from ml_collections import ConfigDict

ARGS = ("small", "large", "xl")


def get_config(arg="small"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    config = ConfigDict()
    config.seed = 0
    config.total = "15001 steps"
    config.log_every = "50 steps"
    config.eval_every = "1000 steps"
    config.save_every = "5000 steps"
    config.init_from = "SET --config.init_from=WEIGHTS"

    config.data = ConfigDict()
    config.data.kind = "seq2seq"
    config.data.name = "tfds:glue/mnli"
    config.data.tokenizer = "~/zoo_data/t5"
    config.data.eval_splits = {
        "matched": "validation_matched",
        "mismatched": "validation_mismatched",
    }
    config.data.fields = {
        "source": "mnli hypothesis: {hypothesis} premise: {premise}",
        "target": "label",
    }
    config.data.length = 512
    config.data.target_length = 16
    config.data.pack = True
    config.data.on_long = "cut"
    config.data.batch_size = 128

    config.task = ConfigDict()
    config.task.z_loss = 1e-4

    config.model = ConfigDict()
    config.model.family = "transformer"
    config.model.size = f"t5_1_1-{arg}"
    config.model.vocab_size = 32_128
    config.model.dtype = "bfloat16"
    config.model.dropout = 0.1
    config.model.attention_dropout = 0.1
    config.model.mlp_dropout = 0.1

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.lr = 1e-4
    config.optimizer.schedule = "constant"
    config.optimizer.weight_decay = 0.01
    config.optimizer.decay_rules = [(".*", 1.0)]  # optax's AdamW decays every parameter
    config.optimizer.clip_norm = 64.0
    return config
