"""A BERT without a head, ready to use: a vector of each text, as sentence encoders give it."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from zoo.config import UserError
from zoo.config.bert import BertConfig
from zoo.config.data import MaskedData
from zoo.data.text.labelled import cut_to_frame
from zoo.data.text.layout import make_frame
from zoo.inference.opening import TextModel, open_text_model
from zoo.pretrained.sentences import Pooling, read_pooling
from zoo.tasks.bert_parts import encode
from zoo.tasks.build import abstract_model

BUCKET = 32  # texts are padded to a multiple of so many tokens


class TextEncoder:
    """A BERT whose tokens' vectors are pooled into one."""

    def __init__(self, opened: TextModel, pooling: Pooling):
        assert isinstance(opened.config.data, MaskedData)
        self.opened, self.pooling = opened, pooling
        self._length = opened.config.data.length
        graphdef, _ = abstract_model(opened.config)

        def pool(params, rows):
            hidden = encode(nnx.merge(graphdef, params), rows)
            if pooling.mode == "cls":
                return hidden[:, 0]
            real = (rows["segment"] > 0)[..., None]
            return jnp.sum(hidden, 1, where=real) / jnp.sum(real, 1)

        self._pool = jax.jit(pool)

    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "texts D"]:
        """A float32 vector of each text, of length 1 where the model was made so.

        What is too long is cut at its end.
        """
        vectors = [self._embed(text) for text in texts]
        found = np.stack(vectors) if vectors else np.zeros((0, self._width), np.float32)
        if self.pooling.normalize:
            found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found

    @property
    def _width(self) -> int:
        assert isinstance(self.opened.config.model, BertConfig)
        return self.opened.config.model.width

    def _embed(self, text: str) -> Float[np.ndarray, " D"]:
        tokens = self.opened.tokenizer.encode(text)
        longest = min(self._length, self.pooling.max_length or self._length)
        length = min(-(-(len(tokens) + 2) // BUCKET) * BUCKET, longest)
        frame = make_frame(self.opened.tokenizer, length, "masked_lm")
        row = cut_to_frame(frame, tokens)
        rows = {name: jnp.asarray(value)[None] for name, value in row.items()}
        return np.asarray(self._pool(self.opened.params, rows)[0])


def load_encoder(path: str | Path) -> TextEncoder:
    """A model for `embed`, with the pooling that stands beside it.

    Raises:
      UserError: as `open_text_model`; a BERT with a head is used by what it predicts.
    """
    opened = open_text_model(path, (MaskedData,), "gives vectors of texts")
    assert isinstance(opened.config.model, BertConfig)
    if opened.config.model.head not in ("pooled", "none"):
        raise UserError(f"{path} has a head {opened.config.model.head!r}: use it by zoo fill-mask")
    return TextEncoder(opened, read_pooling(Path(path)))
