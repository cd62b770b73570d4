"""What the files beside Hugging Face's weights share: strict structs, classes, odd settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from zoo.config import UserError

# Activations by Hugging Face's names; each of ours is written by its first one.
_ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_NAMES = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}

_MOST_CLASSES = 2**20  # of a name each

# Of anything that there is.
Size = Annotated[int, msgspec.Meta(ge=1, le=2**31)]

S = TypeVar("S", bound=msgspec.Struct)


class Model(msgspec.Struct, kw_only=True):
    """Keys of `config.json` that every family has; what a subclass does not name is not read."""

    model_type: str
    architectures: list[str] | None = None
    id2label: dict[str, str] | None = None
    label2id: dict[str, int] | None = None
    num_labels: Size | None = None
    tie_word_embeddings: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by index; Hugging Face's two, where the file says nothing."""
        if self.id2label:
            return tuple(self.id2label[key] for key in sorted(self.id2label, key=int))
        count = 2 if self.num_labels is None else self.num_labels
        if count > _MOST_CLASSES:
            raise ValueError(f"num_labels is {count}")
        return tuple(f"LABEL_{i}" for i in range(count))


def read(tree: Mapping[str, Any], kind: type[S], path: Path) -> S:
    """The keys of a JSON object that a struct names, checked; defaults are the library's own.

    Raises:
      UserError: a value of another type.
    """
    try:
        return msgspec.convert(tree, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


def write(struct: msgspec.Struct) -> dict[str, Any]:
    """The struct as a JSON object, without what is None."""
    return {k: v for k, v in msgspec.to_builtins(struct).items() if v is not None}


def insist(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises a UserError at the first setting that is another than the only one that fits."""
    for key, value in wanted.items():
        if found.get(key) != value:  # what is None is not in there
            raise UserError(
                f"{path}: {key} is {found.get(key)!r}, and only {value!r} is read here: the model "
                "computes something that Zoo's does not"
            )


def read_activation(name: str, path: Path) -> Any:
    """Our name of an activation; a UserError where it is none of ours."""
    if name not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise UserError(f"{path}: the activation {name!r} is not read here, only {known}")
    return _ACTIVATIONS[name]


def read_gelu(name: str, path: Path) -> Any:
    """ "tanh" or "erf"; a UserError where the activation is no GELU."""
    form = read_activation(name, path)
    if not form.startswith("gelu_"):
        raise UserError(f"{path}: the activation {name!r} is not read here, only forms of GELU")
    return form.removeprefix("gelu_")


def write_activation(name: str) -> str:
    """Hugging Face's name of an activation of ours."""
    return _NAMES[name]


def names_or_numbers(classes: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Class names, or those that stand for numbers, where there are other ones than classes."""
    return classes if len(classes) == count else tuple(f"LABEL_{i}" for i in range(count))


def labels(classes: tuple[str, ...]) -> dict[str, Any]:
    """Class names as `config.json` has them."""
    return {
        "id2label": {str(i): name for i, name in enumerate(classes)},
        "label2id": {name: i for i, name in enumerate(classes)},
    }
