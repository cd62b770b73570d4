"""The ladder of published results, from a laptop to a pod: what was published, by which config.

Imports no jax: `zoo reproduce` lists it at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from zoo.config import UserError
from zoo.config.load import nearest


class Cut(NamedTuple):
    """How a recipe is made small: the same code on real data that one core finishes in a minute.

    See `zoo.reproduction.small`, which also shrinks the model where `shrink` says so.
    """

    data: Literal["own", "photos", "prose", "help", "reviews", "pairs", "triples", "scores",
                  "numbers"]  # fmt: skip
    guess: float  # what guessing gives: a small run has to be better
    metric: str = ""  # of the small run, where the rung's own says nothing so early
    steps: int = 200
    lr: float = 1.0  # factor: what is right for 100 M parameters teaches a few thousand nothing
    shrink: bool = True


@dataclass(frozen=True)
class Rung:
    """A published result and how to get it.

    Attributes:
      stages: configs, each of which starts from the run before it.
      metric: of the last stage's last step, `SPLIT/NAME`.
      published: in the metric's own unit; accuracies are of 1. Of what is made here, a baseline's;
        None where nobody published any.
      band: a mean of runs that lies in it has reproduced the result.
      takes: the machine and the time that the source names.
      needs: what has to be at hand for a run of full length.
      start: a rung whose small run stands in for the published weights that a run starts from.
      changes: of every stage's config.
      judged_on: changes of the config by which the last step is evaluated.
      evaluate_only: the weights that are given are evaluated, nothing is trained.
      average: of so many last checkpoints.
    """

    name: str
    title: str
    stages: tuple[str, ...]
    metric: str
    published: float | None
    band: tuple[float, float] | None
    source: str
    takes: str
    needs: str
    cut: Cut
    start: str | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    judged_on: Mapping[str, str] = field(default_factory=dict)
    evaluate_only: bool = False
    average: int = 1

    @property
    def config(self) -> str:
        """The last stage's."""
        return self.stages[-1]

    @property
    def scores(self) -> tuple[str, ...]:
        """Of generated texts, that the metric is one of."""
        name = self.metric.partition("/")[2]
        if name.startswith("bleu"):
            return tuple(dict.fromkeys(("bleu", name)))
        return ("exact_match",) if name == "exact_match" else ()


def by_name(name: str) -> Rung:
    """The rung of that name.

    Raises:
      UserError: there is none.
    """
    for rung in LADDER:
        if rung.name == name:
            return rung
    names = [rung.name for rung in LADDER]
    raise UserError(f"there is no rung {name!r}{nearest(name, names)}")


IMAGENET = "TFDS's imagenet2012"
WORDS = "text with a sentence a line, a vocabulary"
UNIFORM = 8.0  # nats: the logarithm of 3,000 tokens, which the small vocabularies have at least
PHOTOS = Cut("photos", 0.13)  # of ten classes, three standard errors of 1,000 images above chance
NEWSTEST = {"data.name": "tfds:wmt14_translate/de-en"}
CASED = "bert-base-cased (config.init_from) and its vocab.txt (config.data.tokenizer), TFDS's glue"

# task: (metric, published, half a band: twice the source's deviation, or one point)
_GLUE = {
    "cola": ("validation/matthews_correlation", 0.5904, 0.021),
    "sst2": ("validation/accuracy", 0.9223, 0.01),
    "mrpc": ("validation/f1", 0.8897, 0.015),
    "stsb": ("validation/pearson", 0.8894, 0.01),
    "qqp": ("validation/accuracy", 0.9076, 0.01),
    "mnli": ("matched/accuracy", 0.8380, 0.01),
    "qnli": ("validation/accuracy", 0.9082, 0.01),
    "rte": ("validation/accuracy", 0.6476, 0.021),
    "wnli": ("validation/accuracy", 0.3701, 0.1),
}
_GLUE_CUTS = {
    "cola": Cut("reviews", 0.1, "validation/matthews_correlation", 500, 50.0),
    "sst2": Cut("reviews", 0.55, "validation/accuracy", 500, 50.0),
    "stsb": Cut("scores", 0.1, "validation/pearson", 500, 50.0),
    "mnli": Cut("triples", 0.45, "matched/accuracy", 500, 50.0),
}
_PAIR_CUT = Cut("pairs", 0.55, "validation/accuracy", 500, 50.0)


