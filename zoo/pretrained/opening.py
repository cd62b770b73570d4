"""Opens weights that others publish: which format they have, and which model they are of.

Nothing but the files is asked: `config.json`, the tokenizer's and the preprocessor's, and, where
there are none, the names and shapes of the arrays.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util
from jax.sharding import Mesh

from zoo.config import UserError, parse_config
from zoo.config.bert import BertConfig
from zoo.config.data import (
    AnyData,
    LabelledData,
    LmData,
    MaskedData,
    PairData,
    QuestionData,
    TagData,
)
from zoo.config.load import nearest
from zoo.config.schema import Config
from zoo.config.sizes import num_params
from zoo.config.transformer import TransformerConfig
from zoo.config.vit import ViTConfig
from zoo.data.text.opening import find_files
from zoo.data.text.tokenizers import Tokenizer, load_tokenizer
from zoo.models.paths import leaves_by_path
from zoo.pretrained import (
    hf_bert,
    hf_deit,
    hf_dinov2,
    hf_distilbert,
    hf_gpt2,
    hf_json,
    hf_llama,
    hf_marian,
    hf_roberta,
    hf_t5,
    hf_vit,
    images,
    llama2c,
    native,
    npz_vit,
    tf_bert,
    tf_bundle,
    timm_vit,
)
from zoo.pretrained.files import INDEX, PICKLES, ArrayFile, open_arrays, read_json
from zoo.pretrained.mapped import Mapped, Shapes
from zoo.pretrained.table import Layout, Shape
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import Params, abstract_params

# What a model computes, and its arrays do not show.
SETTINGS = (
    "num_heads", "num_kv_heads", "norm_epsilon", "gelu", "activation", "norm_from_zero",
    "embed_scale", "rope_base", "rope_scaling", "rope_original_length", "local_rope_base",
    "window", "global_every", "position", "pool", "norm_after_pool", "cls_position", "distilled",
    "norm", "norm_order", "gated", "attention_scale", "logits_scale", "tied", "post_norm",
    "pooler_activation", "logits_bias", "start_token", "head_size",
)  # fmt: skip
# model_type of config.json -> the format.
HUGGING_FACE: dict[str, Any] = {
    hf_bert.MODEL_TYPE: hf_bert,
    hf_deit.MODEL_TYPE: hf_deit,
    **dict.fromkeys(hf_dinov2.MODEL_TYPES, hf_dinov2),
    hf_distilbert.MODEL_TYPE: hf_distilbert,
    hf_gpt2.MODEL_TYPE: hf_gpt2,
    **dict.fromkeys(hf_llama.JSONS, hf_llama),
    hf_marian.MODEL_TYPE: hf_marian,
    hf_roberta.MODEL_TYPE: hf_roberta,
    hf_t5.MODEL_TYPE: hf_t5,
    hf_vit.MODEL_TYPE: hf_vit,
}
_LM_LENGTH = 1024  # tokens of a row to train or evaluate on, where the model takes more


@dataclass(frozen=True)
class Found:
    """What a format makes of a file."""

    file: ArrayFile
    model: Any  # the section of the config
    layout: Layout
    spelled: dict[str, str]
    data: AnyData
    classes: tuple[str, ...] = ()
    tokenizer: Tokenizer | None = None
    step: int = 0
    metrics: dict[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pretrained:
    """Weights as others publish them; no array is read yet. Used as a run's `Weights` are.

    Attributes:
      mapped: our parameters, as they are asked for.
      config: the model, and data as it was made for: its preprocessing or tokenizer.
    """

    path: Path
    origin: str  # the format
    mapped: Mapped
    config: Config
    classes: tuple[str, ...]
    tokenizer: Tokenizer | None
    step: int = 0
    metrics: dict[str, float | int] = field(default_factory=dict)

    def load(self, mesh: Mesh, config: Config | None = None, *, average: int = 1) -> Params:
        """The parameters, placed on a mesh; the host holds one of them at a time.

        Args:
          config: of the model to load into; default the weights' own.

        Raises:
          UserError: another model; several sets to average; a damaged file.
        """
        if average > 1:
            raise UserError(f"{self.path} is one set of weights, there is nothing to average")
        if config is not None:
            check_settings(str(self.path), self.config.model, config.model)
        like = leaves_by_path(abstract_params(config or self.config, mesh))
        check_shapes(str(self.path), self.mapped.shapes, {p: x.shape for p, x in like.items()})

        def place(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
            whole = self.mapped.read(path)
            return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda at: whole[at])

        # The largest first: while one is made it is there twice, so best beside few others.
        largest_first = sorted(like.items(), key=lambda item: -item[1].size)
        placed = {path: place(path, leaf) for path, leaf in largest_first}
        return traverse_util.unflatten_dict(placed, sep="/")


def is_pretrained(path: Path) -> bool:
    """Whether weights of others are meant by a path, rather than a run."""
    if path.is_dir():
        kinds = (".safetensors", INDEX, ".npz", tf_bundle.INDEX, *PICKLES)
        own = (path / "checkpoints").is_dir() or any(path.glob("[0-9]*/meta"))
        return not own and any(one.name.endswith(kinds) for one in path.iterdir())
    return path.is_file() or tf_bundle.find_index(path) is not None


def open_pretrained(path: str | Path) -> Pretrained:
    """Finds out what weights are of, and matches all their names and shapes.

    Args:
      path: a directory as Hugging Face publishes them, as timm does or as `zoo convert` makes
        one; or a file: safetensors, its index, `.npz`, llama2.c's `.bin`, TensorFlow's `.index`
        or what it and `.data-...` begin with.

    Raises:
      UserError: nothing is there that can be read, a setting that Zoo lacks, arrays that are too
        many, too few or of other shapes than the config says.
    """
    path = Path(path).expanduser()
    try:
        found = _find(path)
        config = Config(model=found.model, data=found.data)
        _check_size(path, num_params(config), found.file)
        mapped = Mapped(found.file, found.layout, model_shapes(config), found.spelled)
    except UserError:
        raise
    except (ValueError, ArithmeticError, MemoryError) as error:  # sizes that no model can have
        raise UserError(f"{path}: {error}: its config fits no model") from error
    tokenizer = found.tokenizer
    rows = getattr(found.model, "vocab_size", None)
    if tokenizer is not None and rows is not None and tokenizer.size > rows:
        raise UserError(
            f"{tokenizer.path} has {tokenizer.size} tokens, and the model of {path} {rows}: they "
            "do not belong together"
        )
    return Pretrained(
        path, found.layout.name, mapped, config, found.classes, tokenizer, found.step, found.metrics
    )


def _check_size(path: Path, wanted: int, file: ArrayFile) -> None:
    """Raises a UserError where a config asks for far more than there is, before JAX is asked."""
    held = sum(math.prod(spec.shape) for spec in file.specs.values())
    if wanted > 10 * held:
        raise UserError(
            f"{path} holds {held:,} numbers, and the model of its config has {wanted:,} "
            "parameters: the config belongs to other weights"
        )


def model_shapes(config: Config) -> dict[str, Shape]:
    """The shapes of a model's parameters, by path."""
    params = abstract_params(config, make_mesh(config.mesh, jax.devices()[:1]))
    return {path: tuple(leaf.shape) for path, leaf in leaves_by_path(params).items()}


