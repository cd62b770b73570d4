"""What a row of each kind of data holds, from the config alone."""

from typing import Any

import numpy as np

from zoo.config import data as kinds
from zoo.config.data import DataConfig
from zoo.config.sizes import target_tokens

Shape = tuple[tuple[int, ...], Any]  # and the dtype
Shapes = dict[str, Shape]  # by name


def row_shapes(data: DataConfig) -> Shapes:
    """The arrays of a row, as `make` of the kind's `Rows` gives them.

    Raises:
      UserError: span corruption with a rate or a length at which nothing can be corrupted.
    """
    match data:
        case kinds.ImageData():
            size = data.image_size
            rows, cols = (size, size) if isinstance(size, int) else size
            return {"image": _array(rows, cols, data.channels, dtype=np.uint8), "label": _array()}
        case kinds.SpanData() | kinds.PairData():
            whats = ("", "_segment") + ("_position",) * isinstance(data, kinds.PairData)
            rooms = {"source": data.length, "target": target_tokens(data)}
            shapes = {f"{side}{what}": _array(rooms[side]) for side in rooms for what in whats}
            return shapes | {"mask": _array(rooms["target"], dtype=np.bool_)}
    assert isinstance(data, kinds.TextData)
    tokens, mask = _array(data.length), _array(data.length, dtype=np.bool_)
    if isinstance(data, kinds.LmData):
        names = ("tokens", "targets", "segment", "position")
        return dict.fromkeys(names, tokens) | {"mask": mask, "num_bytes": _array()}
    framed = {"tokens": tokens, "type": tokens, "segment": tokens}
    match data:
        case kinds.MaskedData():
            masked = _array(data.max_predictions)
            found = framed | {"masked_positions": masked, "masked_targets": masked}
            found |= {"mask": _array(data.max_predictions, dtype=np.bool_)}
            return found | ({"next_sentence": _array()} if data.next_sentence else {})
        case kinds.LabelledData():
            return framed | {"label": _array(dtype=np.float32 if data.regression else np.int32)}
        case kinds.TagData():
            return framed | {"label": tokens, "mask": mask}
        case kinds.QuestionData():
            return framed | {"mask": mask} | dict.fromkeys(("start", "end", "example"), _array())
    raise TypeError(data)


def batch_shapes(data: DataConfig, batch_size: int) -> Shapes:
    """The arrays of a batch, as a stream gives it; their first axis is the rows'."""
    shapes = row_shapes(data) | {"weight": _array(dtype=np.float32), "index": _array()}
    return {name: ((batch_size, *shape), dtype) for name, (shape, dtype) in shapes.items()}


def _array(*shape: int, dtype: Any = np.int32) -> Shape:
    return shape, dtype
