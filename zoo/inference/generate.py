"""A trained language model, ready to use: a text in, what follows it out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from zoo.config import UserError
from zoo.config.data import LmData
from zoo.config.decoder import DecoderConfig
from zoo.config.schema import Config
from zoo.data.text.tokenizers import Tokenizer
from zoo.inference.decoding import PLAIN, Sampling, Writer, cast
from zoo.inference.opening import open_text_model
from zoo.tasks.build import Params, abstract_model


class LanguageModel:
    """A decoder with its tokenizer, on one device.

    Attributes:
      config: the resolved config that it was trained with.
      tokenizer: of that run.
      params: nested dict of arrays, in the dtype of the computation.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer, params: Params):
        assert isinstance(config.model, DecoderConfig)
        self.config, self.tokenizer = config, tokenizer
        self.params = cast(params, config.model.dtype)
        self._max_length = config.model.max_length
        eos = () if tokenizer.eos is None else (tokenizer.eos,)
        graphdef, _ = abstract_model(config)
        self._writer = Writer(graphdef, eos=eos, max_length=self._max_length)

    def generate(
        self,
        texts: Sequence[str],
        *,
        max_tokens: int = 64,
        sampling: Sampling = PLAIN,
        seed: int = 0,
    ) -> list[dict[str, Any]]:
        """What follows each text: `prompt`, `text`, `num_tokens`, and whether it `ended` by itself.

        A text stands where a document of the training begins. It draws with a key of its own, from
        the seed and its place among the texts.

        Raises:
          UserError: a text that is too long, or empty where the tokenizer has no BOS to begin with.
        """
        prompts = [self._prompt(text) for text in texts]
        rows = self._writer.write(
            self.params, prompts, max_tokens=max_tokens, keys=_keys(seed, texts), sampling=sampling
        )
        found = []
        for text, prompt, row in zip(texts, prompts, rows, strict=True):
            pieces = "".join(self._pieces(prompt, iter(row)))
            ended = row[-1] == self.tokenizer.eos
            found.append({"prompt": text, "text": pieces, "num_tokens": len(row), "ended": ended})
        return found

    def stream(
        self,
        text: str,
        *,
        max_tokens: int = 64,
        sampling: Sampling = PLAIN,
        seed: int = 0,
    ) -> Iterator[str]:
        """The text that `generate` gives for this one, in pieces as they come."""
        prompt = self._prompt(text)
        columns = self._writer.stream(
            self.params,
            [prompt],
            max_tokens=max_tokens,
            keys=_keys(seed, [text]),
            sampling=sampling,
        )
        return self._pieces(prompt, (column[0] for column in columns))

    def _prompt(self, text: str) -> list[int]:
        tokenizer = self.tokenizer
        prompt = [] if tokenizer.bos is None else [tokenizer.bos]
        prompt += tokenizer.encode(text).tolist()
        shown = repr(text if len(text) <= 30 else f"{text[:27]}...")
        if not prompt:
            raise UserError(
                f"the text {shown} is empty, and the tokenizer has no token to begin with: give at "
                "least a word"
            )
        if self._max_length is not None and len(prompt) >= self._max_length:
            raise UserError(
                f"the text {shown} has {len(prompt)} tokens, and the model takes "
                f"{self._max_length} with what it writes: give a shorter one"
            )
        return prompt

    def _pieces(self, prompt: Sequence[int], tokens: Iterator[int | None]) -> Iterator[str]:
        # The decoder reads the prompt too: a piece is written otherwise where a text begins.
        decoder = self.tokenizer.stream_decoder()
        for token in prompt:
            decoder.add(token)
        for token in tokens:
            if token is not None:
                yield decoder.add(token)
        yield decoder.end()


def _keys(seed: int, texts: Sequence[str]) -> jax.Array:
    key = jax.random.key(seed)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(texts)))


def load_language_model(path: str | Path) -> LanguageModel:
    """A trained model from a workdir (its best checkpoint) or from `WORKDIR/checkpoints/STEP`.

    Raises:
      UserError: there is no checkpoint, it cannot be read, or it is of another kind of model.
    """
    found = open_text_model(path, (LmData,), "writes texts on")
    return LanguageModel(found.config, found.tokenizer, found.params)
