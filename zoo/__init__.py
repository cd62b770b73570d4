"""Zoo: a TPU-first model zoo in JAX and Flax.

`zoo.load(path)` gives a trained model; `zoo.train(config, workdir)` trains one;
`zoo.plan(config, topology)` says what that takes on a TPU pod; `zoo.compare(workdirs)` puts runs
side by side.
"""

import importlib

_EXPORTS = {
    "load": "zoo.inference.loading",
    "train": "zoo.experiment.run",
    "load_config": "zoo.config",
    "compare": "zoo.experiment.compare",
    "plan": "zoo.planning.plan",
}
__all__ = ["compare", "load", "load_config", "plan", "train"]


def __getattr__(name: str):
    # Nothing is imported before it is asked for: `import zoo` takes no time and loads no jax.
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
