"""A trained BERT, ready to use: masked words filled in, texts classified."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.config import UserError
from zoo.config.bert import BertConfig
from zoo.config.data import LabelledData, MaskedData
from zoo.data.text.labelled import cut_to_frame
from zoo.data.text.layout import make_frame
from zoo.inference.opening import TextModel, open_text_model
from zoo.tasks.bert_parts import encode
from zoo.tasks.build import abstract_model

MASK = "[MASK]"  # as it is written in a text, whatever the tokenizer calls it


class MaskFiller:
    """A BERT with a head for masked tokens."""

    def __init__(self, opened: TextModel):
        assert isinstance(opened.config.data, MaskedData)
        assert isinstance(opened.config.model, BertConfig)
        if not opened.config.model.has_masked_lm:
            raise UserError(
                f"the model has a head {opened.config.model.head!r}, which predicts no masked "
                "words: give weights of a BERT with its pre-training's head"
            )
        self.opened, self._length = opened, opened.config.data.length
        graphdef, _ = abstract_model(opened.config)

        def fill(params, row, positions):
            model = nnx.merge(graphdef, params)
            hidden = encode(model, row)
            return jax.nn.softmax(model.logits(model.masked_hidden(hidden, positions)))

        self._fill = jax.jit(fill)

    def fill(self, text: str, *, top: int = 5) -> dict[str, Any]:
        """The likeliest tokens for every [MASK] of a text, each mask by itself.

        Returns:
          `text` with the likeliest one in each place, and `masks`: for each the `top` ones,
          `token` and `probability`.

        Raises:
          UserError: a text without [MASK], or of more tokens than the model was trained on.
        """
        tokenizer, length = self.opened.tokenizer, self._length
        parts = text.split(MASK)
        if len(parts) == 1:
            raise UserError(f"the text {text!r} has no {MASK}: write it where a word is missing")
        pieces = [tokenizer.encode(part) for part in parts]
        mask, tokens = np.array([tokenizer.mask], np.int32), pieces[0]
        for piece in pieces[1:]:
            tokens = np.concatenate([tokens, mask, piece])
        frame = make_frame(tokenizer, length, "masked_lm")
        if len(tokens) > frame.room(1):
            raise UserError(
                f"the text has {len(tokens)} tokens, and the model was trained on {frame.room(1)} "
                "at the most: give a shorter one"
            )
        row = frame(tokens)
        positions = np.flatnonzero(row["tokens"] == tokenizer.mask)
        padded = np.zeros((1, length), np.int32)
        padded[0, : len(positions)] = positions
        batch = {name: jnp.asarray(value)[None] for name, value in row.items()}
        probability = jax.device_get(self._fill(self.opened.params, batch, padded))[0]
        order = np.argsort(-probability[: len(positions)], kind="stable")[:, :top]
        filled = row["tokens"][row["segment"] > 0]
        filled[positions] = order[:, 0]
        masks = [
            [{"token": tokenizer.token(int(i)), "probability": float(row[i])} for i in best]
            for best, row in zip(order, probability, strict=False)
        ]
        return {"text": tokenizer.decode(filled), "masks": masks}


class TextClassifier:
    """A BERT with a head for texts or pairs of texts.

    A run says which of the two it was trained on. Published weights do not: they take both.
    """

    def __init__(self, opened: TextModel):
        self.opened = opened
        assert isinstance(opened.config.data, LabelledData)
        self._data = opened.config.data
        graphdef, _ = abstract_model(opened.config)

        def classify(params, row):
            model = nnx.merge(graphdef, params)
            return model.class_logits(encode(model, row))

        self._logits = jax.jit(classify)

    def group(self, texts: Sequence[str], *, pairs: bool = False) -> list[tuple[str, ...]]:
        """Texts as they stand on a command line, one at a time or two by two.

        Args:
          pairs: two by two, also where the model does not say so.

        Raises:
          UserError: an odd number where two belong together.
        """
        step = 2 if self._data.pair or pairs else 1
        if len(texts) % step:
            raise UserError(f"the model compares two texts: give an even number, not {len(texts)}")
        return [tuple(texts[i : i + step]) for i in range(0, len(texts), step)]

    def classify(self, text: str, pair: str | None = None, *, top: int = 5) -> dict[str, Any]:
        """The likeliest classes of a text: `top`, of `class` and `probability`; or its `score`.

        Raises:
          UserError: one text where the model compares two, or two where it reads one.
        """
        either = self.opened.published and not self._data.pair
        if (pair is not None) != self._data.pair and not either:
            number = "two texts" if self._data.pair else "one text at a time"
            raise UserError(f"the model was trained on {number}: give that")
        tokenizer = self.opened.tokenizer
        texts = [tokenizer.encode(one) for one in (text, pair) if one is not None]
        frame = make_frame(tokenizer, self._data.length, "text_classification")
        row = cut_to_frame(frame, *texts)
        batch = {name: jnp.asarray(value)[None] for name, value in row.items()}
        logits = self._logits(self.opened.params, batch)[0]
        if self._data.regression:
            return {"score": float(logits[0])}
        probability = jax.device_get(jax.nn.softmax(logits))
        best = np.argsort(-probability, kind="stable")[:top]
        classes = self.opened.classes
        return {"top": [{"class": classes[i], "probability": float(probability[i])} for i in best]}


def load_filler(path: str | Path) -> MaskFiller:
    """A model for `fill`; raises as `open_text_model`."""
    return MaskFiller(open_text_model(path, (MaskedData,), "fills masks"))


def load_text_classifier(path: str | Path) -> TextClassifier:
    """A model for `classify`; raises as `open_text_model`."""
    return TextClassifier(open_text_model(path, (LabelledData,), "classifies texts"))
