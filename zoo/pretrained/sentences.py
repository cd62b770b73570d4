"""What sentence-transformers stores beside a BERT: how tokens become a vector of the text."""

from pathlib import Path
from typing import Literal, NamedTuple

from zoo.config import UserError
from zoo.pretrained.files import read_json


class Pooling(NamedTuple):
    """The mean of all tokens or the first one's vector, and whether it is made 1 long."""

    mode: Literal["mean", "cls"] = "mean"
    normalize: bool = True
    max_length: int | None = None  # tokens; None: as many as the model takes


def read_pooling(path: Path) -> Pooling:
    """The pooling of a directory; the mean, 1 long, where its files say nothing.

    Raises:
      UserError: another kind of pooling, or a file that is no JSON.
    """
    directory = path.expanduser()
    directory = directory if directory.is_dir() else directory.parent
    file = directory / "1_Pooling" / "config.json"
    limits = directory / "sentence_bert_config.json"
    longest = read_json(limits).get("max_seq_length") if limits.is_file() else None
    if not file.is_file():
        return Pooling(max_length=longest)
    modes = {name for name, on in read_json(file).items() if on is True}
    modes &= {name for name in modes if name.startswith("pooling_mode_")}
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(modes) != 1 or not modes <= known.keys():
        raise UserError(f"{file} asks for {', '.join(sorted(modes))}: only {', '.join(known)}")
    # The last of the modules, where there is one.
    normalize = any(directory.glob("[0-9]*_Normalize"))
    return Pooling("mean" if "pooling_mode_mean_tokens" in modes else "cls", normalize, longest)
