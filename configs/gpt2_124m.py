"""GPT-2 small, 124.4 M parameters, on OpenWebText: loss about 2.85 after 600k steps.

Source: karpathy/nanoGPT, config/train_gpt2.py and README.md: validation loss on OpenWebText about
  2.85 after some 4 days on 8 x A100-40GB; OpenAI's own GPT-2 small, medium, large and xl have
  3.12, 2.84, 2.67 and 2.54 there, without having been trained on it. Not reproduced here.
Command: zoo train --config gpt2_124m --workdir runs/gpt2 --config.data.dir=DIR
    --config.data.tokenizer=VOCAB
  where DIR holds train.txt and val.txt, with an empty line between documents, or the same in
  another layout (*.jsonl, *.parquet, ...), and VOCAB is GPT-2's own tokenizer.json or vocab.bpe
  beside encoder.json. The loss is in nats a token, so another tokenizer gives another number.
Argument: the size: gpt2 (default), gpt2-medium, gpt2-large or gpt2-xl, by the same recipe.

Differs from the source: a token sees its own document only, and a document's first token is
BOS and no target; a row is one of the blocks that the text is cut into, each once an epoch, not one
that begins anywhere; there are biases, as in OpenAI's GPT-2; the vocabulary is not padded from
50,257 to 50,304.
"""

from ml_collections import ConfigDict

ARGS = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")


def get_config(arg="gpt2"):
    assert arg in ARGS, f"{arg!r} is not one of {ARGS}"
    config = ConfigDict()
    config.seed = 0
    config.total = "600000 steps"
    config.log_every = "10 steps"
    config.eval_every = "1000 steps"
    config.save_every = "1000 steps"

    config.data = ConfigDict()
    config.data.kind = "lm"
    config.data.name = "text"
    config.data.dir = "SET --config.data.dir=DIR"
    config.data.tokenizer = "SET --config.data.tokenizer=VOCAB"
    config.data.eval_splits = {"val": "val"}
    config.data.length = 1024
    config.data.batch_size = 480  # 491,520 tokens
    config.data.workers = 4

    config.model = ConfigDict()
    config.model.family = "decoder"
    config.model.size = arg
    config.model.dtype = "bfloat16"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.options = {"b1": 0.9, "b2": 0.95}
    config.optimizer.lr = 6e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = "2000 steps"
    config.optimizer.final_lr = 6e-5
    config.optimizer.weight_decay = 0.1
    # All matrices, embeddings too; no bias and no norm.
    config.optimizer.decay_rules = [(".*/kernel|.*/table|pos_embed", 1.0), (".*", 0.0)]
    config.optimizer.clip_norm = 1.0
    return config