def check_settings(origin: str, theirs: Any, own: Any) -> None:
    """Raises a UserError where a config computes something else with the same arrays."""
    differing = [
        f"--config.model.{key}={getattr(theirs, key)}"
        for key in SETTINGS
        if hasattr(theirs, key) and hasattr(own, key) and getattr(theirs, key) != getattr(own, key)
    ]
    if differing:
        raise UserError(
            f"{origin} is of a model that computes otherwise than the config's: add "
            + " ".join(differing)
        )


def check_shapes(origin: str, theirs: Shapes, own: Shapes) -> None:
    """Raises a UserError at the first parameter that is not in both models, of one shape."""
    for path in sorted(theirs.keys() | own.keys()):
        if theirs.get(path) != own.get(path):
            there, here = ([*side[path]] if path in side else "nothing" for side in (theirs, own))
            raise UserError(
                f"{origin} is of another model: {path} is {there} there, and {here} in the config"
            )


def _find(path: Path) -> Found:
    directory = path if path.is_dir() else path.parent
    if (binary := _binary(path)) is not None:
        return _llama2c(binary, directory)
    if (index := tf_bundle.find_index(path)) is not None:
        return _tensorflow(index, directory)
    file = open_arrays(path)
    settings = directory / "config.json"
    tree = read_json(settings) if settings.is_file() else {}
    if native.is_native(tree):
        return _native(file, directory, tree)
    kind = tree.get("model_type")
    if isinstance(kind, str) and kind in HUGGING_FACE:
        return _hugging_face(HUGGING_FACE[kind], file, directory, tree)
    if kind is not None:
        raise UserError(
            f"{settings}: model_type {kind!r} is none that Zoo has a model for"
            f"{nearest(str(kind), [*HUGGING_FACE])}"
        )
    if timm_vit.is_timm(file.specs):
        return _timm(file, settings, tree)
    if npz_vit.is_vit(file.specs):
        return _npz(file)
    raise UserError(f"{path} needs the config.json that was published with it beside it")


