"""A config's step compiled for TPUs that are not there."""

import json

import jax
import pytest

from tests.planning.plans import a_plan
from zoo.cli import main
from zoo.config import UserError, load_config, parse_config
from zoo.config.sizes import row_macs
from zoo.planning import plan as planning
from zoo.planning.lines import plan_lines
from zoo.planning.plan import DoesNotFit, filled, limit_of, plan, total_steps
from zoo.planning.programs import compile_decoding, compile_training
from zoo.planning.topology import chip_of, describe

OVERRIDES = {
    "model.num_classes": "10",
    "mesh.data": "2",
    "mesh.fsdp": "-1",
    "optimizer.name": "adamw",
}


def digits(**changes):
    return load_config("digits_vit", {**OVERRIDES, **changes})


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """What planning puts into the environment goes with the test."""
    for name in ("TPU_SKIP_MDS_QUERY", "ALLOW_MULTIPLE_LIBTPU_LOAD", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("topology", ["v5e", "v5e:16", "h100:4x4", "v5e:4x4x", ""])
def test_a_topology_that_is_none_is_refused(topology):
    with pytest.raises(UserError, match="such as v5e:4x4"):
        chip_of(topology)


def test_what_only_the_data_knows_is_asked_for():
    with pytest.raises(UserError, match=r"config.model.num_classes comes from the data"):
        filled(load_config("digits_vit"))
    with pytest.raises(UserError, match=r"config.model.vocab_size comes from the tokenizer"):
        filled(load_config("lm_imdb"))


def test_what_the_config_knows_is_filled_in():
    model = filled(load_config("llama_1b:llama3.2-1b")).model
    assert (model.vocab_size, model.max_length) == (128_256, 2048)
    model = filled(load_config("lm_imdb", {"model.vocab_size": "4000"})).model
    assert model.max_length == 1024
    assert filled(digits()).model.image_size == 8


def test_a_run_in_epochs_needs_the_number_of_examples():
    assert total_steps(digits(), None) is None
    assert total_steps(digits(total="3 epochs"), 1280) == 3 * 1280 // digits().data.batch_size
    assert total_steps(load_config("llama_1b"), None) == 250_000


def test_slices_need_a_network_of_known_rate():
    with pytest.raises(UserError, match="no published rate: plan one slice, or slices of v5e"):
        plan(digits(), "v4:2x2x1", slices=2)
    with pytest.raises(UserError, match="say how many, with --slices N"):
        plan(digits(**{"mesh.slices": "-1", "mesh.fsdp": "1"}), "v5e:2x2")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--mesh", "16"], "write auto, or sizes such as data=4,fsdp=-1"),
        (["--mesh", "daat=16"], "mesh.daat"),
        (["--mesh", "auto", "--program", "evaluate"], "leave --program evaluate out"),
        (["--html", "nowhere/plan.html"], "cannot write nowhere/plan.html"),
        (["--json", "nowhere/plan.json"], "cannot write nowhere/plan.json"),
    ],
)
def test_a_wrong_flag_is_one_line(flags, told, capsys):
    assert main(["plan", "--config", "llama_1b", "--topology", "v5e:4x4", *flags]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Counts what is compiled, in place of the compiler; the cache is empty."""
    asked = []

    def compile_(config, topology, chip, program):
        asked.append((config, topology, program))
        return a_plan(program=program, total_steps=None, hours=None, chip_hours=None)

    monkeypatch.setattr(planning, "_compile", compile_)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    return asked


class TestCache:
    def test_the_same_plan_is_compiled_once(self, compiler):
        first, second = (plan(digits(), "v5e:2x2") for _ in range(2))
        assert first == second
        assert len(compiler) == 1

    def test_whatever_changes_the_program_compiles_anew(self, compiler, monkeypatch):
        plan(digits(), "v5e:2x2")
        plan(digits(), "v5e:4x4")
        plan(digits(**{"model.remat": "full"}), "v5e:2x2")
        plan(digits(), "v5e:2x2", program="evaluate")
        plan(digits(), "v5e:2x2", slices=2)
        monkeypatch.setattr(planning, "_own_code", lambda: "changed")
        plan(digits(), "v5e:2x2")
        assert len(compiler) == 6

    def test_the_length_of_the_run_is_no_part_of_it(self, compiler):
        short = plan(digits(total="10 steps"), "v5e:2x2")
        assert short.hours == pytest.approx(10 * short.step_s / 3600)
        assert plan(digits(), "v5e:2x2").hours is None
        assert plan(digits(), "v5e:2x2", examples=1437).total_steps == 90 * 1437 // 128
        assert len(compiler) == 2  # the config's total is one of its keys

    def test_a_damaged_file_is_made_anew(self, compiler, tmp_path):
        plan(digits(), "v5e:2x2")
        (file,) = (tmp_path / "plans").iterdir()
        file.write_text("{")
        plan(digits(), "v5e:2x2")
        assert len(compiler) == 2


def test_the_command_writes_what_it_is_asked_for(compiler, tmp_path, capsys):
    files = {flag: tmp_path / f"plan.{flag}" for flag in ("json", "html")}
    flags = [f"--{flag}={file}" for flag, file in files.items()]
    command = ["plan", "--config", "llama_1b", "--topology", "v5e:4x4", "--mesh", "data=4,fsdp=-1"]
    assert main([*command, *flags]) == 0
    assert capsys.readouterr().out.startswith("2 slices of v5e:4x4")
    assert json.loads(files["json"].read_text())["fits"] is True
    assert "<title>Plan of llama_1b" in files["html"].read_text()
    mesh = compiler[0][0].mesh
    assert (mesh.data, mesh.fsdp) == (4, -1)
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["limit"] == "links"


def test_the_limit_is_what_takes_longest():
    chip, waits = chip_of("v5e:4x4"), {"links": 1.0, "network": 3.0}
    assert limit_of(chip, 10**12, 2.0, waits) == "network"
    assert limit_of(chip, 10**12, 2.0, {"links": 2.5, "network": 0.0}) == "links"
    idle = {"links": 0.0, "network": 0.0}
    assert limit_of(chip, int(1.5 * chip.flops), 2.0, idle) == "compute"
    assert limit_of(chip, int(0.5 * chip.flops), 2.0, idle) == "memory"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    pytest.importorskip("libtpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return plan(digits(), "v5e:2x2", examples=1437)


# Without remat, dropout and kernels, so that every product is one of the closed formula's.
PLAIN = {"width": 256, "depth": 4, "mlp_dim": 1024, "num_heads": 4, "dtype": "bfloat16"}
PLAIN |= {"attention": "xla", "remat": "none"}
WORDS = {"name": "text", "tokenizer": "none", "dir": "none", "length": 128, "batch_size": 64}
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
DENSE = {
    "vit": (
        {"patch_size": 16, "num_classes": 1000, "image_size": 224},
        {"name": "tfds:imagenet2012", "image_size": 224, "batch_size": 64},
    ),
    "bert": (
        {"vocab_size": 4096, "head": "pretraining", **NO_DROPOUT},
        {**WORDS, "kind": "masked_lm", "max_predictions": 20},
    ),
    "decoder": ({"vocab_size": 4096}, {**WORDS, "kind": "lm"}),
    "transformer": (
        {"vocab_size": 4096, **NO_DROPOUT},
        {**WORDS, "kind": "seq2seq", "target_length": 128},
    ),
}


def executed(family, *, scan):
    """FLOPs of a device and step on four chips: those executed, and the closed formula's."""
    model, data = DENSE[family]
    config = parse_config(
        {
            "model": {"family": family, **PLAIN, **model, "scan": scan},
            "data": data,
            "optimizer": {"name": "adamw"},
            "total": "1 steps",
        }
    )
    found = plan(config, "v5e:2x2")
    return found.executed_flops, found.model_flops


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("family", "scan"),
    # An unrolled encoder-decoder takes minutes to compile.
    [*((family, True) for family in DENSE), ("vit", False), ("bert", False), ("decoder", False)],
)
def test_flops_are_those_of_the_closed_formula(family, scan, monkeypatch, tmp_path):
    """Within 3 %: a first layer has no gradient of its input, which the formula counts."""
    pytest.importorskip("libtpu")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    found, expected = executed(family, scan=scan)
    assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("topology", ["v6e:2x2", "tpu7x:2x2x1"])
