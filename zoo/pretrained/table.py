"""Tables of names: a row says how one array of theirs is made of ours, and both ways follow.

Ours are paths such as `blocks/attn/q/kernel`, those of a block stacked along the layers. Theirs
are names, with `{}` for the number of a layer; a name without it, for parameters of blocks, is one
array with an axis of layers.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Way(NamedTuple):
    """How one array becomes another, and back.

    Attributes:
      export: ours -> theirs, of one layer.
      restore: (theirs, shape of ours) -> ours.
    """

    export: Callable[[np.ndarray], np.ndarray]
    restore: Callable[[np.ndarray, Shape], np.ndarray]


SAME = Way(lambda x: x, lambda x, shape: x)
TURNED = Way(lambda x: x.T, lambda x, shape: x.T)  # PyTorch's kernels are [out, in]
# Axes of size 1, in front.
BATCHED = Way(lambda x: x[None], lambda x, shape: x.reshape(shape))


class Row(NamedTuple):
    """Attributes: `ours` are parts of theirs, joined along `axis` where they are several."""

    ours: tuple[str, ...]
    theirs: str
    way: Way = SAME
    axis: int = 0

    def sizes(self, shapes: list[Shape]) -> list[int]:
        """How long each part is along the axis, from our shapes of one layer."""
        return [exported(self.way, shape)[self.axis] for shape in shapes]

    def shape(self, shapes: list[Shape]) -> Shape:
        """Of theirs, from our shapes of one layer."""
        first = [*exported(self.way, shapes[0])]
        if len(shapes) > 1:
            first[self.axis] = sum(self.sizes(shapes))
        return tuple(first)

    def join(self, parts: Iterable[np.ndarray]) -> np.ndarray:
        """Ours of one layer -> theirs."""
        made = [self.way.export(part) for part in parts]
        return made[0] if len(made) == 1 else np.concatenate(made, self.axis)

    def part(self, theirs: np.ndarray, index: int, shapes: list[Shape]) -> np.ndarray:
        """Theirs of one layer -> our part of that index, from our shapes of one layer."""
        if len(shapes) > 1:
            sizes = self.sizes(shapes)
            start = sum(sizes[:index])
            theirs = np.take(theirs, range(start, start + sizes[index]), self.axis)
        return self.way.restore(theirs, shapes[index])


class Layout(NamedTuple):
    """How a format stores one model.

    Attributes:
      name: for messages.
      rows: those whose parameters a model lacks do not count.
      tied: other names under which an array may be stored once more -> its name; checked.
      skipped: (pattern of names, why they are not needed); the pattern matches a whole name.
      unread: (name, shape) of what their library wants to be there and Zoo has no use for; it is
        written as zeros.
    """

    name: str
    rows: tuple[Row, ...]
    tied: dict[str, str]
    skipped: tuple[tuple[str, str], ...]
    unread: tuple[tuple[str, Shape], ...] = ()


def exported(way: Way, shape: Shape) -> Shape:
    """The shape of theirs; allocates nothing."""
    return way.export(np.broadcast_to(np.float32(0), shape)).shape


def same(ours: str, theirs: str) -> tuple[Row, ...]:
    """An array that is stored as it is."""
    return (Row((ours,), theirs),)


def linear(ours: str, theirs: str) -> tuple[Row, ...]:
    """PyTorch's Linear."""
    return (
        Row((f"{ours}/kernel",), f"{theirs}.weight", TURNED),
        Row((f"{ours}/bias",), f"{theirs}.bias"),
    )


def packed(ours: tuple[str, ...], theirs: str) -> tuple[Row, ...]:
    """One Linear of theirs whose outputs are those of several of ours."""
    return (
        Row(tuple(f"{one}/kernel" for one in ours), f"{theirs}.weight", TURNED),
        Row(tuple(f"{one}/bias" for one in ours), f"{theirs}.bias"),
    )


def patches(ours: str, theirs: str, patch_size: int) -> tuple[Row, ...]:
    """A convolution of patches, PyTorch's [out, channels, rows, cols]; ours [pixels, out]."""
    P = patch_size

    def export(x: np.ndarray) -> np.ndarray:
        return x.reshape(P, P, -1, x.shape[1]).transpose(3, 2, 0, 1)

    def restore(x: np.ndarray, shape: Shape) -> np.ndarray:
        return x.transpose(2, 3, 1, 0).reshape(shape)

    kernel = Row((f"{ours}/kernel",), f"{theirs}.weight", Way(export, restore))
    return kernel, Row((f"{ours}/bias",), f"{theirs}.bias")


def norm(ours: str, theirs: str) -> tuple[Row, ...]:
    """PyTorch's LayerNorm, or an RMSNorm, which has no bias."""
    return (Row((f"{ours}/scale",), f"{theirs}.weight"), Row((f"{ours}/bias",), f"{theirs}.bias"))


def is_stacked(path: str) -> bool:
    """Whether a parameter of ours has an axis of layers in front."""
    return "blocks" in path.split("/")
