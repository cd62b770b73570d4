"""Which stretch of which document each row of a masked language model is cut from."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

Places = Int64[np.ndarray, " N"]


class Chunks(NamedTuple):
    """Stretches [start, stop) of documents, by number."""

    document: Places
    start: Places  # sentences, or tokens
    stop: Places


def chunk_tokens(lengths: Places, target: int) -> Chunks:
    """Cuts documents of so many tokens into stretches of `target`; a document's last is shorter."""
    counts = -(-lengths // target)
    document = np.repeat(np.arange(len(lengths)), counts)
    within = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = within * target
    return Chunks(document, start, np.minimum(start + target, lengths[document]))


def chunk_sentences(lengths: Places, counts: Int64[np.ndarray, " D"], target: int) -> Chunks:
    """Cuts documents into runs of sentences, each ended by the one that reaches `target` tokens.

    Args:
      lengths: tokens of all sentences, document after document; 1 or more each.
      counts: sentences of each document.
      target: tokens that end a run.
    """
    tokens = np.concatenate([[0], np.cumsum(lengths)])
    ends = np.cumsum(counts)
    begins = ends - counts
    # One run of every document at a time: as many turns as the longest document has runs.
    document, start, found = np.flatnonzero(counts), begins[counts > 0], []
    while len(document):
        stop = np.searchsorted(tokens, tokens[start] + target, "left")
        stop = np.minimum(stop, ends[document])
        found.append((document, start - begins[document], stop - begins[document]))
        more = stop < ends[document]
        document, start = document[more], stop[more]
    if not found:
        return Chunks(*np.zeros((3, 0), np.int64))
    document, start, stop = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((start, document))
    return Chunks(document[order], start[order], stop[order])
