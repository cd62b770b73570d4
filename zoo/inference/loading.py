"""`zoo.load`: a trained model of whatever kind, ready to use."""

from pathlib import Path

from zoo.config import UserError
from zoo.config.bert import BertConfig
from zoo.config.data import ImageData, LabelledData, LmData, MaskedData, PairData
from zoo.inference.bert import MaskFiller, TextClassifier, load_filler, load_text_classifier
from zoo.inference.embed import TextEncoder, load_encoder
from zoo.inference.generate import LanguageModel, load_language_model
from zoo.inference.predict import Classifier, load_classifier
from zoo.inference.translate import Translator, load_translator
from zoo.training.weights import open_weights

_LOADERS = {
    ImageData: load_classifier,
    LmData: load_language_model,
    MaskedData: load_filler,
    LabelledData: load_text_classifier,
    PairData: load_translator,
}


def load(
    path: str | Path,
) -> Classifier | LanguageModel | MaskFiller | TextClassifier | TextEncoder | Translator:
    """A trained model from a workdir (its best checkpoint), from `WORKDIR/checkpoints/STEP`, or
    from weights as others publish them.

    Which one is said by the kind of data that it was trained on: it then has `predict` (images),
    `generate` and `stream` (running text), `fill` (masked words), `classify` (texts), `translate`
    (pairs of texts), or `embed` (a BERT without a head).

    Raises:
      UserError: there is no checkpoint, it cannot be read, or there is no use for such a model but
        evaluation and `config.init_from`.
    """
    config = open_weights(path).config
    if isinstance(config.model, BertConfig) and config.model.head in ("pooled", "none"):
        return load_encoder(path)
    kind = type(config.data)
    if kind not in _LOADERS:
        tag = kind.__struct_config__.tag
        raise UserError(
            f"{path} was trained on {tag!r}: evaluate it with zoo eval, or start from it with "
            "config.init_from"
        )
    return _LOADERS[kind](path)
