"""The command line: what scripts rely on, and what a wrong word gets back."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import DATA, MODEL
from zoo.cli import main
from zoo.config import load_config

CONFIG = f"""
from ml_collections import ConfigDict

def get_config(arg=None):
    return ConfigDict(dict(
        model={MODEL!r}, data={DATA!r}, optimizer=dict(name="sgd", lr=0.1, schedule="constant"),
        total="4 steps", log_every="1 steps", eval_every="4 steps", save_every="2 steps",
        profile_at=3, profile_steps=2,
    ))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "workdir"
    assert main(["train", "--config", config, "--workdir", str(path)]) == 0
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "three.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(path)
    return str(path)


def failing(capsys, *argv):
    """The one line that a wrong command prints."""
    code = main([*argv])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_a_run_leaves_all_that_the_contract_names(workdir):
    assert {"config.json", "metrics.jsonl", "checkpoints", "report.html"} <= {
        path.name for path in workdir.iterdir()
    }
    assert any(path.name.startswith("events.out.tfevents") for path in workdir.iterdir())
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if "loss" in line]
    assert [line["step"] for line in train] == [1, 2, 3, 4]
    assert {"learning_rate", "grad_norm"} <= set(train[0])
    assert {"examples_per_second", "mfu"} <= set(train[1])  # the first step compiles
    assert any("eval/test/accuracy" in line for line in lines)
    assert [*(workdir / "profile").rglob("*.xplane.pb")]


def test_eval_gives_the_accuracy_that_training_logged(workdir, capsys):
    assert main(["eval", "--workdir", str(workdir), "--json", "--knn", "5", "--probe"]) == 0
    found = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    logged = next(line for line in lines if "eval/test/accuracy" in line)
    assert found["test/accuracy"] == logged["eval/test/accuracy"]
    assert found["test/count"] == 360
    # Raw pixels of the digits are nearly linearly separable: even hardly trained features are.
    assert found["test/knn5_accuracy"] > 0.5
    assert found["test/probe_accuracy"] > 0.5


