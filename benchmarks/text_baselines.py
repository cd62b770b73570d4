"""What plain methods of scikit-learn reach on the small text tasks, for comparison.

    python benchmarks/text_baselines.py sentiment
    python benchmarks/text_baselines.py sentiment --config sentiment_imdb:minilm
    python benchmarks/text_baselines.py translation

sentiment     logistic regression on TF-IDF of words and pairs of words, on the same 4,000 reviews
              and the same first tokens as a config of sentiment_imdb; accuracy on all test reviews
translation   a translation memory: each test sentence gets the translation of the training sentence
              whose TF-IDF is nearest, of the data of configs/translate_help.py; BLEU as zoo eval's
"""

import argparse

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from zoo.config import load_config
from zoo.config.data import LabelledData, PairData, TextData
from zoo.data.text.records import open_records
from zoo.data.text.tokenizers import load_tokenizer
from zoo.inference.text_scores import text_scores


def fields(data: TextData, split: str, *names: str) -> list[list[str]]:
    """Columns of a split, as text."""
    records = open_records(data, split)
    rows = [records[i] for i in range(len(records))]
    return [[row.text(name) for row in rows] for name in names]


def sentiment(config: str) -> dict[str, float]:
    """Of whole reviews, and of as much of them as the network reads."""
    data = load_config(config).data
    assert isinstance(data, LabelledData)
    tokenizer = load_tokenizer(data.tokenizer)
    found = {}
    for name, limit in (("first tokens", data.length - 2), ("whole reviews", None)):
        cut = lambda text, n=limit: tokenizer.decode(tokenizer.encode(text)[:n])
        texts, labels = fields(data, data.train_split, "text", "label")
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
            LogisticRegression(C=10.0, max_iter=1000),
        )
        model.fit([cut(text) for text in texts], labels)
        for split, of in data.eval_splits.items():
            texts, labels = fields(data, of, "text", "label")
            found[f"{split}/accuracy, {name}"] = model.score([cut(text) for text in texts], labels)
    return found


def translation() -> dict[str, float]:
    """BLEU of the nearest sentence's translation."""
    data = load_config("translate_help").data
    assert isinstance(data, PairData)
    known, translations = fields(data, data.train_split, "source", "target")
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    memory = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectors.fit_transform(known))
    found = {}
    for split, of in data.eval_splits.items():
        sources, references = fields(data, of, "source", "target")
        nearest = memory.kneighbors(vectors.transform(sources), return_distance=False)[:, 0]
        scores = text_scores("bleu", [translations[i] for i in nearest], references)
        found[f"{split}/bleu"] = float(scores["bleu"])
    return found


def main() -> None:
    """Prints the scores."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("task", choices=("sentiment", "translation"))
    parser.add_argument("--config", default="sentiment_imdb:scratch", help="whose tokens, and data")
    args = parser.parse_args()
    found = sentiment(args.config) if args.task == "sentiment" else translation()
    for name, value in found.items():
        print(f"{name:<32} {value:.4g}")


if __name__ == "__main__":
    main()
