"""A small Transformer that translates LibreOffice's help from English to German: half an hour.

Data: LibreOffice's help (MPL-2.0), sentences with the same id in both languages, split by file;
  `python benchmarks/fetch_data.py libreoffice_help`, then
  zoo data tokenizer text --dir ~/zoo_data/libreoffice_help --field en --field de
      --kind sentencepiece --vocab-size 4000 --out ~/zoo_data/libreoffice_help_spm
Command: zoo train --config translate_help --workdir runs/translate_help
Then: zoo eval --workdir runs/translate_help --bleu --chrf
  zoo translate --workdir runs/translate_help "Opens the dialog to insert a chart."
Here: BLEU 25.9 on test (816 sentences; seed 0, one core, 27 minutes), by sacreBLEU
  nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0. The domain is narrow: the score says
  nothing of other texts.
"""

from ml_collections import ConfigDict

ARGS = ()


def get_config(arg=None):
    assert arg is None, f"translate_help takes no argument, not {arg!r}"
    config = ConfigDict()
    config.seed = 0
    config.total = "6 epochs"
    config.eval_every = "3 epochs"
    config.save_every = "1 epochs"

    config.data = ConfigDict()
    config.data.kind = "seq2seq"
    config.data.name = "text"
    config.data.dir = "~/zoo_data/libreoffice_help"
    config.data.tokenizer = "~/zoo_data/libreoffice_help_spm"
    config.data.fields = {"source": "en", "target": "de"}
    config.data.train_split = "train"
    config.data.eval_splits = {"valid": "valid", "test": "test"}
    config.data.length = 96
    config.data.target_length = 96
    config.data.pack = True
    config.data.batch_size = 32
    config.data.eval_batch_size = 64

    config.task = ConfigDict()
    config.task.label_smoothing = 0.1

    config.model = ConfigDict()
    config.model.family = "transformer"
    config.model.width = 128
    config.model.depth = 3
    config.model.mlp_dim = 512
    config.model.num_heads = 4
    config.model.norm_order = "pre"
    config.model.dropout = 0.1

    config.optimizer = ConfigDict()
    config.optimizer.name = "muon"  # learns more in few steps than AdamW
    config.optimizer.lr = 0.02
    # The matrices go by Muon; the table, biases and norms by AdamW.
    config.optimizer.lr_rules = [(".*/blocks/.*/kernel", 1.0), (".*", 0.15)]
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = "100 steps"
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    return config