def _binary(path: Path) -> Path | None:
    """llama2.c's file, if that is what a path means."""
    if path.is_file():
        return path if path.suffix == ".bin" else None
    if not path.is_dir():
        return None
    others = any(path.glob("*.safetensors*")) or any(path.glob("*.npz"))
    found = [one for one in sorted(path.glob("*.bin")) if one.name != "tokenizer.bin"]
    return found[0] if len(found) == 1 and not others else None


def _llama2c(path: Path, directory: Path) -> Found:
    file = llama2c.Llama2c(path)
    model = llama2c.read_config(file.sizes)
    tokenizer = _tokenizer(directory)
    spelled = {name: name for name in file.specs}
    data = _text_data(model, directory)
    return Found(file, model, llama2c.layout(model), spelled, data, tokenizer=tokenizer)


def _tensorflow(index: Path, directory: Path) -> Found:
    file = tf_bundle.Bundle(index)
    settings = next((directory / n for n in tf_bert.CONFIGS if (directory / n).is_file()), None)
    if settings is None:
        raise UserError(f"{index} needs the bert_config.json that was published with it beside it")
    model = tf_bert.read_config(read_json(settings), file.specs, settings)
    classes = hf_json.names_or_numbers((), model.num_classes or 0)
    spelled = {name: name for name in file.specs}
    data, tokenizer = _text_data(model, directory, classes), _tokenizer(directory)
    return Found(file, model, tf_bert.layout(model), spelled, data, classes, tokenizer)


def _native(file: ArrayFile, directory: Path, tree: dict[str, Any]) -> Found:
    config = parse_config(tree, origin=str(directory / "config.json"))
    tokenizer = _tokenizer(directory / native.TOKENIZER)
    if tokenizer is not None:
        config = config.replace(data=config.data.replace(tokenizer=str(tokenizer.path)))
    layout = native.layout(model_shapes(config))
    spelled = {name: name for name in file.specs}
    told = native.read_metadata(file)
    return Found(file, config.model, layout, spelled, config.data, tokenizer=tokenizer, **told)


def _hugging_face(format: Any, file: ArrayFile, directory: Path, tree: dict[str, Any]) -> Found:
    spelled = format.spell(file.specs)
    path = directory / "config.json"
    model = format.read_config(tree, spelled, path)
    classes = hf_json.read(tree, hf_json.Model, path).classes
    if isinstance(model, ViTConfig):
        if format is hf_dinov2:
            model = hf_dinov2.resize(model, images.made_size(directory))
        data, kept = images.hugging_face(model, directory), classes if model.num_classes else ()
        return Found(file, model, format.layout(model), spelled, data, kept)
    data, tokenizer = _text_data(model, directory, classes), _tokenizer(directory)
    kept = classes if getattr(model, "has_classes", False) else ()
    return Found(file, model, format.layout(model), spelled, data, kept, tokenizer)


def _timm(file: ArrayFile, settings: Path, tree: dict[str, Any]) -> Found:
    json = timm_vit.read_json(tree, settings)
    model = timm_vit.read_config(tree, file.specs, settings)
    classes = hf_json.names_or_numbers(tuple(json.label_names or ()), model.num_classes or 0)
    data = images.timm(model, json.pretrained_cfg, settings)
    spelled = {name: name for name in file.specs}
    return Found(file, model, timm_vit.layout(model), spelled, data, classes)


def _npz(file: ArrayFile) -> Found:
    spelled = npz_vit.spell(file.specs)
    specs = {name: file.specs[own] for name, own in spelled.items()}
    model = npz_vit.read_config({}, specs, file.path)
    layout = npz_vit.layout(model, specs)
    classes = hf_json.names_or_numbers((), model.num_classes or 0)
    return Found(file, model, layout, spelled, images.plain(model), classes)


def _tokenizer(directory: Path) -> Tokenizer | None:
    """The one that lies in a directory."""
    try:
        find_files(directory)
    except UserError:
        return None
    return load_tokenizer(directory)


def _text_data(model: Any, directory: Path, classes: tuple[str, ...] = ()) -> Any:
    """The kind of data that a model of text is for, in rows as long as it takes."""
    shared: dict[str, Any] = {"name": "text", "tokenizer": str(directory)}
    if isinstance(model, TransformerConfig):
        return PairData(**shared)
    if not isinstance(model, BertConfig):
        return LmData(**shared, length=min(model.max_length or _LM_LENGTH, _LM_LENGTH))
    shared["length"] = model.max_length
    match model.head:
        case "classification":
            return LabelledData(**shared, regression=len(classes) == 1)
        case "token_classification":
            return TagData(**shared)
        case "question_answering":
            return QuestionData(**shared)
    masked = max(1, round(0.15 * model.max_length))  # as many as are masked in training
    return MaskedData(**shared, next_sentence=model.head == "pretraining", max_predictions=masked)
