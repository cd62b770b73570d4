"""A file's arrays as our parameters: checked name by name first, then read one at a time."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from zoo.config import UserError
from zoo.pretrained.files import ArrayFile, Spec
from zoo.pretrained.table import Layout, Row, Shape, is_stacked

Shapes = Mapping[str, Shape]  # of our parameters, by path


class Entry(NamedTuple):
    """What became of an array of a file."""

    name: str  # as the file has it
    shape: Shape
    state: str  # mapped, tied, skipped
    what: str  # our parameters, the array that it repeats, or why it is skipped


class Mapped:
    """Our parameters, made of a file's arrays as they are asked for.

    Attributes:
      shapes: of our parameters.
      report: what became of each of the file's arrays, in the order of names.
    """

    def __init__(self, file: ArrayFile, layout: Layout, shapes: Shapes, spelled: Mapping[str, str]):
        """Matches all names and shapes; reads no array.

        Args:
          spelled: the layout's names of the file's arrays -> the file's own.

        Raises:
          UserError: an array is missing, is one too many, or has another shape.
        """
        self.shapes, self._file, self._spelled = shapes, file, spelled
        self._rows = {
            path: (row, row.ours.index(path)) for row in active(layout, shapes) for path in row.ours
        }
        own = {row.theirs for row, _ in self._rows.values()}
        self._twins: dict[str, list[str]] = {}
        for name, of in layout.tied.items():
            if name in spelled and name not in own:
                self._twins.setdefault(of, []).append(name)
        self.report = tuple(self._check(layout))

    def read(self, path: str, layer: int | None = None) -> np.ndarray:
        """A parameter in float32, or one layer of it.

        Raises:
          UserError: the file is damaged, or holds a NaN or an infinity, or two arrays that
            should be the same are not.
        """
        if layer is None and is_stacked(path):
            whole = np.empty(self.shapes[path], np.float32)
            for i in range(len(whole)):
                whole[i] = self.read(path, i)
            return whole
        row, index = self._rows[path]
        numbered = "{}" in row.theirs
        name = row.theirs.format(layer) if numbered else row.theirs
        theirs = self._array(name, None if numbered else layer)
        for twin in self._twins.get(name, ()):
            if not np.array_equal(theirs, self._array(twin, None)):
                raise UserError(
                    f"{self._file.path}: {self._spelled[twin]} is another array than "
                    f"{self._spelled[name]}, and the model has one for both"
                )
        return row.part(theirs, index, one_layer(row, self.shapes))

    def _array(self, name: str, layer: int | None) -> np.ndarray:
        own = self._spelled[name]
        array = self._file.read(own, layer).astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise UserError(f"{self._file.path}: {own} holds a NaN or an infinity: fetch it again")
        return array

    def _check(self, layout: Layout) -> Iterator[Entry]:
        """Raises at the first name or shape that does not fit."""
        where, specs = self._file.path, self._file.specs
        made: dict[str, str] = {}  # of the names that are wanted, our parameters
        # One by one: a config may ask for more layers than there is memory for names.
        for row, name in their_names(layout, self.shapes):
            ours = made[name] = " ".join(row.ours)
            if name not in self._spelled:
                raise UserError(
                    f"{where} lacks {name}, of which {ours} is made: it is no whole model of "
                    f"{layout.name}, or of other sizes than its config says"
                )
            found, dtype = specs[self._spelled[name]]
            shape = their_shape(row, self.shapes)
            if not jnp.issubdtype(dtype, jnp.floating):
                raise UserError(
                    f"{where}: {self._spelled[name]} is of type {dtype}: quantised weights are not "
                    "read here, give those in float32, bfloat16 or float16"
                )
            if found != shape:
                raise UserError(
                    f"{where}: {self._spelled[name]} is {[*found]}, and {ours} of the config is "
                    f"made of {[*shape]}: the config belongs to other weights"
                )
        known = {own: name for name, own in self._spelled.items()}
        for own in sorted(specs):
            name, shape = known.get(own, own), specs[own].shape
            if name in made:
                yield Entry(own, shape, "mapped", made[name])
                continue
            if name in layout.tied and layout.tied[name] in made:
                of = layout.tied[name]
                if specs[self._spelled[of]].shape != shape:
                    raise UserError(f"{where}: {own} is {[*shape]}, and should repeat {of}")
                yield Entry(own, shape, "tied", self._spelled[of])
                continue
            reason = next((why for p, why in layout.skipped if re.fullmatch(p, name)), None)
            if reason is None:
                raise UserError(
                    f"{where} holds {own} {[*shape]}, of which no parameter of the config's model "
                    f"is made, by the table of {layout.name}: the config belongs to other weights"
                )
            yield Entry(own, shape, "skipped", reason)


def active(layout: Layout, shapes: Shapes) -> list[Row]:
    """The rows that a model's parameters have a part in.

    Raises:
      UserError: a parameter that no row is for, or a part of theirs that the model lacks.
    """
    rows = [row for row in layout.rows if shapes.keys() & {*row.ours}]
    covered = {path for row in rows for path in row.ours}
    odd = min(shapes.keys() ^ covered, default=None)
    if odd is not None:
        state = "has no place" if odd in shapes else "is missing for one"
        raise UserError(f"{odd} {state} in the format of {layout.name}: it cannot hold this model")
    return rows


def one_layer(row: Row, shapes: Shapes) -> list[Shape]:
    """The shapes of a row's parameters, without the axis of layers."""
    return [shapes[path][1:] if is_stacked(path) else shapes[path] for path in row.ours]