def test_what_a_sparse_core_could_do_is_planned_too(topology, monkeypatch, tmp_path):
    pytest.importorskip("libtpu")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    model = {"width": 512, "depth": 1, "mlp_dim": 512, "num_heads": 4, "vocab_size": 30_000}
    text = {"kind": "lm", "name": "text", "dir": "none", "tokenizer": "none"}
    config = parse_config(
        {
            "model": {"family": "decoder", "dtype": "bfloat16", "attention": "xla", **model},
            "data": text | {"length": 256, "batch_size": 64},
            "mesh": {"data": 1, "fsdp": -1},
        }
    )
    assert {one.axes for one in plan(config, topology).traffic} == {("fsdp",)}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_evaluation_and_decoding_are_planned_too(monkeypatch, tmp_path):
    pytest.importorskip("libtpu")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    found = plan(digits(), "v5e:2x2", program="evaluate")
    assert set(found.memory) == {"parameters", "activations and temporaries"}
    assert {part.phase for part in found.parts} <= {"forward", "update", "unnamed"}
    config = load_config("lm1b", {"data.eval_batch_size": "64", "data.length": "256"})
    found = plan(config, "v5e:1x1", program="decode")
    model = filled(config).model
    cache = 2 * model.depth * 64 * 256 * model.num_kv_heads * model.head_size
    assert found.memory["cache"] == cache * (2 if model.dtype == "bfloat16" else 4)
    assert found.tokens_per_s == pytest.approx(64 / found.step_s)
    # A single query's attention is made of sums, which are no products to the TPU.
    assert 0.7 * found.model_flops < found.executed_flops <= found.model_flops
    assert found.limit == "memory"