def test_predict_names_classes_and_gives_json(workdir, image, capsys):
    path = str(workdir / "checkpoints" / "4")
    assert main(["predict", "--weights", path, image, image, "--top", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["image"] for one in found] == [image, image]
    top = found[0]["top"]
    assert len(top) == 3
    assert top[0]["class"] == str(top[0]["index"])
    assert top[0]["probability"] >= top[1]["probability"] >= top[2]["probability"]
    assert main(["predict", "--workdir", str(workdir), image]) == 0
    assert image in capsys.readouterr().out


def test_inspect_lists_every_array(workdir, capsys):
    assert main(["inspect", str(workdir), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    kernel = next(a for a in found["arrays"] if a["name"] == "params.blocks.mlp.up.kernel")
    assert kernel["shape"] == [2, 16, 32]
    assert kernel["dtype"] == "float32"
    assert found["num_params"] == sum(
        int(np.prod(a["shape"])) for a in found["arrays"] if a["name"].startswith("params.")
    )
    assert found["steps"] == [2, 4]


@pytest.fixture
def other_seed(workdir, tmp_path):
    """The same run with another seed in its config."""
    path = tmp_path / "other"
    path.mkdir()
    for name in ("metrics.jsonl", "run.json"):
        (path / name).write_text((workdir / name).read_text())
    stored = json.loads((workdir / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(stored | {"seed": 1}))
    return path


def test_compare_prints_lines_or_json_and_writes_a_page(workdir, other_seed, tmp_path, capsys):
    argv = ["compare", str(workdir), str(other_seed)]
    page, file = tmp_path / "compare.html", tmp_path / "compare.json"
    assert main([*argv, "--html", str(page), "--json", str(file)]) == 0
    assert "2 runs of one config" in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(file.read_text())
    (group,) = found["groups"]
    assert [(run["seed"], run["step"], run["total_steps"]) for run in group["runs"]] == [
        (0, 4, 4),
        (1, 4, 4),
    ]
    assert main([*argv, "--metric", "loss", "--json"]) == 0
    assert [m["metric"] for m in json.loads(capsys.readouterr().out)["metrics"]] == ["loss"]


def test_what_compare_cannot_do_is_one_line(workdir, other_seed, capsys):
    both = [str(workdir), str(other_seed)]
    for argv, expected in (
        ([str(workdir)], "comparing needs at least two runs"),
        ([str(workdir), "/nowhere"], "/nowhere is no run"),
        ([*both, "--metric", "accuray"], "did you mean 'accuracy'?"),
        ([*both, "--html", "/nowhere/x.html"], "cannot write /nowhere/x.html"),
        (["--json", *both], "name runs before --json"),
    ):
        assert expected in failing(capsys, "compare", *argv)
    (other_seed / "metrics.jsonl").write_text("")
    assert "holds no metrics" in failing(capsys, "compare", *both)


def test_bench_writes_its_numbers(config, tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert main(["bench", "--config", config, "--steps", "3", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["batch_size"] == 16
    assert found["examples_per_second"] > 0
    assert 0 < found["mfu"] < 1
    assert "examples_per_second" in capsys.readouterr().out


def test_data_export_writes_images_that_predict_reads(workdir, tmp_path, capsys):
    assert main(["data", "export", "digits", "--out", str(tmp_path), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert len(files) == 3
    assert main(["predict", "--workdir", str(workdir), *files]) == 0


def test_data_learns_a_tokenizer_and_describes_text(tmp_path, capsys):
    lines = [f"The {word} runs, the {word} ran" for word in ("dog", "cat", "fox")]
    (tmp_path / "train.en").write_text("\n".join(lines))
    (tmp_path / "train.de").write_text("Hund\nKatze\nFuchs")
    where = ["data", "tokenizer", "text", "--dir", str(tmp_path), "--out", str(tmp_path / "new")]
    words = [
        "--field",
        "en",
        "--field",
        "de",
        "--kind",
        "bpe",
        "--vocab-size",
        "265",
        "--lowercase",
    ]
    assert main([*where, *words, "--sentinels", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["size"]) == ("bpe", 265)
    settings = json.loads((tmp_path / "new/zoo_tokenizer.json").read_text())
    assert settings["lowercase"] is True
    assert "<extra_id_1>" in json.loads((tmp_path / "new/vocab.json").read_text())
    assert "is there already" in failing(capsys, *where, *words)
    assert main(["data", "info", "text", "--dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["count"] == 3
    assert "no field 'text'" in failing(capsys, *where[:-1], str(tmp_path / "other"))


def test_help_and_list_load_no_jax_and_answer_at_once():
    script = (
        "import sys, zoo, zoo.cli\n"
        "zoo.cli.main(['list', '--json'])\n"
        "heavy = {'jax', 'numpy', 'flax', 'sklearn', 'cv2', 'tokenizers', 'sentencepiece'}\n"
        "assert not heavy & set(sys.modules), sys.modules\n"
    )
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        best = min(best, time.perf_counter() - start)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert {"models", "configs", "datasets"} == set(found)
    sizes = {model["name"]: model["num_params"] for model in found["models"]}
    assert sizes["vit B/16"] == 86_567_656
    assert best < 1.5


@pytest.mark.slow  # whose set-up has the TPU compiler
def test_a_tpu_compiler_without_a_tpu_says_nothing():
    script = "from zoo.cli import main; main(['list', '--json']); import jax; jax.devices()"
    # Another process may be compiling with libtpu; JAX would not load it here then.
    environ = {**os.environ, "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    for name in ("JAX_PLATFORMS", "TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES"):
        environ.pop(name, None)
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environ
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_every_shipped_config_is_listed(capsys):
    assert main(["list", "configs", "--json"]) == 0
    listed = {row["name"] for row in json.loads(capsys.readouterr().out)["configs"]}
    assert listed == {path.stem for path in Path("configs").glob("*.py")}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("--config.optimizer.lrr=1", "no key config.optimizer.lrr; did you mean 'lr'?"),
        ("--config.model.pool=gapp", "config.model.pool: 'gapp' is not valid; did you mean 'gap'?"),
        ("--config.seed=x", "config.seed: Expected `int`, got `str`"),
        ("--config.total=ten", "config.total: 'ten' is no duration"),
        ("--config.data.batch_size=20", "batch_size 20 does not divide over 8 devices"),
        ("--config.data.batch_size=2000", "more than the 1437 examples"),
        ("--config.data.name=digitss", "digits"),
        ("--config.model.num_classes=7", "num_classes is 7, but digits has 10 classes"),
        ("--config.optimizer.options.b7=1", "b7"),
        ("--config.mesh.fsdp=3", "config.mesh"),
        ("--config.data.train_ops=[{'op':'flipp'}]", "flip"),
        ("--config.init_from=/nowhere", "no checkpoint in /nowhere"),
        ("--config.model.channels=3", "model.channels is 3, but config.data.channels is 1"),
        ("--config.data.pixel_mean=[1,2,3]", "pixel_mean has 3 numbers: give 1 or channels, 1"),
        ("--config.best_metric=test/acc", "did you mean 'test/accuracy'?"),
        ("--config.eval_every=0 steps", "config.eval_every: '0 steps' never comes"),
        ("--config.accumulate=0", "config.accumulate: Expected `int` >= 1"),
        ("--config.keep_last=0", "config.keep_last: Expected `int` >= 1"),
        ("--config.ema_decay=1.0", "config.ema_decay: Expected `float` < 1.0"),
        ("--config.seed=99999999999999999999", "config.seed: Expected `int` <= 2147483647"),
        ("--config.total=1e400 steps", "config.total: '1e400 steps' is longer than any run"),
        ("--config.=1", "a part of KEY is empty"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(config, tmp_path, capsys, override, expected):
    workdir = str(tmp_path / "w")
    argv = ["train", "--config", config, "--workdir", workdir, override]
    assert expected in failing(capsys, *argv)
    assert not Path(workdir).exists()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["train", "--config", "digit_vit", "--workdir", "w"], "did you mean 'digits_vit'?"),
        (["predict", "--workdir", "/nowhere", "x.png"], "no checkpoint in /nowhere"),
        (["inspect", "/nowhere"], "no checkpoint in /nowhere"),
        (["train", "--config", "digits_vit", "--workdir", __file__], "cannot make --workdir"),
        (["bench", "--config", "digits_vit", "--json", "/nowhere/x.json"], "/nowhere"),
        (["data", "info", "cifar11"], "cifar10"),
        (["data", "prepare", "digits"], "needs --out"),
        (["data", "tokenizer", "text"], "needs --out"),
        (["data", "tokenizer", "mnist", "--out", "w"], "'mnist' holds images"),
        (
            ["data", "export", "digits", "--out", "w", "--split", "a", "--split", "b"],
            "--split once",
        ),
        (["data", "info", "digits", "--count", "7"], "zoo data info takes no --count"),
        (["list", "--jsn"], "did you mean '--json'?"),
        ([], "the following arguments are required: COMMAND; see zoo --help"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--config", "digits_vit"], "required: --workdir; see zoo train --help"),
        (["train", "--config", "digits_vit", "--workdir", ""], "--workdir: it is empty"),
        (
            ["train", "--config", "digits_vit", "--workdir", "w", "--steps", "-3"],
            "'-3' is no whole",
        ),
        (["predict", "--workdir", "w", ""], "IMAGE: it is empty"),
        (["bench", "--config", "digits_vit", "--steps", "0"], "'0' is no whole number from 1"),
        (["bench", "--config", "digits_vit", "--json", "/tmp"], "/tmp: it is a directory"),
        (["plan", "--config", "digits_vit", "--topology", "v5e:0x4"], "'v5e:0x4': write"),
        (["reproduce", "--results", "/nowhere/x.jsonl"], "no file of results /nowhere/x.jsonl"),
        (["reproduce", "--results", "/tmp"], "cannot read the results in /tmp: Is a directory"),
        (["reproduce", "digits", "--docs"], "--docs writes pages and runs nothing"),
        (["predict", "--workdir", "w", "x.png", "--config.a=1"], "and this command takes none"),
    ],
)
def test_a_wrong_word_is_one_line_with_the_fix(capsys, argv, expected):
    assert expected in failing(capsys, *argv)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("list.json", "[1, 2]", "list.json holds no config: its JSON is no object"),
        ("exit.py", "import sys\nsys.exit(3)", "exit.py: SystemExit: 3"),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path, capsys, name, text, expected):
    path = tmp_path / name
    path.write_text(text)
    argv = ["train", "--config", str(path), "--workdir", str(tmp_path / "w")]
    assert expected in failing(capsys, *argv)


def test_results_that_are_no_text_are_named(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    assert "it is no text" in failing(capsys, "reproduce", "--results", str(path))


def test_data_that_cannot_be_read_are_counted_and_named(tmp_path, capsys):
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "1.png").write_bytes(b"no image")
    assert main(["data", "check", "folder", "--dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["splits"][0]["count"] == 1
    assert captured.err.startswith("zoo: 1 cannot be read, first ")
    assert "1.png" in captured.err


def test_neighbours_are_no_more_than_examples(workdir, capsys):
    message = failing(capsys, "eval", "--workdir", str(workdir), "--knn", "100000")
    assert "--knn 100000 is more than the 1437 examples" in message


def test_a_missing_or_broken_image_is_named(workdir, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for path in (broken, tmp_path / "missing.png", tmp_path):
        assert str(path) in failing(capsys, "predict", "--workdir", str(workdir), str(path))


def test_another_class_count_than_the_checkpoints_is_named(workdir, tmp_path, capsys):
    other = tmp_path / "other.py"
    other.write_text(CONFIG.replace("'num_classes': 10", "'num_classes': 7"))
    message = failing(capsys, "eval", "--workdir", str(workdir), "--config", str(other))
    assert "head.bias is float32[10] there, and float32[7] in the config" in message


def test_data_of_other_classes_than_the_checkpoints_are_named(config, workdir, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "test" / name / "1.png")
    other = tmp_path / "other.py"
    other.write_text(CONFIG.replace("'num_classes': 10, ", "").replace("'digits'", "'folder'"))
    argv = ["--config", str(other), f"--config.data.dir={tmp_path}"]
    message = failing(capsys, "eval", "--workdir", str(workdir), *argv)
    assert "test has 2 classes, the checkpoint 10" in message


def test_eval_takes_another_resolution(config, workdir, capsys):
    ops = "--config.data.eval_ops=[{'op': 'resize', 'method': 'bilinear'}]"
    argv = ["--config", config, "--config.data.image_size=16", ops, "--json"]
    assert main(["eval", "--workdir", str(workdir), *argv]) == 0
    assert json.loads(capsys.readouterr().out)["test/count"] == 360


def test_eval_changes_keys_of_the_runs_own_config(config, workdir, capsys):
    argv = ["eval", "--workdir", str(workdir)]
    changes = [
        "--config.data.eval_splits={'half': 'test[:180]'}",
        "--config.data.eval_batch_size=8",
    ]
    assert main([*argv, *changes, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["half/count"] == 180
    assert main([*argv, "--config", config, *changes, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    message = failing(capsys, *argv, "--config.data.eval_batchsize=8")
    assert f"{workdir}: there is no key config.data.eval_batchsize" in message


def test_large_counts_are_printed_whole(workdir, monkeypatch, capsys):
    found = {"step": 2_000_000, "test/count": 1_281_167, "test/accuracy": 1 / 3}
    monkeypatch.setattr("zoo.experiment.evaluate.evaluate_weights", lambda *_, **__: found)
    assert main(["eval", "--workdir", str(workdir)]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        "2000000",
        "1281167",
        "0.333333",
    ]


def test_a_signal_ends_with_75_and_the_same_command_goes_on(config, tmp_path, monkeypatch, capsys):
    stop = lambda *_: (os.kill(os.getpid(), signal.SIGTERM), {})[1]
    argv = ["train", "--config", config, "--workdir", str(tmp_path), "--config.eval_every=2 steps"]
    with monkeypatch.context() as patch:
        patch.setattr("zoo.training.loop.evaluate_splits", stop)
        assert main(argv) == 75
    assert "after step 2, saved" in capsys.readouterr().out
    assert main(argv) == 0
    assert "test/accuracy" in capsys.readouterr().out


def test_no_step_and_no_split_leave_a_report_too(config, tmp_path):
    argv = ["train", "--config", config, "--workdir", str(tmp_path), "--steps", "0"]
    assert main([*argv, "--config.data.eval_splits={}"]) == 0
    assert (tmp_path / "report.html").is_file()


def test_a_finished_run_says_its_result_again(config, workdir, capsys):
    assert main(["train", "--config", config, "--workdir", str(workdir)]) == 0
    assert "test/accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "w/x"), 2, "w/x: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    config, tmp_path, monkeypatch, capsys, error, code, expected
):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("zoo.experiment.run.train_loop", refuse)
    assert main(["train", "--config", config, "--workdir", str(tmp_path)]) == code
    message = capsys.readouterr().err
    assert expected in message
    assert message.count("\n") == 1


def test_overrides_reach_into_lists_and_give_types(config):
    given = {"data.train_ops": "[{'op': 'pad_crop', 'pad': 1}]", "data.dir": "None"}
    assert load_config(config, given).data.train_ops == ({"op": "pad_crop", "pad": 1},)
    path = "configs/fashion_mnist_vit.py"
    assert load_config(path, {"data.train_ops.0.pad": "3"}).data.train_ops[0]["pad"] == 3
