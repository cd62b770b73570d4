"""Documents one after the other as one long text, of which any stretch can be read."""

import numpy as np
from jaxtyping import Int32

from zoo.config import UserError
from zoo.data.text.base import Documents, Tokens, fixed_order


class RunningText:
    """The documents of a split joined; those without tokens are passed over."""

    def __init__(
        self,
        documents: Documents,
        *,
        before: int | None = None,
        after: int | None = None,
        shuffle: bool,
    ):
        """Reads no document.

        Args:
          before: a token in front of each document.
          after: one behind each.
          shuffle: whether their order is a fixed shuffled one, or their own.

        Raises:
          UserError: there is no text at all.
        """
        lengths = np.asarray(documents.lengths)
        order = fixed_order(len(lengths)) if shuffle else np.arange(len(lengths))
        self._order = order[lengths[order] > 0]
        if not len(self._order):
            raise UserError("the split holds no text: all of its documents are empty")
        self._documents = documents
        self._before, self._after = (
            np.array([] if token is None else [token], np.int32) for token in (before, after)
        )
        more = len(self._before) + len(self._after)
        self._starts = np.concatenate([[0], np.cumsum(lengths[self._order] + more)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> list[Tokens]:
        """Tokens [start, stop), in one array a document."""
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        last = int(np.searchsorted(self._starts, stop, "left"))
        return [self._read_document(i, start, stop) for i in range(first, last)]

    def _read_document(self, i: int, start: int, stop: int) -> Int32[np.ndarray, " _"]:
        begin, end = int(self._starts[i]), int(self._starts[i + 1])
        low, high = max(start, begin) - begin, min(stop, end) - begin
        ahead, behind = len(self._before), end - begin - len(self._after)
        text = self._documents.read(
            int(self._order[i]), max(low - ahead, 0), min(high, behind) - ahead
        )
        before, after = self._before[low:high], self._after[: max(high - behind, 0)]
        return np.concatenate([before, text, after]) if len(before) or len(after) else text
