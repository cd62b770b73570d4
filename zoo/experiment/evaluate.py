"""`zoo eval`: a trained model on the splits of a config, and its frozen features."""

from collections.abc import Mapping

from zoo.config import UserError
from zoo.config.load import override_config
from zoo.config.schema import Config
from zoo.data.rows import open_rows
from zoo.evaluation.evaluate import evaluate, make_evaluator
from zoo.evaluation.features import extract_features, knn_accuracy, probe_accuracy
from zoo.inference.text_scores import TextScorer
from zoo.sharding.mesh import make_mesh
from zoo.tasks.classify import vision_parts
from zoo.training.weights import open_weights


def evaluate_weights(
    path: str,
    config: Config | None,
    *,
    neighbours: int | None = None,
    probe: bool = False,
    average: int = 1,
    overrides: Mapping[str, str] | None = None,
    scores: tuple[str, ...] = (),
) -> dict[str, float | int | str]:
    """Evaluates weights on every evaluation split.

    Args:
      path: a workdir or checkpoint.
      config: whose data and evaluation to use; default the one that the weights were trained by.
      neighbours: k of a k-NN classifier on frozen features, if wanted.
      probe: whether to fit a linear probe on frozen features.
      average: use the mean of so many checkpoints: a workdir's last ones.
      overrides: keys of the weights' own config to change, where no other is given: dotted key ->
        text of the value.
      scores: of generated texts, of SCORES.

    Raises:
      UserError: no checkpoint, another model, another number of classes.
    """
    weights = open_weights(path, newest=average > 1)
    if config is None:
        config = weights.config
        if overrides:
            config = override_config(config, overrides, origin=path)
    else:
        config = fill_model(config, weights.config)
    mesh = make_mesh(config.mesh)
    params = weights.load(mesh, config, average=average)
    check_classes(config)
    if neighbours or probe:
        vision_parts(config)
    if neighbours:
        count = len(open_rows(config.data, config.data.train_split, train=False))
        if neighbours > count:
            raise UserError(f"--knn {neighbours} is more than the {count} examples to train on")
    evaluator = make_evaluator(config, mesh)
    metrics: dict[str, float | int | str] = {"step": weights.step}
    for name, split in config.data.eval_splits.items():
        found = evaluate(evaluator, params, config.data, split).metrics
        metrics |= {f"{name}/{key}": value for key, value in found.items()}
    if scores:
        scorer = TextScorer(config, mesh, scores=scores)
        for name, split in config.data.eval_splits.items():
            found = scorer.score(params, split)
            metrics |= {f"{name}/{key}": value for key, value in found.items()}
    if neighbours or probe:
        train = extract_features(config, mesh, params, config.data.train_split)
        for name, split in config.data.eval_splits.items():
            test = extract_features(config, mesh, params, split)
            if neighbours:
                metrics[f"{name}/knn{neighbours}_accuracy"] = knn_accuracy(train, test, neighbours)
            if probe:
                metrics[f"{name}/probe_accuracy"] = probe_accuracy(train, test, seed=config.seed)
    return metrics


def fill_model(config: Config, trained: Config) -> Config:
    """The config with what it leaves open of its model taken from the one that was trained."""
    own, theirs = config.model, trained.model
    if type(own) is not type(theirs):
        families = [model.__struct_config__.tag for model in (own, theirs)]
        raise UserError("the config has a model of family {!r}, the weights {!r}".format(*families))
    open_keys = [key for key in own.__struct_fields__ if getattr(own, key) is None]
    return config.replace(model=own.replace(**{key: getattr(theirs, key) for key in open_keys}))


def check_classes(config: Config) -> None:
    """Raises a UserError where the data has another number of classes than the model."""
    known = getattr(config.model, "num_classes", None)
    for split in config.data.eval_splits.values() if known is not None else ():
        count = len(open_rows(config.data, split, train=False).classes) or 1  # regression has none
        if count != known:
            raise UserError(
                f"{config.data.name} {split} has {count} classes, the checkpoint {known}: "
                "to train on these, start a run with config.init_from"
            )
