"""What is in a batch: a function of the config, the seed and the step alone."""

import multiprocessing
import os
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.data.batches import ExampleRng, permutation
from zoo.data.image_rows import to_channels
from zoo.data.images import decode
from zoo.data.sources import open_source
from zoo.data.stream import eval_batches, train_batches

DIGITS = ImageData(
    name="digits",
    image_size=8,
    channels=1,
    batch_size=32,
    train_ops=({"op": "pad_crop", "pad": 1}, {"op": "flip"}),
)


def assert_same(a, b):
    assert set(a) == set(b) == {"image", "label", "weight", "index"}
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
        assert a[key].dtype == b[key].dtype


def joined(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


# ---- training ----


def test_batches_hold_what_the_source_holds():
    data = DIGITS.replace(train_ops=())
    source = open_source(data, "train")
    (batch,) = train_batches(data, seed=0, start=3, stop=4)
    assert {k: (v.shape, str(v.dtype)) for k, v in batch.items()} == {
        "image": ((32, 8, 8, 1), "uint8"),
        "label": ((32,), "int32"),
        "weight": ((32,), "float32"),
        "index": ((32,), "int32"),
    }
    assert np.all(batch["weight"] == 1)
    for image, label, index in zip(batch["image"], batch["label"], batch["index"], strict=True):
        np.testing.assert_array_equal(image, source[int(index)]["image"])
        assert label == source[int(index)]["label"]


def share_of(batch_size, host, num_hosts):
    share = batch_size // num_hosts
    return range(host * share, (host + 1) * share)


@pytest.mark.parametrize("num_hosts", [2, 4])
def test_any_number_of_hosts_makes_the_same_global_batches(num_hosts):
    whole = list(train_batches(DIGITS, seed=1, start=0, stop=3))
    parts = [
        list(train_batches(DIGITS, seed=1, start=0, stop=3, own=share_of(32, h, num_hosts)))
        for h in range(num_hosts)
    ]
    for step in range(3):
        assert len(parts[0][step]["label"]) == 32 // num_hosts
        assert_same(joined([part[step] for part in parts]), whole[step])


def test_a_stream_begun_at_a_step_goes_on_as_the_one_begun_at_zero():
    # 1,437 examples are 44.9 batches: the second epoch begins inside batch 44.
    whole = list(train_batches(DIGITS, seed=2, start=0, stop=47))
    later = train_batches(DIGITS, seed=2, start=43)
    for step in range(43, 47):
        assert_same(next(later), whole[step])
    later.close()


@pytest.mark.parametrize("settings", [{"threads": 1}, {"threads": 3, "prefetch": 5}])
def test_threads_and_prefetching_change_nothing(settings):
    plain = train_batches(DIGITS, seed=3, start=5, stop=8)
    other = train_batches(DIGITS.replace(**settings), seed=3, start=5, stop=8)
    for a, b in zip(plain, other, strict=True):
        assert_same(a, b)


def test_every_epoch_is_another_permutation():
    batches = joined(list(train_batches(DIGITS, seed=0, start=0, stop=90)))
    epochs = batches["index"][: 2 * 1437].reshape(2, 1437)
    for epoch in epochs:
        assert sorted(epoch) == list(range(1437))
    assert np.mean(epochs[0] == epochs[1]) < 0.01


def test_repeats_put_augmented_copies_next_to_each_other():
    plain = joined(list(train_batches(DIGITS, seed=4, start=0, stop=3)))
    data = DIGITS.replace(repeats=3)
    repeated = joined(list(train_batches(data, seed=4, start=0, stop=9)))
    np.testing.assert_array_equal(repeated["index"], np.repeat(plain["index"], 3))
    copies = repeated["image"].reshape(96, 3, -1)
    assert np.mean(np.any(copies[:, 0] != copies[:, 1], axis=-1)) > 0.5


def test_another_seed_gives_another_order_and_another_augmentation():
    (a,) = train_batches(DIGITS, seed=0, start=0, stop=1)
    (b,) = train_batches(DIGITS, seed=1, start=0, stop=1)
    assert np.mean(a["index"] == b["index"]) < 0.2
    draws = [ExampleRng(seed).at(7).random() for seed in (0, 1)]
    assert draws[0] != draws[1]


def test_an_examples_randomness_depends_on_its_position_alone():
    rng = ExampleRng(5)
    first = [rng.at(p).integers(0, 2**31, 3, dtype=np.int32).tolist() for p in (0, 1, 2**40)]
    assert len({tuple(draws) for draws in first}) == 3
    # An odd number of 32-bit draws leaves half a word behind, which must not reach the next one.
    again = [rng.at(p).integers(0, 2**31, 3, dtype=np.int32).tolist() for p in (2**40, 1, 0)]
    assert again == first[::-1]


def test_the_order_is_pinned():
    # Resuming with another NumPy, or another version of this file, must find the same order.
    assert permutation(0, 0, 10).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert ExampleRng(0).at(0).bit_generator.random_raw() == 6312158256571094726


def test_the_stream_has_no_end_by_default():
    data = DIGITS.replace(batch_size=2000, train_ops=())
    stream = train_batches(data, seed=0, start=10**9)
    assert len(next(stream)["label"]) == len(next(stream)["label"]) == 2000
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


# ---- evaluation ----


@pytest.mark.parametrize("num_hosts", [1, 2, 4])
def test_evaluation_counts_each_example_once_on_any_number_of_hosts(num_hosts):
    data = DIGITS.replace(eval_batch_size=100, batch_size=7)
    parts = [
        list(eval_batches(data, "test", own=share_of(100, h, num_hosts))) for h in range(num_hosts)
    ]
    assert [len(part) for part in parts] == [4] * num_hosts
    rows = joined([joined([part[i] for part in parts]) for i in range(4)])
    assert len(rows["index"]) == 400
    np.testing.assert_array_equal(rows["index"][:360], range(360))
    assert np.all(rows["weight"][:360] == 1)
    source = open_source(data, "test")
    assert rows["label"][:360].tolist() == [source[i]["label"] for i in range(360)]
    for key, padding in {"weight": 0, "index": -1, "label": 0, "image": 0}.items():
        assert np.all(rows[key][360:] == padding)


def test_evaluation_takes_its_own_operations_and_the_training_batch_size():
    data = DIGITS.replace(image_size=(4, 6), train_ops=(), eval_ops=({"op": "resize"},))
    batch = next(eval_batches(data, "test[:40]"))
    assert batch["image"].shape == (32, 4, 6, 1)


# ---- images that cannot be read ----


@pytest.fixture
def folder(tmp_path):
    """Thirty readable images of two classes, and two that are not."""
    rng = np.random.default_rng(0)
    for i in range(32):
        path = tmp_path / "train" / ("cat", "dog")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    for name in ("cat/10", "dog/25"):
        (tmp_path / "train" / f"{name}.png").write_bytes(b"no image")
    return ImageData(name="folder", dir=str(tmp_path), image_size=8, batch_size=8)


def test_an_unreadable_image_is_an_error_that_names_it(folder):
    with pytest.raises(UserError, match=r"train/(cat/10|dog/25).png is no readable image .*'skip'"):
        list(train_batches(folder, seed=0, start=0, stop=4))
    stream = eval_batches(folder, "train")
    with pytest.raises(UserError, match=r"train/cat/10.png is no readable image"):
        list(stream)
    with pytest.raises(StopIteration):  # the stream is closed
        next(stream)


@pytest.mark.parametrize("threads", [1, 4])
def test_training_puts_the_next_readable_image_in_its_place(folder, caplog, threads):
    data = folder.replace(on_bad_image="skip", threads=threads)
    stream = train_batches(data, seed=0, start=0, stop=8)
    found = joined(list(stream))["index"]
    order = np.concatenate([permutation(0, epoch, 32) for epoch in range(3)])
    source = open_source(data, "train")
    bad = [i for i in range(32) if source[i]["image"] == b"no image"]
    assert len(bad) == 2
    for place, index in enumerate(found):
        assert index == next(i for i in order[place:] if i not in bad)
    # Met twice or more, said once.
    assert set(stream.skipped) == {source.describe(i) for i in bad}
    assert sorted(r.message.split()[1].rstrip(",") for r in caplog.records) == sorted(
        stream.skipped
    )
    assert [r.message.partition("; ")[2] for r in caplog.records] == ["1 so far", "2 so far"]


def test_evaluation_gives_it_no_weight(folder):
    data = folder.replace(on_bad_image="skip")
    stream = eval_batches(data, "train")
    rows = joined(list(stream))
    source = open_source(data, "train")
    assert np.all((rows["weight"] == 0) == [source[i]["image"] == b"no image" for i in range(32)])
    np.testing.assert_array_equal(rows["index"], range(32))
    assert len(stream.skipped) == 2


def test_a_split_of_nothing_readable_is_an_error(folder, tmp_path):
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    data = folder.replace(on_bad_image="skip")
    with pytest.raises(UserError, match="none of the 32 images could be read"):
        next(train_batches(data, seed=0, start=0))


# ---- complaints ----


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"image_size": 9}, r"train\[\d+\]: the image operations leave 8 x 8 pixels"),
        ({"train_ops": ({"op": "flop"},)}, r"data.train_ops\[0\]: there is no op 'flop'"),
        ({"repeats": 0}, "data.repeats is 0: it is 1 or more"),
        ({"workers": -1}, "data.workers is -1"),
        ({"train_split": "train[:0]"}, "give bounds with examples between them"),
    ],
)
def test_what_cannot_work_is_named(settings, complaint):
    data = DIGITS.replace(**({"train_ops": ()} | settings))
    with pytest.raises(UserError, match=complaint):
        next(train_batches(data, seed=0, start=0))