def _glue(task: str) -> Rung:
    metric, published, half = _GLUE[task]
    return Rung(
        f"glue_{task}", f"BERT-base, cased, on GLUE's {task.upper()}", (f"glue:{task}",), metric,
        published, (published - half, published + half),
        "Hugging Face, run_flax_glue: mean of 5 seeds", "v3-8: all nine tasks in 1h03m", CASED,
        _GLUE_CUTS.get(task, _PAIR_CUT), start="bert_base",
    )  # fmt: skip


LADDER: tuple[Rung, ...] = (
    Rung(
        "digits", "ViT of 0.14 M on scikit-learn's digits", ("digits_vit",), "test/accuracy",
        0.9889, (0.97, 1.0), "no ViT published: an SVM (gamma 0.001) on the same split",
        "a laptop, a minute and a half", "nothing",
        Cut("own", 0.15, shrink=False),
    ),
    Rung(
        "mnist", "ViT of 0.21 M on MNIST, 100 epochs", ("mnist_vit",), "test/accuracy",
        0.995, (0.993, 1.0), "s-chh/PyTorch-Scratch-ViT, one run", "not said", "mnist",
        Cut("own", 0.13, shrink=False),
    ),
    Rung(
        "fashion_mnist", "ViT of 0.21 M on Fashion-MNIST, 200 epochs", ("fashion_mnist_vit",),
        "test/accuracy", 0.923, (0.92, 1.0), "s-chh/PyTorch-Scratch-ViT, one run", "not said",
        "fashion_mnist", Cut("own", 0.13, shrink=False),
    ),
    Rung(
        "cifar10_vit_lite", "ViT-Lite-7/4 on CIFAR-10, 200 epochs", ("cifar_vit_lite:cifar10",),
        "test/accuracy", 0.9138, (0.908, 1.0), "SHI-Labs/Compact-Transformers, best epoch",
        "not said", "cifar10", Cut("own", 0.13),
    ),
    Rung(
        "cifar100_vit_lite", "ViT-Lite-7/4 on CIFAR-100, 200 epochs",
        ("cifar_vit_lite:cifar100",), "test/accuracy", 0.6975, (0.69, 1.0),
        "SHI-Labs/Compact-Transformers, best epoch", "not said", "cifar100", PHOTOS,
    ),
    Rung(
        "cifar10_vit", "plain ViT on CIFAR-10, 100 epochs, strong augmentation",
        ("cifar_vit:cifar10",), "test/accuracy", 0.9358, (0.93, 1.0), "aanna0701/SPT_LSA_ViT",
        "not said", "cifar10", Cut("own", 0.13),
    ),
    Rung(
        "cifar100_vit", "plain ViT on CIFAR-100, 100 epochs, strong augmentation",
        ("cifar_vit:cifar100",), "test/accuracy", 0.7381, (0.73, 1.0), "aanna0701/SPT_LSA_ViT",
        "not said", "cifar100", PHOTOS,
    ),
    Rung(
        "augreg_s16_evaluate", "AugReg ViT-S/16 at 224, its published weights evaluated",
        ("finetune:in1k",), "val/accuracy", 0.81402, (0.811, 0.817),
        "timm's results table", "minutes", f"the weights (config.init_from), {IMAGENET}",
        PHOTOS, start="augreg_s16", evaluate_only=True,
        changes={
            "model.size": "S/16",
            "data.image_size": "224",
            "data.eval_splits": "{'val': 'validation'}",
            "data.eval_ops": "[{'op': 'resize_small', 'crop_fraction': 0.9, 'method': "
            "'bicubic_antialias', 'rounding': 'down'}, {'op': 'central_crop'}]",
            "best_metric": "null",
        },
    ),
    Rung(
        "augreg_cifar10", "AugReg ViT-B/32 of ImageNet-21k, fine-tuned to CIFAR-10",
        ("finetune:cifar10",), "test/accuracy", 0.9855, (0.984, 0.988),
        "big_vision's transfer.py: mean of 5 runs", "not said",
        "the weights (config.init_from), cifar10", PHOTOS._replace(lr=10.0),
        start="augreg_s16",
    ),
    Rung(
        "augreg_cifar100", "AugReg ViT-B/32 of ImageNet-21k, fine-tuned to CIFAR-100",
        ("finetune:cifar100",), "test/accuracy", 0.9135, (0.909, 0.918),
        "big_vision's transfer.py: mean of 5 runs", "not said",
        "the weights (config.init_from), cifar100", PHOTOS._replace(lr=3.0),
        start="augreg_s16",
    ),
    Rung(
        "s16_90", "ViT-S/16 on ImageNet-1k, 90 epochs", ("s16_in1k:90",), "val/accuracy",
        0.765, (0.762, 0.773), "Beyer 2022, table 1", "v3-8, 6h30", IMAGENET, PHOTOS,
    ),
    Rung(
        "s16_300", "ViT-S/16 on ImageNet-1k, 300 epochs", ("s16_in1k:300",), "val/accuracy",
        0.80, (0.795, 0.803), "Beyer 2022, table 1", "v3-8, 21h40", IMAGENET, PHOTOS,
    ),
    Rung(
        "augreg_s16", "ViT-S/16 on ImageNet-1k by the AugReg recipe, 300 epochs",
        ("augreg_in1k:S/16",), "val/accuracy", 0.78842, (0.782, 0.795),
        "timm's evaluation of the paper's weights", "not said", IMAGENET, PHOTOS,
    ),
    Rung(
        "augreg_b16", "ViT-B/16 on ImageNet-1k by the AugReg recipe, 300 epochs",
        ("augreg_in1k:B/16",), "val/accuracy", 0.79, (0.785, 0.8),
        "big_vision's issue 7: about 79", "not said", IMAGENET, PHOTOS,
    ),
    Rung(
        "augreg_in1k", "AugReg ViT-B/32 of ImageNet-21k, fine-tuned to ImageNet-1k",
        ("finetune:in1k",), "test/accuracy", 0.8327, (0.83, 0.836),
        "big_vision's transfer.py: mean of 5 runs", "not said",
        f"the weights (config.init_from), {IMAGENET}", PHOTOS._replace(lr=10.0),
        start="augreg_s16",
    ),
    Rung(
        "augreg_in21k", "ViT-B/16 on ImageNet-21k by big_vision's recipe",
        ("augreg_in21k:B/16",), "val/accuracy", None, None,
        "none of its own: what starts from it is measured", "not said", "TFDS's imagenet21k",
        PHOTOS,
    ),
    Rung(
        "deit_s", "DeiT-S on ImageNet-1k, 300 epochs", ("deit_in1k:S",), "val/accuracy",
        0.799, (0.794, 0.803), "facebookresearch/deit", "v4-64, 2h43 (deit3-jax: 79.7)",
        IMAGENET, PHOTOS,
    ),
    Rung(
        "deit_b", "DeiT-B on ImageNet-1k, 300 epochs", ("deit_in1k:B",), "val/accuracy",
        0.818, (0.813, 0.822), "facebookresearch/deit", "v4-64, 4h40 (deit3-jax: 81.5)",
        IMAGENET, PHOTOS,
    ),
    Rung(
        "deit3_s", "DeiT-III-S on ImageNet-1k, 800 epochs", ("deit3_in1k:S,800",), "val/accuracy",
        0.814, (0.809, 0.818), "facebookresearch/deit", "v4-64, 5h19 (deit3-jax: 81.4)",
        IMAGENET, PHOTOS,
    ),
    Rung(
        "deit3_b", "DeiT-III-B on ImageNet-1k, 800 epochs at 192 and 20 at 224",
        ("deit3_in1k:B,800", "deit3_in1k_finetune:B"), "val/accuracy", 0.838, (0.833, 0.843),
        "facebookresearch/deit", "v4-64, 9h28 (deit3-jax: 83.9)", IMAGENET, PHOTOS,
    ),
    Rung(
        "algoperf_vit", "AlgoPerf's ViT-S/16 on ImageNet-1k", ("algoperf_vit",), "val/accuracy",
        0.77309, (0.77309, 1.0), "mlcommons/algorithmic-efficiency: the target",
        "its benchmark machine, 69,768 s at most", IMAGENET, PHOTOS,
    ),
    Rung(
        "lm1b", "Flax's language model of One Billion Words", ("lm1b",), "test/loss", 3.127,
        (0.0, 3.16), "google/flax, examples/lm1b", "v3-8, 13h18m", "TFDS's lm1b, a vocabulary",
        Cut("prose", UNIFORM, "test/loss"),
    ),
    Rung(
        "wmt17_flax", "Flax's German to English, newstest2014", ("wmt17_deen:flax",),
        "test/bleu_lowercase", 32.87, (32.0, 40.0),
        "google/flax, examples/wmt: lower-cased, by its own BLEU",
        "v3-8, 100k steps", "TFDS's wmt17_translate and wmt14_translate, a vocabulary",
        Cut("help", UNIFORM, "test/loss"),
    ),
    Rung(
        "algoperf_wmt", "AlgoPerf's German to English, newstest2014", ("wmt17_deen:algoperf",),
        "test/bleu", 30.7219, (30.7219, 40.0), "mlcommons/algorithmic-efficiency: the target",
        "its benchmark machine, 43,336 s at most",
        "TFDS's wmt17_translate and wmt14_translate, a vocabulary",
        Cut("help", UNIFORM, "test/loss"),
    ),
    Rung(
        "wmt_base", "Transformer base, English to German, newstest2014", ("wmt_vaswani:base",),
        "newstest2014/bleu_compound", 27.3, (26.8, 29.5), "Vaswani 2017, table 2",
        "8 x P100, 12 h", "TFDS's wmt14_translate, a vocabulary",
        Cut("help", UNIFORM, "newstest2014/loss"), average=5,
    ),
    Rung(
        "wmt_big", "Transformer big, English to German, newstest2014", ("wmt_vaswani:big",),
        "newstest2014/bleu_compound", 28.4, (27.9, 30.0), "Vaswani 2017, table 2",
        "8 x P100, 3.5 days", "TFDS's wmt14_translate, a vocabulary",
        Cut("help", UNIFORM, "newstest2014/loss"), average=20,
    ),
    Rung(
        "bert_base", "BERT-base pre-training, both phases",
        ("bert_pretrain:base", "bert_pretrain:base,phase2"), "test/masked_lm_loss", 1.4,
        (0.0, 1.6), "its authors in google-research/bert's issue 90: about 1.4",
        "4 Cloud TPUs, 4 days", WORDS, Cut("prose", UNIFORM),
    ),
    Rung(
        "bert_large", "BERT-large pre-training, both phases",
        ("bert_pretrain:large", "bert_pretrain:large,phase2"), "test/masked_lm_loss", None, None,
        "no loss of large is published", "16 Cloud TPUs, 4 days", WORDS, Cut("prose", UNIFORM),
    ),
    Rung(
        "bert_mlperf", "MLPerf's BERT-large, from its checkpoint", ("bert_mlperf:256",),
        "eval/masked_lm_accuracy", 0.72, (0.72, 1.0),
        "mlcommons/training: the target, after 2.55 M rows of 512", "v4-16",
        "its checkpoint (config.init_from), its vocab.txt, Wikipedia of 2020-01-01",
        Cut("prose", UNIFORM, "eval/masked_lm_loss"), start="bert_large",
    ),
    *(_glue(task) for task in _GLUE),
    Rung(
        "squad", "BERT-base, uncased, on SQuAD 1.1", ("squad:1.1",), "validation/f1", 88.41,
        (87.9, 88.9), "google-research/bert, README", "one GPU",
        "bert-base-uncased (config.init_from) and its vocab.txt, TFDS's squad",
        Cut("numbers", 20.0, "validation/f1", 400, 50.0), start="bert_base",
    ),
    Rung(
        "gpt2_124m", "GPT-2 124M on OpenWebText", ("gpt2_124m",), "val/loss", 2.85,
        (0.0, 2.87), "nanoGPT, README: about 2.85", "8 A100, 4 days",
        "OpenWebText as text, GPT-2's vocabulary", Cut("prose", UNIFORM, "val/loss"),
    ),
    Rung(
        "t5_small", "T5 1.1 small on C4, before its fine-tuning", ("t5_11_c4:small",),
        "validation/loss", None, None,
        "no loss is published: t5_small_mnli is what can be compared", "8 A100, 7.5 days",
        "TFDS's c4/en, T5's vocabulary", Cut("prose", UNIFORM, "validation/loss"),
    ),
    Rung(
        "t5_small_mnli", "T5 1.1 small, fine-tuned to say MNLI's classes", ("t5_mnli:small",),
        "matched/exact_match", 83.06, (82.0, 84.1),
        "google-research/t5x, contrib/gpu: after a pre-training on the Pile", "not said",
        "T5 1.1 small (config.init_from) and its vocabulary, TFDS's glue",
        Cut("triples", 45.0, steps=300, lr=10.0), start="t5_small",
    ),
    Rung(
        "bert_imdb", "a BERT of 1.9 M on film reviews", ("bert_imdb:phase1", "bert_imdb:phase2"),
        "held_out/masked_lm_accuracy", 0.257, (0.257, 1.0),
        "none: bigrams of both neighbours (benchmarks/masked_baselines.py)",
        "one core, under two hours", "imdb, a vocabulary",
        Cut("prose", UNIFORM, "held_out/masked_lm_loss", shrink=False),
    ),
    Rung(
        "sentiment_imdb", "a pre-trained BERT, 4,000 labelled reviews",
        ("bert_imdb:adamw", "sentiment_imdb:pretrained"), "test/accuracy", 0.7207,
        (0.7207, 1.0),
        "none: logistic regression of the same tokens (benchmarks/text_baselines.py)",
        "one core, 40 minutes",
        "imdb, a vocabulary", Cut("reviews", 0.52, steps=300, shrink=False),
    ),
    Rung(
        "sentiment_minilm", "MiniLM's published encoder, 4,000 labelled reviews",
        ("sentiment_imdb:minilm",), "test/accuracy", 0.7244, (0.7244, 1.0),
        "none: logistic regression of the same tokens (benchmarks/text_baselines.py)",
        "one core, half an hour", "imdb, minilm", Cut("reviews", 0.55, steps=500, lr=10.0),
        start="bert_base",
    ),
    Rung(
        "lm_imdb", "a language model of 2.5 M on 5,000 reviews", ("lm_imdb",),
        "held_out/bits_per_byte", 1.793, (0.0, 1.793),
        "none: a 5-gram model, modified Kneser-Ney, by IRSTLM (benchmarks/ngram.py)",
        "one core, 90 minutes", "imdb, a vocabulary",
        Cut("prose", UNIFORM, "held_out/loss", steps=60, shrink=False),
    ),
    Rung(
        "translate_help", "a Transformer of 1.9 M, English to German help texts",
        ("translate_help",), "test/bleu", 12.66, (12.66, 100.0),
        "none: the nearest training sentence's translation (benchmarks/text_baselines.py)",
        "one core, 27 minutes", "libreoffice_help, a vocabulary",
        Cut("help", UNIFORM, "test/loss", shrink=False),
    ),
)  # fmt: skip
