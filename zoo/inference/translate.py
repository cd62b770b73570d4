"""A trained sequence-to-sequence model, ready to use: texts in, texts out, by beam search."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from zoo.config import UserError
from zoo.config.data import PairData
from zoo.data.text.pairs import encode_prefix
from zoo.inference.beam_search import Beams, Penalty, beam_search, wu_penalty
from zoo.inference.opening import TextModel, open_text_model
from zoo.models.transformer import Transformer
from zoo.tasks.build import abstract_model
from zoo.tasks.seq2seq import start_token

MAX_ROWS = 16  # texts that are translated at once


class Translator:
    """An encoder-decoder with its tokenizer, on one device."""

    def __init__(self, opened: TextModel, *, beams: int = 4, alpha: float = 0.6):
        """`alpha`: of the length penalty, `wu_penalty`; 0 is none."""
        data, eos = opened.config.data, opened.tokenizer.eos
        assert isinstance(data, PairData)
        assert eos is not None
        try:
            penalty = wu_penalty(alpha)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.opened, self._eos = opened, eos
        self._length, self._prefix = data.length, encode_prefix(opened.tokenizer, data.prefix)
        graphdef, _ = abstract_model(opened.config)

        def search(params, source, segment):
            return search_targets(
                nnx.merge(graphdef, params),
                source,
                segment,
                beams=beams,
                max_length=data.target_length,
                eos=eos,
                penalty=penalty,
            )

        self._search = jax.jit(search)

    def translate(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """For each text its `source`, the best `target` with its `score`, and all `beams`.

        Raises:
          UserError: a text of more tokens than the model was trained on.
        """
        rows = [self._row(text) for text in texts]
        size = min(len(rows), MAX_ROWS)
        found: list[dict[str, Any]] = []
        for start in range(0, len(rows), size or 1):
            part = rows[start : start + size]
            source = np.zeros((size, self._length), np.int32)
            segment = np.zeros((size, self._length), np.int32)
            for i, row in enumerate(part):
                source[i, : len(row)], segment[i, : len(row)] = row, 1
            beams = jax.device_get(self._search(self.opened.params, source, segment))
            found += [self._read(texts[start + i], beams, i) for i in range(len(part))]
        return found

    def _row(self, text: str) -> np.ndarray:
        tokens = self.opened.tokenizer.encode(text)
        row = np.concatenate([self._prefix, tokens, np.array([self._eos], np.int32)])
        if len(row) > self._length:
            raise UserError(
                f"the text {text[:40]!r}... has {len(row)} tokens, its end and the prefix "
                f"included, and the model was trained on {self._length} at the most: give a "
                "shorter one"
            )
        return row

    def _read(self, text: str, beams: Beams, i: int) -> dict[str, Any]:
        read = []
        for tokens, length, score in zip(*(part[i] for part in beams), strict=True):
            if score > -np.inf:
                kept = [int(token) for token in tokens[:length] if token != self._eos]
                read.append({"text": self.opened.tokenizer.decode(kept), "score": float(score)})
        return {"source": text, "target": read[0]["text"], "score": read[0]["score"], "beams": read}


def search_targets(
    model: Transformer,
    source: Int[Array, "B S"],
    segment: Int[Array, "B S"],
    *,
    beams: int,
    max_length: int,
    eos: int,
    penalty: Penalty,
) -> Beams:
    """The best targets of each source; `segment` is 0 where it is padding."""

    never = model.cfg.start_token

    def decode(tokens, cache, index):
        hidden, cache = model.decode(tokens, cache, index)
        logits = model.logits(hidden)
        return logits if never is None else logits.at[..., never].set(-jnp.inf), cache

    cache = model.init_cache(model.encode(source, segment=segment), segment, max_length)
    return beam_search(
        decode,
        cache.repeat(beams),
        jnp.full(len(source), start_token(model.cfg)),
        beams=beams,
        max_length=max_length,
        eos=eos,
        penalty=penalty,
        reorder=lambda cache, row: cache.reorder(row),
    )


def load_translator(
    path: str | Path, *, beams: int = 4, alpha: float = 0.6, average: int = 1
) -> Translator:
    """A trained model from a workdir (its best checkpoint) or from `WORKDIR/checkpoints/STEP`.

    Args:
      average: use the mean of so many checkpoints, up to this one.

    Raises:
      UserError: as `open_text_model`; too few checkpoints; a tokenizer without EOS.
    """
    opened = open_text_model(path, (PairData,), "translates", average=average)
    return Translator(opened, beams=beams, alpha=alpha)
