"""Rows for classifying each word of a sentence: named entities, parts of speech."""

import numpy as np

from zoo.config import UserError
from zoo.config.data import TagData
from zoo.data.base import Row
from zoo.data.text.base import Examples, Vocabulary
from zoo.data.text.labelled import find_class, number_of
from zoo.data.text.layout import make_frame
from zoo.data.text.records import label_names, open_records
from zoo.data.text.tokenizers import load_tokenizer


def open_tag_rows(data: TagData, split: str, *, train: bool) -> "TagRows":
    """The rows of a split, the same in training and evaluation; classes are the training split's.

    Raises:
      UserError: as `open_records`; a tokenizer without [CLS], [SEP] or [PAD].
    """
    records = open_records(data, split)
    classes = label_names(open_records(data, data.train_split), data, "tags")
    return TagRows(records, load_tokenizer(data.tokenizer), data.length, classes=classes)


class TagRows:
    """`tokens`, `type` and `segment` int32 [T] as `Frame` makes them; `label` int32 [T], a word's
    class at its first piece; `mask` bool [T], where there is one. Words that do not fit are left
    out.
    """

    repeats = 1

    def __init__(
        self,
        records: Examples,
        vocabulary: Vocabulary,
        length: int,
        *,
        classes: tuple[str, ...],
    ):
        self.classes = classes
        self._records, self._vocabulary, self._numbers = records, vocabulary, number_of(classes)
        self._frame = make_frame(vocabulary, length, "token_classification")
        self._room = self._frame.room(1)
        if self._room < 1:
            raise UserError(f"data.length is {length}: special tokens leave no room for text")

    def __len__(self) -> int:
        return len(self._records)

    def describe(self, index: int) -> str:
        return self._records.describe(index)

    def make(self, index: int, rng: np.random.Generator) -> Row:
        """One row; nothing in it is random.

        Raises:
          UserError: not as many tags as words, or a tag that the training split does not have.
        """
        record = self._records[index]
        words, tags = list(record["words"]), list(record["tags"])
        if len(words) != len(tags):
            raise UserError(f"{self.describe(index)} has {len(words)} words and {len(tags)} tags")
        tokens, word = self._vocabulary.encode_words(words)
        tokens, word = tokens[: self._room], np.asarray(word)[: self._room]
        first = np.flatnonzero(np.diff(word, prepend=-1))  # pieces of a word stand together
        row = self._frame(tokens)
        label, mask = np.zeros(self._frame.length, np.int32), np.zeros(self._frame.length, bool)
        where = self.describe(index)
        # [CLS] stands before the first piece.
        label[first + 1] = [find_class(tags[i], self._numbers, where) for i in word[first]]
        mask[first + 1] = True
        return {**row, "label": label, "mask": mask}