def test_a_host_may_hold_rows_that_are_no_neighbours():
    whole = next(train_batches(DIGITS, seed=0, start=3))
    own = [0, 1, 8, 9, 30]
    part = next(train_batches(DIGITS, seed=0, start=3, own=own))
    assert_same(part, {name: value[own] for name, value in whole.items()})


def test_channels_follow_the_config():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    np.testing.assert_array_equal(to_channels(grey, 3), np.repeat(grey, 3, axis=-1))
    colour = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    png = cv2.imencode(".png", colour[..., ::-1])[1].tobytes()
    difference = to_channels(colour, 1).astype(int) - decode(png, 1)
    assert np.abs(difference).max() <= 1
    data = DIGITS.replace(channels=3)
    assert next(eval_batches(data, "test"))["image"].shape == (32, 8, 8, 3)


# ---- worker processes ----


def test_worker_processes_make_the_same_batches_and_end(folder, caplog):
    data = folder.replace(
        on_bad_image="skip", train_ops=({"op": "pad_crop"}, {"op": "flip"}), prefetch=1
    )
    plain = list(train_batches(data, seed=0, start=2, stop=7))
    caplog.clear()
    with train_batches(data.replace(workers=2), seed=0, start=2) as stream:
        for batch in plain:
            assert_same(next(stream), batch)
        assert len(multiprocessing.active_children()) == 2
        assert len(stream.skipped) == len(caplog.records) == 2
    assert multiprocessing.active_children() == []


