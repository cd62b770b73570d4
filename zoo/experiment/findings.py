"""What a trained classifier gets wrong, and where it looks: the pictures of the report."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from zoo.config.schema import Config
from zoo.data.stream import eval_batches
from zoo.evaluation.evaluate import Evaluation, evaluate
from zoo.experiment.report import AttentionMap, Mistake
from zoo.tasks.build import Params, abstract_model
from zoo.tasks.classify import Classify, vision_parts
from zoo.training.loop import TrainResult

NUM_MISTAKES, NUM_ATTENTION = 24, 8
MAX_CLASSES = 4096  # for a confusion matrix: beyond it is too large to hold


def find(result: TrainResult) -> dict[str, Any]:
    """Confusion matrix, worst mistakes and attention maps on the first evaluation split."""
    config, classes = result.run.config, result.run.classes
    name, split = next(iter(config.data.eval_splits.items()))
    params = result.state.eval_params
    found = evaluate(result.evaluator, params, config.data, split)
    prediction = found.results["prediction"]
    confusion = None
    if len(classes) <= MAX_CLASSES:
        confusion = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(confusion, (found.results["label"], prediction), 1)
    wrong = worst_mistakes(found)
    looked_at = found.index[:NUM_ATTENTION].tolist()
    images = collect_images(config, split, {*found.index[wrong].tolist(), *looked_at})
    return {
        "split": name,
        "metrics": found.metrics,
        "confusion": confusion,
        "mistakes": tuple(
            Mistake(
                image=images[int(found.index[row])],
                truth=int(found.results["label"][row]),
                prediction=int(prediction[row]),
                probability=float(found.results["probability"][row]),
                truth_probability=float(found.results["label_probability"][row]),
                name=f"{split} #{found.index[row]}",
            )
            for row in wrong
        ),
        "attention": attention_maps(
            config, params, {i: images[i] for i in looked_at}, found, split
        ),
    }


def worst_mistakes(found: Evaluation) -> np.ndarray:
    """Rows of an evaluation that are wrong, the surest ones first."""
    wrong = np.flatnonzero(found.results["prediction"] != found.results["label"])
    sureness = found.results["probability"][wrong]
    return wrong[np.argsort(-sureness, kind="stable")][:NUM_MISTAKES]


def collect_images(config: Config, split: str, wanted: set[int]) -> dict[int, np.ndarray]:
    """Images of a split as the model sees them, by index."""
    images = {}
    for batch in eval_batches(config.data, split):
        for row in np.flatnonzero(batch["weight"] > 0):
            if int(batch["index"][row]) in wanted:
                images[int(batch["index"][row])] = batch["image"][row]
        if len(images) == len(wanted):
            break
    return images


def attention_maps(
    config: Config, params: Params, images: dict[int, np.ndarray], found: Evaluation, split: str
) -> tuple[AttentionMap, ...]:
    """Where the last block looks: attention to each patch, the mean over heads.

    Of the cls token where the model pools by it, else the mean over all queries.
    """
    (cfg, _), task = vision_parts(config), Classify.from_config(config)
    graphdef, _ = abstract_model(config)

    def attend(params, image):
        model = nnx.merge(graphdef, params)
        _, captured = model(task.normalize(image), capture=("attention",))
        heads = captured["attention"][-1]  # B N T T
        queries = heads[:, :, :1] if cfg.has_cls else heads
        return queries.mean((1, 2))

    weights = jax.device_get(jax.jit(attend)(params, np.stack([*images.values()])))
    row_of = {int(index): row for row, index in enumerate(found.index)}
    maps = []
    for (index, image), weight in zip(images.items(), weights, strict=True):
        rows, cols = (size // cfg.patch_size for size in image.shape[:2])
        heat = weight[-rows * cols :].reshape(rows, cols).astype(np.float64)
        low, high = heat.min(), heat.max()
        maps.append(
            AttentionMap(
                image=image,
                heat=(heat - low) / max(high - low, 1e-12),
                truth=int(found.results["label"][row_of[index]]),
                prediction=int(found.results["prediction"][row_of[index]]),
                name=f"{split} #{index}",
            )
        )
    return tuple(maps)