def test_decoding_is_for_decoders_on_one_device():
    with pytest.raises(UserError, match="decoder-only"):
        compile_decoding(filled(digits()), jax.devices()[:1])
    with pytest.raises(UserError, match="works on one device"):
        compile_decoding(filled(load_config("lm1b")), jax.devices()[:2])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_what_a_device_cannot_hold_is_said(monkeypatch, tmp_path, capsys):
    pytest.importorskip("libtpu")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    config = load_config("llama_1b", {"data.batch_size": "256", "model.remat": "none"})
    with pytest.raises(DoesNotFit, match=r"GiB are needed and v5e:2x2 has 16 a device") as caught:
        plan(config, "v5e:2x2")
    assert caught.value.needed > 16 * 2**30


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_slices_talk_over_the_network_and_within_over_links(monkeypatch, tmp_path):
    pytest.importorskip("libtpu")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    found = plan(digits(**{"mesh.data": "1", "mesh.fsdp": "4"}), "v5e:2x2", slices=2)
    assert (found.num_chips, found.mesh["slices"]) == (8, 2)
    network = {one.kind for one in found.traffic if one.link == "network"}
    assert network == {"all-reduce"}  # of gradients, each of them once
    assert {one.axes for one in found.traffic if one.link == "network"} == {("slices",)}
    sent = sum(one.wire_bytes for one in found.traffic if one.link == "network")
    assert sent == pytest.approx(found.network_s * 3.125e9)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
class TestCompiled:
    """Of a small model, where libtpu is installed."""

    def test_the_state_is_what_the_program_is_given(self, compiled):
        """By XLA: its arguments are the state and a batch; small arrays fill tiles of 8 x 128."""
        made = compile_training(filled(digits()), describe("v5e:2x2"))
        given = made.executable.memory_analysis().argument_size_in_bytes
        state = compiled.memory["parameters"] + compiled.memory["optimizer"]
        batch = 128 * (8 * 8 + 3 * 4) / 4
        assert state + batch <= given < 3 * (state + batch)

    def test_the_classes_of_memory_are_the_peak(self, compiled):
        assert sum(compiled.memory.values()) == compiled.peak_bytes
        assert min(compiled.memory.values()) > 0
        assert compiled.fits
        # Adam has two numbers for each parameter, and some counts.
        assert 2 <= compiled.memory["optimizer"] / compiled.memory["parameters"] < 2.1

    def test_the_mesh_is_laid_over_the_pod(self, compiled):
        sizes = {"slices": 1, "data": 2, "fsdp": 2, "sequence": 1, "tensor": 1}
        assert (compiled.num_chips, compiled.mesh) == (4, sizes)
        assert compiled.layout_text.startswith("data 2, fsdp 2; ")
        assert compiled.layout["mesh.fsdp"] == 2  # it was -1
        # Parameters are gathered over the axis that splits them, gradients added up over both.
        largest = {one.kind: one.axes for one in reversed(compiled.traffic)}
        assert largest == {"all-gather": ("fsdp",), "all-reduce": ("data", "fsdp")}

    def test_the_time_is_the_longest_of_what_it_waits_for(self, compiled):
        assert compiled.step_s == max(compiled.roofline_s, compiled.links_s)
        assert compiled.limit in ("compute", "memory", "links")
        expected = 6 * row_macs(filled(digits())) * digits().data.batch_size / 4
        assert compiled.model_flops == expected
        assert compiled.executed_flops > 0
        assert compiled.hours == pytest.approx(compiled.total_steps * compiled.step_s / 3600)

    def test_it_is_told_to_people(self, compiled):
        text = "\n".join(plan_lines(compiled))
        assert "4 chips, mesh data 2, fsdp 2;" in text
        assert "all-gather over fsdp" in text

    def test_the_command_prints_json(self, capsys):
        pytest.importorskip("libtpu")
        overrides = [f"--config.{name}={value}" for name, value in OVERRIDES.items()]
        command = ["plan", "--config", "digits_vit", "--topology", "v6e:2x2", "--json"]
        assert main([*command, *overrides]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["num_chips"], found["fits"], found["total_steps"]) == (4, True, None)

    def test_a_batch_that_does_not_divide_is_named(self, capsys):
        pytest.importorskip("libtpu")
        overrides = [f"--config.{name}={value}" for name, value in OVERRIDES.items()]
        command = ["plan", "--config", "digits_vit", "--topology", "v5e:2x2"]
        assert main([*command, *overrides, "--config.data.batch_size=30"]) == 2
        assert "batch_size" in capsys.readouterr().err
