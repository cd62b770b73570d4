"""How tokens lie in a row."""

import numpy as np
import pytest

from tests.texts import Trios
from zoo.config import UserError
from zoo.data.text.layout import lay_out, longest_first, make_frame


def ints(*values):
    return np.array(values, np.int32)


def test_texts_lie_one_after_the_other():
    laid = lay_out([ints(7, 8, 9), ints(5), ints(4, 4)], 8, pad=3)
    assert laid.tokens.tolist() == [7, 8, 9, 5, 4, 4, 3, 3]
    assert laid.segment.tolist() == [1, 1, 1, 2, 3, 3, 0, 0]
    assert laid.position.tolist() == [0, 1, 2, 0, 0, 1, 0, 0]
    assert not any(part.any() for part in lay_out([], 4, pad=0))


def test_a_frame_has_one_text_or_two():
    frame = make_frame(Trios(""), 9, "masked_lm")
    assert (frame.room(1), frame.room(2)) == (7, 6)
    one, two = frame(ints(50, 51)), frame(ints(50, 51), ints(60, 61, 62))
    assert one["tokens"].tolist() == [2, 50, 51, 3, 0, 0, 0, 0, 0]
    assert one["segment"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert not one["type"].any()
    assert two["tokens"].tolist() == [2, 50, 51, 3, 60, 61, 62, 3, 0]
    assert two["type"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0]
    assert two["segment"].tolist() == [1] * 8 + [0]


def test_robertas_frame_parts_two_texts_by_two():
    frame = make_frame(Trios("", bos=Trios.cls), 9, "masked_lm")
    assert (frame.room(1), frame.room(2), frame.second(2)) == (7, 5, 5)
    one, two = frame(ints(50, 51)), frame(ints(50, 51), ints(60, 61, 62))
    assert one["tokens"].tolist() == [2, 50, 51, 3, 0, 0, 0, 0, 0]
    assert two["tokens"].tolist() == [2, 50, 51, 3, 3, 60, 61, 62, 3]
    assert two["segment"].tolist() == [1] * 9


def test_a_tokenizer_without_its_tokens_is_named():
    with pytest.raises(UserError, match=r"'masked_lm' needs \[CLS\] and \[PAD\]"):
        make_frame(Trios("", cls=None, pad=None), 8, "masked_lm")


def one_by_one(first, second, room):
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


def test_the_longer_text_loses_its_tokens_first():
    for first in range(12):
        for second in range(12):
            for room in range(14):
                assert longest_first(first, second, room) == one_by_one(first, second, room)
