"""Rows for finding an answer in a context, as in SQuAD (Rajpurkar 2016, 2018)."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from zoo.config import UserError
from zoo.config.data import QuestionData
from zoo.data.base import Row
from zoo.data.text.base import Documents, Examples, Vocabulary
from zoo.data.text.layout import make_frame
from zoo.data.text.records import open_records
from zoo.data.text.token_store import open_tokens
from zoo.data.text.tokenizers import load_tokenizer
from zoo.data.text.windows import windows


def open_question_rows(data: QuestionData, split: str, *, train: bool) -> "QuestionRows":
    """The rows of a split, the same in training and evaluation: a row for each window.

    Raises:
      UserError: as `open_tokens`; a tokenizer without [CLS], [SEP] or [PAD]; a length that leaves
        no room for a context.
    """
    tokenizer = load_tokenizer(data.tokenizer)
    records = open_records(data, split)
    question, context = (
        open_tokens(data, split, name, tokenizer) for name in ("question", "context")
    )
    return QuestionRows(question, context, records, tokenizer, data)


class Answer(NamedTuple):
    """An answer that people gave."""

    text: str
    start: int  # character of the context


class QuestionRows:
    """`tokens`, `type` and `segment` int32 [T], [CLS] question [SEP] window of the context [SEP];
    `mask` bool [T], the context's tokens; `start` and `end` int32, the first and the last token of
    the answer, both 0 ([CLS]) where the window does not hold all of it or there is none; `example`
    int32, the number of the question.

    Unlike BERT's own, windows begin and end with words. Where people gave several answers, the
    first one counts here.
    """

    classes = ()
    repeats = 1

    def __init__(
        self,
        question: Documents,
        context: Documents,
        records: Examples,
        vocabulary: Vocabulary,
        data: QuestionData,
    ):
        self._records, self._vocabulary, self._data = records, vocabulary, data
        self._question, self._context = question, context
        self._frame = make_frame(vocabulary, data.length, "question_answering")
        self._example, self._start, self._stop = self._plan(data)

    def _plan(self, data: QuestionData) -> Int64[np.ndarray, "3 N"]:
        """Of each window its question, and where it begins and ends in the context's tokens."""
        asked = np.minimum(np.asarray(self._question.lengths), data.max_question)
        rooms = self._frame.room(2) - asked
        if len(rooms) and rooms.min() < 1:
            raise UserError(
                f"data.length is {data.length}, of which a question takes up to {asked.max()}: "
                "set data.length higher or data.max_question lower"
            )
        word_starts, found = np.asarray(self._vocabulary.word_starts), []
        lengths = np.asarray(self._context.lengths)
        for i, (length, room) in enumerate(zip(lengths.tolist(), rooms.tolist(), strict=True)):
            if length <= room:
                found.append((i, 0, length))
                continue
            starts_word = word_starts[self._context[i]]
            found += [(i, *window) for window in windows(starts_word, room, data.stride)]
        return np.array(found, np.int64).reshape(-1, 3).T

    def __len__(self) -> int:
        return len(self._example)

    def describe(self, index: int) -> str:
        start, stop = self._start[index], self._stop[index]
        example = self._records.describe(int(self._example[index]))
        return f"{example}, tokens {start} to {stop} of its context"

    def make(self, index: int, rng: np.random.Generator) -> Row:
        """One window; nothing in it is random.

        Raises:
          UserError: an answer that does not stand where it is said to.
        """
        example = int(self._example[index])
        low, high = int(self._start[index]), int(self._stop[index])
        question = self._question[example][: self._data.max_question]
        row = self._frame(question, self._context[example][low:high])
        begin = self._frame.second(len(question))
        mask = np.zeros(self._frame.length, bool)
        mask[begin : begin + high - low] = True
        span = self._span(example)
        inside = span is not None and low <= span[0] and span[1] < high
        start, end = (begin + place - low for place in span) if span and inside else (0, 0)
        return {**row, "mask": mask, "start": start, "end": end, "example": example}

    def _span(self, example: int) -> tuple[int, int] | None:
        """The first and the last token of the answer in its context; None where there is none."""
        record = self._records[example]
        answers, context = read_answers(record), record["context"]
        if not answers:
            return None
        text, start = answers[0]
        stop = start + len(text)
        if context[start:stop] != text:
            raise UserError(
                f"{self._records.describe(example)}: the answer {text!r} does not stand at "
                f"character {start} of its context: mend or remove it"
            )
        _, starts, ends = self._vocabulary.encode_offsets(context)
        first = int(np.searchsorted(ends, start, "right"))
        last = int(np.searchsorted(starts, stop, "left")) - 1
        return (first, last) if first <= last else None

    def context_span(self, index: int, start: int, end: int) -> str:
        """The text between two tokens of a row, both included; "" where they are not its context's.

        Args:
          index: of the row.
          start: the first token's place in the row, as in `start`.
          end: the last one's.
        """
        example = int(self._example[index])
        low, high = int(self._start[index]), int(self._stop[index])
        asked = min(int(self._question.lengths[example]), self._data.max_question)
        begin = self._frame.second(asked)
        first, last = start - begin + low, end - begin + low
        if not low <= first <= last < high:
            return ""
        context = self._records[example]["context"]
        _, starts, ends = self._vocabulary.encode_offsets(context)
        return context[starts[first] : ends[last]]

    def answers(self, example: int) -> tuple[str, ...]:
        """What people answered; () where the context does not say."""
        return tuple(answer.text for answer in read_answers(self._records[example]))

    def question_id(self, example: int) -> str:
        """The question's name in its dataset."""
        return str(self._records[example]["id"])


def read_answers(record: dict[str, Any]) -> list[Answer]:
    """The answers of an example, of which there may be none."""
    answers = record["answers"]
    pairs = zip(answers["text"], answers["answer_start"], strict=True)
    return [Answer(str(text), int(start)) for text, start in pairs]
