"""The same losses however the step is spread: devices, meshes, pmap, microbatches."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

from tests.families import FAMILIES
from tests.tiny import tiny_batch, tiny_config
from zoo.config import UserError
from zoo.evaluation.evaluate import make_evaluator
from zoo.sharding.mesh import make_mesh
from zoo.tasks.build import abstract_params
from zoo.training.optimizer import make_optimizer
from zoo.training.runner import make_runner
from zoo.training.schedules import make_schedule

# Sums of float32 in another order differ by a few units in the last place; three SGD steps carry
# that on. SGD and not Adam: Adam turns a rounding error of a zero gradient into a whole step.
TOLERANCE = 2e-6

RANDOM = {
    "model": {"dropout": 0.1, "drop_path": 0.2},
    "task": {"label_smoothing": 0.1},
    "data": {"mix": {"mixup": 0.5}},
    "ema_decay": 0.9,
}


def losses(config, num_devices=8, steps=3):
    """Losses and gradient norms of the first steps, and the last state."""
    mesh = make_mesh(config.mesh, jax.devices()[:num_devices])
    schedule = make_schedule(config.optimizer, total_steps=8, warmup_steps=0, cooldown_steps=0)
    tx = make_optimizer(config.optimizer, abstract_params(config, mesh), schedule)
    runner = make_runner(config, tx, mesh)
    state = runner.enter(runner.init(jax.random.key(config.seed)))
    found = []
    for step in range(steps):
        state, metrics = runner.step(state, runner.put(tiny_batch(seed=step)))
        found.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(found), jax.device_get(runner.leave(state))


@pytest.fixture(scope="module")
def reference():
    return losses(tiny_config(**RANDOM), num_devices=1)


@pytest.mark.parametrize(
    ("mode", "num_devices"), [("jit", 2), ("jit", 8), ("pmap", 1), ("pmap", 8)]
)
def test_any_number_of_devices_gives_the_same_losses(reference, num_devices, mode):
    found, state = losses(tiny_config(**RANDOM, mode=mode), num_devices)
    np.testing.assert_allclose(found, reference[0], rtol=TOLERANCE)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.ema, reference[1].ema
    )


@pytest.mark.parametrize(
    "mesh",
    [
        {"data": 1, "fsdp": 8},
        {"data": 2, "fsdp": 2, "tensor": 2},
        {"slices": 2, "data": 2, "fsdp": 2},
    ],
)
def test_any_mesh_gives_the_same_losses(reference, mesh):
    found, _ = losses(tiny_config(**RANDOM, mesh=mesh))
    np.testing.assert_allclose(found, reference[0], rtol=TOLERANCE)


# Four patches; with cls and three registers before them, eight tokens.
SPLIT = {"gap": {"pool": "gap"}, "map": {"pool": "map"}, "cls": {"num_registers": 3}}


@pytest.mark.parametrize("pool", SPLIT)
def test_an_images_tokens_may_be_split(pool):
    sections = {**RANDOM, "model": {**RANDOM["model"], **SPLIT[pool]}}
    expected, _ = losses(tiny_config(**sections), num_devices=1)
    mesh = {"data": 2, "fsdp": 1, "sequence": 2, "tensor": 2}
    found, _ = losses(tiny_config(**sections, mesh=mesh))
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


def test_tokens_that_do_not_divide_are_named_with_a_near_number_that_does():
    config = tiny_config(mesh={"data": 2, "sequence": 4})
    expected = r"sequence 4 does not divide an image's 1 \+ 4 tokens: .* multiple of 4, such as 4"
    with pytest.raises(UserError, match=expected):
        make_runner(config, optax.sgd(0.1), make_mesh(config.mesh))
    config = FAMILIES["decoder"].config(data={"length": 511}, mesh={"sequence": 2})
    with pytest.raises(UserError, match=r"does not divide config.data.length 511: .* such as 512"):
        make_evaluator(config)


@pytest.mark.parametrize(("mode", "num_devices"), [("jit", 1), ("jit", 4), ("pmap", 2)])
def test_accumulation_equals_the_full_batch(reference, mode, num_devices):
    config = tiny_config(**RANDOM, accumulate=4, mode=mode)
    found, _ = losses(config, num_devices)
    np.testing.assert_allclose(found, reference[0], rtol=TOLERANCE)


def test_the_average_moves_by_its_share_of_the_way():
    config = tiny_config(ema_decay=0.75)
    first, last = (losses(config, num_devices=1, steps=steps)[1] for steps in (0, 1))
    jax.tree.map(
        lambda new, start, ema: np.testing.assert_allclose(
            ema, 0.75 * start + 0.25 * new, rtol=1e-5, atol=1e-7
        ),
        *(last.params, first.params, last.ema),
    )


def one_device(config):
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    schedule = make_schedule(config.optimizer, total_steps=8, warmup_steps=0, cooldown_steps=0)
    return make_runner(
        config, make_optimizer(config.optimizer, abstract_params(config, mesh), schedule), mesh
    )


def test_means_are_over_the_real_examples():
    """Rows of weight 0 change neither the loss nor the gradient, nor does a whole batch twice."""
    runner = one_device(tiny_config())
    batch = tiny_batch()
    twice = jax.tree.map(lambda x: np.concatenate([x[:8], x[:8]]), batch)
    padded = [{**batch, "weight": np.repeat(np.float32([1, 0]), 8)} for _ in range(2)]
    padded[1]["image"] = tiny_batch(seed=1)["image"].copy()
    padded[1]["image"][:8] = batch["image"][:8]
    found = []
    for rows in (*padded, twice):
        _, metrics = runner.step(runner.init(jax.random.key(0)), runner.put(rows))
        found.append((float(metrics["loss"]), float(metrics["grad_norm"])))
    assert found[0] == found[1]
    np.testing.assert_allclose(found[0], found[2], rtol=TOLERANCE)


def test_each_step_draws_anew():
    runner = one_device(tiny_config(**RANDOM))
    found = []
    for step in (0, 1, 1):
        state = replace(runner.init(jax.random.key(0)), step=jax.numpy.int32(step))
        found.append(float(runner.step(state, runner.put(tiny_batch()))[1]["loss"]))
    assert found[0] != found[1] == found[2]


def test_frozen_parameters_stay_and_cost_no_gradient():
    norms = []
    for freeze in ((), ("blocks/.*", "patch_embed/.*")):
        runner = one_device(tiny_config(optimizer={"freeze": freeze}))
        first = jax.device_get(runner.init(jax.random.key(0)).params)
        state, metrics = runner.step(runner.init(jax.random.key(0)), runner.put(tiny_batch()))
        norms.append(float(metrics["grad_norm"]))
    jax.tree.map(np.testing.assert_array_equal, state.params["blocks"], first["blocks"])
    assert np.any(state.params["head"]["kernel"] != first["head"]["kernel"])
    assert norms[1] < 0.99 * norms[0]


def test_state_is_created_sharded_and_stays_so():
    config = tiny_config(mesh={"data": 1, "fsdp": 8}, optimizer={"name": "adamw"}, ema_decay=0.9)
    mesh = make_mesh(config.mesh)
    schedule = make_schedule(config.optimizer, total_steps=8, warmup_steps=0, cooldown_steps=0)
    tx = make_optimizer(config.optimizer, abstract_params(config, mesh), schedule)
    runner = make_runner(config, tx, mesh)
    state = runner.init(jax.random.key(0))
    kernels = lambda: [tree["blocks"]["mlp"]["up"]["kernel"] for tree in (state.params, state.ema)]
    assert all(k.addressable_shards[0].data.size == k.size // 8 for k in kernels())
    state, _ = runner.step(state, runner.put(tiny_batch()))
    assert all(k.addressable_shards[0].data.size == k.size // 8 for k in kernels())
    kernel = kernels()[0]
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == kernel.shape]
    assert len(moments) == 2
    assert all(m.addressable_shards[0].data.size == m.size // 8 for m in moments)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "expected"),
    [
        (
            18,
            1,
            "batch_size 18 does not divide over 8 devices: set it to a multiple of 8, such as 16",
        ),
        (24, 2, "over 8 devices x 2 microbatches: set it to a multiple of 16, such as 32"),
    ],
)
def test_a_batch_that_does_not_divide_is_named_with_a_near_one_that_does(
    batch_size, accumulate, expected
):
    config = tiny_config(data={"batch_size": batch_size}, accumulate=accumulate)
    with pytest.raises(UserError, match=expected):
        make_runner(config, optax.sgd(0.1), make_mesh(config.mesh))


def test_pmap_refuses_a_model_that_is_split():
    config = tiny_config(mode="pmap", mesh={"data": 1, "fsdp": 8})
    mesh = make_mesh(config.mesh)
    schedule = make_schedule(config.optimizer, total_steps=8, warmup_steps=0, cooldown_steps=0)
    tx = make_optimizer(config.optimizer, abstract_params(config, mesh), schedule)
    with pytest.raises(UserError, match="mode 'pmap' is plain data parallelism"):
        make_runner(config, tx, mesh)