def test_an_error_in_a_worker_process_comes_out_as_it_is(folder):
    stream = eval_batches(folder.replace(workers=1), "train")
    with pytest.raises(UserError, match=r"train/cat/10.png is no readable image"):
        list(stream)
    assert multiprocessing.active_children() == []


SCRIPT = """
import multiprocessing, os, signal, sys
import numpy as np
from zoo.config.data import ImageData
from zoo.data.batches import Made
from zoo.data.stream import Stream

class Probe:
    def __call__(self, step):
        bridge = sys.modules.get("jax._src.xla_bridge")
        return Made({"devices": np.array(len(bridge._backends) if bridge else 0)})

    def close(self):
        pass

if __name__ == "__main__":
    stream = Stream(Probe(), ImageData(name="digits", workers=1), 0, None)
    print(next(stream)["devices"], flush=True)
    if sys.argv[1] == "raise":
        raise SystemExit(5)
    if sys.argv[1] == "kill":
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGTERM)  # as a signal to the whole group does
        print(next(stream)["devices"], worker.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("forget", 0), ("raise", 5)])
def test_a_stream_left_open_ends_silently_and_workers_take_no_device(tmp_path, how, code):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "error", str(tmp_path / "script.py"), how]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (code, "0\n", "")


@pytest.mark.slow
def test_a_worker_outlives_a_sigterm_but_not_its_parent(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), "kill"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == -9
    first, second, worker = result.stdout.split()
    assert (first, second) == ("0", "0")
    for _ in range(100):
        try:
            os.kill(int(worker), 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} still runs")
