"""Where examples come from and what an example is: `config.data`, whose `kind` names the task.

The kind says what one row of a batch holds, and so which loss it is for:

  images                  an image and its class
  lm                      a block of running text, for a decoder-only language model
  masked_lm               text with masked tokens, or a pair of such texts, as BERT reads it
  span_corruption         text with gaps, and what stood in them, as T5 reads it
  seq2seq                 a text and its translation, summary or answer
  text_classification     a text or two, and a class or a number
  token_classification    words, each with a class
  question_answering      a question, a context, and where in it the answer stands
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from zoo.config.base import Section

# An image operation: {"op": NAME, **keyword arguments of the function of that name in data/images}.
ImageOp = dict[str, Any]
Count = Annotated[int, Meta(ge=1)]
Amount = Annotated[float, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class DataConfig(Section, frozen=True):
    """What every kind of data has."""

    name: str  # a dataset of `zoo list datasets`, or tfds:NAME
    dir: str | None = None  # the files; default $ZOO_DATA_DIR/NAME, else ~/zoo_data/NAME
    train_split: str = "train"  # a split, or a slice as in TFDS: "train[:99%]", "train[1000:]"
    eval_splits: dict[str, str] = field(default_factory=lambda: {"test": "test"})  # name -> split
    batch_size: Count = 128  # rows, global: over all devices and hosts, before accumulation
    eval_batch_size: Count | None = None  # global; default batch_size
    workers: int = 0  # processes that make batches; 0 means threads in this one
    threads: int = 4  # threads that make batches, in this process or in each worker
    prefetch: int = 2  # batches made ahead


class MixConfig(Section, frozen=True):
    """Batch augmentations that run on the device, after pixels are normalised."""

    mixup: Amount = 0.0  # Beta(a, a) of mixup (Zhang 2018); 0 is off
    cutmix: Amount = 0.0  # Beta(a, a) of CutMix (Yun 2019); with both on, each has half the draws
    per: Literal["batch", "example"] = "batch"  # one lambda and one choice for all, or for each
    probability: Probability = 1.0  # share of batches (or examples) that are mixed at all
    # big_vision's mixup keeps the larger part of an image's own: lambda := max(lambda, 1 - lambda)
    keep_larger: bool = False
    erase: Probability = 0.0  # probability of random erasing (Zhong 2017) an image
    erase_area: tuple[float, float] = (0.02, 1 / 3)
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)
    erase_fill: Literal["zero", "noise"] = "noise"  # N(0, 1) a pixel, or 0, after normalising


class ImageData(DataConfig, frozen=True, tag_field="kind", tag="images"):
    """Labelled images, and what happens to them on the host."""

    image_size: int | tuple[int, int] = 224  # pixels: a square's side, or (rows, cols)
    channels: Literal[1, 3] = 3
    train_ops: tuple[ImageOp, ...] = ()
    eval_ops: tuple[ImageOp, ...] = ()
    pixel_mean: tuple[float, ...] = (127.5,)  # of 0..255: one number, or one a channel
    pixel_std: tuple[float, ...] = (127.5,)
    mix: MixConfig = MixConfig()
    repeats: int = 1  # repeated augmentation (Hoffer 2020): neighbours in a batch share an image
    on_bad_image: Literal["error", "skip"] = "error"

    def __post_init__(self):
        for name in ("pixel_mean", "pixel_std"):
            count = len(getattr(self, name))
            if count not in (1, self.channels):
                raise ValueError(f"{name} has {count} numbers: give 1 or channels, {self.channels}")


class TextData(DataConfig, frozen=True, kw_only=True):
    """What every kind of text has."""

    # A directory that `zoo data tokenizer` made, or a published file: tokenizer.json, vocab.txt
    # (WordPiece), vocab.bpe or merges.txt beside its vocabulary (byte-level BPE), *.model
    # (SentencePiece), source.spm beside target.spm and vocab.json (MarianMT).
    tokenizer: str
    # Which column, key or feature of the source each field of an example is, where its name is
    # another: {"text": "sentence"}. With braces it is a text made of several, as T5's tasks are:
    # {"source": "mnli hypothesis: {hypothesis} premise: {premise}", "target": "label"}.
    fields: dict[str, str] = field(default_factory=dict)
    length: Count = 512  # tokens of a row, of its input where it has an output too


class LmData(TextData, frozen=True, tag_field="kind", tag="lm"):
    """Documents one after the other, each begun by BOS (where there is one) and ended by EOS.

    Rows are cut from the whole without gaps; a token sees only its own document.
    """


class MaskedData(TextData, frozen=True, tag_field="kind", tag="masked_lm"):
    """BERT's (Devlin 2018, arXiv 1810.04805), or RoBERTa's without next_sentence."""

    # [CLS] A [SEP] B [SEP], where B follows A in its document or, half the time, comes from
    # another; else [CLS] A [SEP]. Documents are lines of sentences.
    next_sentence: bool = True
    mask_rate: Probability = 0.15  # of the tokens; 80 % become [MASK], 10 % any token, 10 % stay
    max_predictions: Count = 20  # masked tokens of a row; BERT has 20 at length 128, 76 at 512
    short_rate: Probability = 0.1  # share of rows cut to a random length
    whole_words: bool = False  # mask all pieces of a word together
    masking: Literal["dynamic", "static"] = "dynamic"  # anew in every epoch, or as at first


class SpanData(TextData, frozen=True, tag_field="kind", tag="span_corruption"):
    """T5's (Raffel 2020, arXiv 1910.10683): spans become sentinels, the target names them.

    As much text is taken as makes an input of `length` tokens.
    """

    mask_rate: Probability = 0.15
    mean_span: Annotated[float, Meta(ge=1)] = 3.0  # tokens


class PairData(TextData, frozen=True, tag_field="kind", tag="seq2seq"):
    """A `source` and its `target`, each ended by EOS; what is longer than its row is left out."""

    target_length: Count = 128  # tokens of a row's output
    prefix: str = ""  # before each source, such as "translate English to German: "
    pack: bool = False  # several pairs in a row, none of which sees another
    on_long: Literal["cut", "drop"] = "drop"  # in training; evaluation cuts


class LabelledData(TextData, frozen=True, tag_field="kind", tag="text_classification"):
    """A `text`, perhaps a `text_pair`, and a `label`: a class, or a number for regression.

    What is too long is cut at its end, of two texts the longer one first.
    """

    pair: bool = False
    regression: bool = False


class TagData(TextData, frozen=True, tag_field="kind", tag="token_classification"):
    """`words` and their `tags`; the first piece of a word carries its tag."""


class QuestionData(TextData, frozen=True, tag_field="kind", tag="question_answering"):
    """SQuAD's (Rajpurkar 2016, 2018): `question`, `context`, `answers` (texts and starts), `id`.

    A context that does not fit is read in windows that overlap.
    """

    stride: Count = 128  # tokens from a window's beginning to the next one's
    max_question: Count = 64  # tokens of a question; the rest is cut
    max_answer: Count = 30  # tokens of a predicted answer
    # None: every question has an answer, as in SQuAD 1.1. Else "" is the answer where [CLS] beats
    # the best span by more than this, as in 2.0; 0 is a start, and evaluation says what was best.
    null_threshold: float | None = None


TextKind = LmData | MaskedData | SpanData | PairData | LabelledData | TagData | QuestionData
AnyData = ImageData | TextKind
