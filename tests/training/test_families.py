"""What holds for images holds for text: the same losses however the step is spread."""

import jax
import numpy as np
import pytest

from tests.families import FAMILIES
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import abstract_params
from zoo.training.optimizer import make_optimizer
from zoo.training.runner import make_runner
from zoo.training.schedules import make_schedule

# As in test_runner.py: SGD, and sums of float32 in another order.
TOLERANCE = 1e-5


def losses(config, batches, num_devices=8):
    """Losses and gradient norms of the first steps."""
    mesh = make_mesh(config.mesh, jax.devices()[:num_devices])
    schedule = make_schedule(config.optimizer, total_steps=8, warmup_steps=0, cooldown_steps=0)
    tx = make_optimizer(config.optimizer, abstract_params(config, mesh), schedule)
    runner = make_runner(config, tx, mesh)
    state = runner.enter(runner.init(jax.random.key(config.seed)))
    found = []
    for batch in batches:
        state, metrics = runner.step(state, runner.put(batch))
        found.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(found)


# The quick meshes have these axes too.
PURE = {
    "data": {},
    "fsdp": {"data": 1, "fsdp": 8},
    "tensor": {"data": 4, "tensor": 2},
    "sequence": {"data": 2, "sequence": 4},
    "two tokens": {"data": 4, "sequence": 2},
    "slices": {"slices": 2, "data": 2, "fsdp": 2},
    "long": {"data": 2, "fsdp": 2, "sequence": 2},
    "wide": {"data": 2, "sequence": 2, "tensor": 2},
}

# Heads of one body, or data of one model: they differ in little, and compile for long.
SLOW = ("text", "tags", "answers", "spans")
PARAMS = [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in FAMILIES]


@pytest.fixture(scope="module", params=PARAMS)
def family(request):
    """A family, its batches, and its losses on one device."""
    chosen = FAMILIES[request.param]
    batches = [chosen.rows(seed=step) for step in range(2)]
    return chosen, batches, losses(chosen.config(), batches, num_devices=1)


@pytest.mark.parametrize(
    "changes",
    [
        *(
            pytest.param({"mesh": mesh}, marks=pytest.mark.slow, id=name)
            for name, mesh in PURE.items()
        ),
        pytest.param({"mesh": {"data": 2, "fsdp": 2, "tensor": 2}}, id="cube"),
        pytest.param({"mesh": {"slices": 2, "sequence": 2, "tensor": 2}}, id="hybrid"),
        pytest.param({"mode": "pmap"}, id="pmap"),
        pytest.param({"accumulate": 2}, id="accumulate"),
    ],
)
def test_any_way_to_spread_a_step_gives_the_same_losses(family, changes):
    chosen, batches, expected = family
    found = losses(chosen.config(**changes), batches)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


def test_rows_of_no_weight_count_for_nothing(family):
    chosen, batches, _ = family
    padded = [{**batch, "weight": np.repeat(np.float32([1, 0]), 8)} for batch in batches]
    other = [dict(batch) for batch in padded]
    for batch, spare in zip(other, reversed(batches), strict=True):
        for name, value in spare.items():
            if name not in ("weight", "index"):
                batch[name] = np.concatenate([batch[name][:8], value[8:]])
    found = [losses(chosen.config(), rows[:1], num_devices=1) for rows in (padded, other)]
    np.testing.assert_allclose(found[0], found[1], rtol=TOLERANCE)
