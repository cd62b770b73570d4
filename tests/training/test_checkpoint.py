"""Checkpoints: what is saved comes back, damage is noticed, the sound one before it is found."""

import asyncio
import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from zoo.config import UserError
from zoo.config.schema import MeshConfig
from zoo.sharding.mesh import make_mesh
from zoo.training.checkpoint import Checkpoints, best_step, checksum
from zoo.training.step import TrainState

META = {"config": {}, "classes": ["a", "b"]}
TX = optax.adam(1e-3)


def state_of(step, value=1.0, shape=(8, 16)):
    params = {"dense": {"kernel": jnp.full(shape, value), "bias": jnp.arange(16.0) * step}}
    return TrainState(jnp.int32(step), params, jax.tree.map(jnp.copy, params), TX.init(params))


def abstract(state, mesh_config=None):
    mesh = make_mesh(mesh_config or MeshConfig())

    def describe(x):
        spec = P("fsdp") if x.shape == (8, 16) else P()
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(describe, state)


def save(directory, *steps, metrics=None, **options):
    checkpoints = Checkpoints(directory, **options)
    for step in steps:
        checkpoints.save(state_of(step), meta=META, metrics=(metrics or {}).get(step))
    checkpoints.close()


def largest_file(directory: Path) -> Path:
    files = [path for path in directory.rglob("*") if path.is_file() and "meta" not in path.parts]
    return max(files, key=lambda path: path.stat().st_size)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


def test_a_state_comes_back_bit_for_bit_on_another_mesh(directory):
    save(directory, 3)
    like = abstract(state_of(0), MeshConfig(data=2, fsdp=4))
    state, meta = Checkpoints(directory).restore_latest(like)
    assert jax.tree.structure(state) == jax.tree.structure(state_of(3))
    jax.tree.map(np.testing.assert_array_equal, state, state_of(3))
    assert state.params["dense"]["kernel"].addressable_shards[0].data.shape == (2, 16)
    assert meta["classes"] == ["a", "b"]
    assert meta["step"] == 3


def test_nothing_to_restore_is_none(directory):
    assert Checkpoints(directory).restore_latest(abstract(state_of(0))) is None


def test_the_last_ones_and_the_best_are_kept(directory):
    accuracy = {1: 0.5, 2: 0.9, 3: 0.6, 4: 0.7, 5: 0.8}
    metrics = {step: {"test/accuracy": value} for step, value in accuracy.items()}
    save(directory, *metrics, metrics=metrics, keep_last=2, best_metric="test/accuracy")
    checkpoints = Checkpoints(directory, read_only=True)
    assert checkpoints.steps() == [2, 4, 5]
    assert best_step(checkpoints.metas(), "test/accuracy") == 2


def test_of_a_loss_the_smallest_is_best(directory):
    metrics = {step: {"test/loss": value} for step, value in {1: 3.0, 2: 1.0, 3: 2.0}.items()}
    save(directory, *metrics, metrics=metrics, keep_last=1, best_metric="test/loss")
    checkpoints = Checkpoints(directory, read_only=True)
    assert checkpoints.steps() == [2, 3]
    assert best_step(checkpoints.metas(), "test/loss") == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(directory, damage, capsys):
    save(directory, 1, 2)
    file = largest_file(directory / "2" / "params")
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    state, _ = Checkpoints(directory).restore_latest(abstract(state_of(0)))
    assert int(state.step) == 1
    message = capsys.readouterr().err
    assert "checkpoint of step 2 is damaged" in message
    assert (directory.parent / "damaged_checkpoints" / "2").is_dir()
    save(directory, 2)  # the run can go on and save there again
    assert Checkpoints(directory).steps() == [1, 2]


def test_a_read_that_ends_after_another_one_failed_prints_nothing(directory, capfd):
    """What TensorStore does when orbax has closed its event loop at the first error."""
    save(directory, 1)
    Checkpoints(directory).meta(1)
    promise, read = tensorstore.Promise.new()
    loop = asyncio.new_event_loop()
    read.add_done_callback(lambda _: loop.call_soon_threadsafe(print))
    loop.close()
    promise.set_result(None)
    assert capfd.readouterr().err == ""


def test_arrays_of_another_checksum_are_damage_where_the_files_can_be_read(directory, capsys):
    save(directory, 1)
    checkpoints = Checkpoints(directory)
    checkpoints._sums = lambda items: jax.tree.map(lambda x: checksum(x) ^ 1, items)
    checkpoints.save(state_of(2), meta=META)
    checkpoints.close()
    state, _ = Checkpoints(directory).restore_latest(abstract(state_of(0)))
    assert int(state.step) == 1
    assert "step 2 is damaged (the checksum of" in capsys.readouterr().err


def test_another_model_is_refused_with_both_shapes(directory):
    save(directory, 1)
    like = abstract(state_of(0, shape=(8, 10)))
    with pytest.raises(UserError, match=r"dense.kernel is float32\[8, 16\] there.*\[8, 10\]"):
        Checkpoints(directory).restore_latest(like)
    assert Checkpoints(directory).steps() == [1]


def test_another_type_is_refused_and_not_taken_for_damage(directory):
    save(directory, 1)
    like = state_of(0)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), like.params)
    with pytest.raises(UserError, match=r"float32\[16\] there, and bfloat16\[16\]"):
        Checkpoints(directory).restore_latest(abstract(replace(like, params=half)))


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_full_disk_is_one_clear_line_and_the_last_good_step_stays(directory, monkeypatch, when):
    save(directory, 1)
    checkpoints = Checkpoints(directory)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if when == "before":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
        monkeypatch.setattr(checkpoints._manager, "save", lambda *args, **kwargs: None)
    else:
        monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(UserError, match=r"no space left.*step 2.*last good one is of step 1"):
        checkpoints.save(state_of(2), meta=META)


def test_a_state_that_is_not_finite_is_not_saved(directory):
    save(directory, 1)
    checkpoints = Checkpoints(directory)
    with pytest.raises(UserError, match=r"params.dense.kernel.*not finite.*step 2"):
        checkpoints.save(state_of(2, value=float("nan")), meta=META)
    assert checkpoints.steps() == [1]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8])
def test_a_checksum_sees_any_changed_bit_and_swapped_elements(dtype):
    x = jnp.arange(24).reshape(4, 6).astype(dtype)
    sums = {int(checksum(x))}
    for row in range(4):
        for col in range(6):
            sums.add(int(checksum(x.at[row, col].add(jnp.array(1, dtype)))))
    assert len(sums) == 25
    assert int(checksum(x[::-1])) not in sums
    sharded = jax.device_put(x, NamedSharding(make_mesh(MeshConfig(data=-1, fsdp=4)), P("fsdp")))
    assert int(jax.jit(checksum)(sharded)) == int(checksum(x))
