"""A rung's recipe made small: the same code on real data, in a minute of one core.

What stays: the family and its options, the loss, the optimizer and its rules, the schedule's
shape, every operation on the data. What changes: sizes, batch, length, the number of steps, the
data (see `zoo.reproduction.inputs`), and the peak rate of what fine-tunes.
"""

import math
from pathlib import Path
from typing import Any

from zoo.config.bert import BertConfig
from zoo.config.data import (
    ImageData,
    MaskedData,
    PairData,
    QuestionData,
    TextData,
)
from zoo.config.decoder import DecoderConfig
from zoo.config.duration import parse_duration
from zoo.config.schema import Config, MeshConfig
from zoo.config.transformer import TransformerConfig
from zoo.config.vit import ViTConfig
from zoo.data.catalog import default_dir
from zoo.reproduction.inputs import Inputs
from zoo.reproduction.ladder import Rung

_WIDTHS = {"size": None, "width": 64, "depth": 2, "mlp_dim": 128, "num_heads": 2}
_TEXT = {**_WIDTHS, "vocab_size": None}
SIZES: dict[type, dict[str, Any]] = {
    ViTConfig: {**_WIDTHS, "depth": 4, "patch_size": 4, "num_classes": None, "image_size": None,
                "channels": None},
    BertConfig: {**_TEXT, "max_length": 128},
    DecoderConfig: {**_TEXT, "num_kv_heads": 2, "head_size": 32, "max_length": 128},
    TransformerConfig: {**_TEXT, "head_size": 32, "decoder_depth": 2},
}  # fmt: skip
ROWS = 64  # pictures a batch; half as many texts
LENGTH = 64  # tokens of a row


def small(rung: Rung, config: Config, inputs: Inputs) -> Config:
    """The config of a stage, cut as the rung says; complete, so that it can be stored and rerun.

    Raises:
      UserError: the data that it reads is not there.
    """
    cut, model = rung.cut, config.model
    if cut.shrink:
        model = model.replace(**SIZES[type(model)])
        if isinstance(model, ViTConfig) and model.head_bias:
            # As likely as one of ten classes, where it was one of 1,000 or 21,843.
            model = model.replace(head_bias=-math.log(9))
    elif not isinstance(model, ViTConfig):
        model = model.replace(vocab_size=None)
    model = model.replace(dtype="float32", remat="none")
    total = f"{cut.steps} steps"
    optimizer = config.optimizer
    return config.replace(
        model=model,
        data=_data(rung, config, inputs),
        optimizer=optimizer.replace(
            lr=cut.lr * optimizer.lr,
            final_lr=cut.lr * optimizer.final_lr,
            warmup=_part(optimizer.warmup, cut.steps // 10),
            cooldown=_part(optimizer.cooldown, cut.steps // 5),
        ),
        total=total,
        eval_every=total,
        save_every=total,
        log_every="10 steps",
        accumulate=1,
        mesh=MeshConfig(),
        best_metric=None,
        keep_last=1,
    )


def _part(duration: str, steps: int) -> str:
    """So many steps for a warm-up or cooldown, where there is any."""
    return f"{max(steps, 1)} steps" if parse_duration(duration)[0] else "0 steps"


def _data(rung: Rung, config: Config, inputs: Inputs) -> Any:
    data = config.data
    names = [rung.metric.partition("/")[0]] if config.data.eval_splits else []
    names = [name for name in names if name in data.eval_splits] or [*data.eval_splits][:1]
    common: dict[str, Any] = {"workers": 0, "threads": 1, "eval_batch_size": None}
    if isinstance(data, ImageData):
        return _images(rung, data, {**common, "batch_size": ROWS}, names)
    assert isinstance(data, TextData)
    common |= {"name": "text", "batch_size": ROWS // 2, "length": min(data.length, LENGTH)}
    found = inputs.text(rung.cut.data, data)
    common |= {
        "dir": str(found.dir),
        "tokenizer": str(found.tokenizer),
        "train_split": found.train,
        "eval_splits": dict.fromkeys(names, found.test),
        "fields": data.fields if rung.cut.data in ("help", "triples") else {},
    }
    match data:
        case PairData():
            return data.replace(**common, target_length=LENGTH)
        case MaskedData():
            return data.replace(**common, max_predictions=10)
        case QuestionData():
            return data.replace(**common, stride=32, max_question=16)
    return data.replace(**common)


def _images(rung: Rung, data: ImageData, common: dict[str, Any], names: list[str]) -> ImageData:
    own = rung.cut.data == "own"
    name = data.name if own else "cifar10"
    if name == "digits":
        return data.replace(**common)
    directory = Path(data.dir).expanduser() if own and data.dir else default_dir(name)
    return data.replace(
        **common,
        name=name,
        dir=str(directory),
        train_split="train[:20%]",
        eval_splits=dict.fromkeys(names, "test[:10%]"),
        image_size=data.image_size if own else 32,
    )
