"""`zoo eval`: a trained model on the splits of a config, and its frozen features."""

from zoo.config import UserError
from zoo.config.schema import Config
from zoo.data.sources import open_source
from zoo.evaluation.evaluate import evaluate, make_evaluator
from zoo.evaluation.features import extract_features, knn_accuracy, probe_accuracy
from zoo.sharding.mesh import make_mesh
from zoo.training.weights import open_weights


def evaluate_weights(
    path: str, config: Config | None, *, neighbours: int | None = None, probe: bool = False
) -> dict[str, float | int]:
    """Evaluates weights on every evaluation split.

    Args:
      path: a workdir or checkpoint.
      config: whose data and evaluation to use; default the one that the weights were trained by.
      neighbours: k of a k-NN classifier on frozen features, if wanted.
      probe: whether to fit a linear probe on frozen features.

    Raises:
      UserError: no checkpoint, another model, another number of classes.
    """
    weights = open_weights(path)
    if config is None:
        config = weights.config
    else:
        model = weights.config.model
        filled = {
            "num_classes": config.model.num_classes or model.num_classes,
            "image_size": config.model.image_size or model.image_size,
            "channels": config.model.channels or model.channels,
            "position_grid": config.model.position_grid or model.position_grid,
        }
        config = config.replace(model=config.model.replace(**filled))
    mesh = make_mesh(config.mesh)
    params = weights.load(mesh, config)
    check_classes(config)
    evaluator = make_evaluator(config, mesh)
    metrics: dict[str, float | int] = {"step": weights.step}
    for name, split in config.data.eval_splits.items():
        found = evaluate(evaluator, params, config.data, split).metrics
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


def check_classes(config: Config) -> None:
    """Raises a UserError where the data has another number of classes than the model."""
    for split in config.data.eval_splits.values():
        count = len(open_source(config.data, split).classes)
        if count != config.model.num_classes:
            raise UserError(
                f"{config.data.name} {split} has {count} classes, the checkpoint "
                f"{config.model.num_classes}: to train on these, start a run with config.init_from"
            )