def their_names(layout: Layout, shapes: Shapes) -> Iterator[tuple[Row, str]]:
    """Each row with each name that it stands for."""
    for row in active(layout, shapes):
        depth = shapes[row.ours[0]][0] if "{}" in row.theirs else 1
        for layer in range(depth):
            yield row, row.theirs.format(layer)


def their_shape(row: Row, shapes: Shapes) -> Shape:
    """The shape of a row's array, with an axis of layers where it has all of them."""
    shape = row.shape(one_layer(row, shapes))
    is_whole = is_stacked(row.ours[0]) and "{}" not in row.theirs
    return (shapes[row.ours[0]][0], *shape) if is_whole else shape


def their_shapes(layout: Layout, shapes: Shapes) -> dict[str, Shape]:
    """The names and shapes of all arrays that a model has in a format."""
    found = {name: their_shape(row, shapes) for row, name in their_names(layout, shapes)}
    return found | dict(layout.unread)


def export(
    layout: Layout, shapes: Shapes, read: Callable[[str, int | None], np.ndarray]
) -> tuple[dict[str, Shape], Callable[[str], np.ndarray]]:
    """The arrays of a model in a format: their shapes, and a function that makes one by its name.

    Args:
      read: (path, layer or None) -> our parameter, as `Mapped.read`.

    Raises:
      UserError: the format has no place for a parameter.
    """
    theirs = their_shapes(layout, shapes)
    makers: dict[str, tuple[Row, int | None]] = {}
    for row in active(layout, shapes):
        if "{}" in row.theirs:
            depth = shapes[row.ours[0]][0]
            makers |= {row.theirs.format(layer): (row, layer) for layer in range(depth)}
        else:
            makers[row.theirs] = (row, None)

    def make(name: str) -> np.ndarray:
        if name not in makers:
            return np.zeros(theirs[name], np.float32)
        row, layer = makers[name]
        if layer is not None or not is_stacked(row.ours[0]):
            return row.join(read(path, layer) for path in row.ours)
        whole = np.empty(theirs[name], np.float32)
        for i in range(len(whole)):
            whole[i] = row.join(read(path, i) for path in row.ours)
        return whole

    return theirs, make


def specs_of(shapes: Mapping[str, Shape], dtype: np.dtype) -> dict[str, Spec]:
    """For `write_safetensors`: all of one type."""
    return {name: Spec(shape, dtype) for name, shape in shapes.items()}
