"""A config's step compiled for TPUs that are not there."""

import json

import pytest

from zoo.cli import main
from zoo.config import UserError, load_config
from zoo.config.sizes import row_macs
from zoo.planning.chips import CHIPS
from zoo.planning.plan import chip_of, filled, lines, plan, total_steps

OVERRIDES = {
    "model.num_classes": "10",
    "mesh.data": "2",
    "mesh.fsdp": "-1",
    "optimizer.name": "adamw",
}


MESH = {"slices": 1, "data": 2, "fsdp": 2, "sequence": 1, "tensor": 1}


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


@pytest.mark.parametrize(
    ("topology", "slices", "message"), [("v5e:2x2", "-1", "-1 takes"), ("v4:2x2x1", "2", "v4")]
)
def test_slices_that_cannot_be_planned_are_refused(topology, slices, message):
    with pytest.raises(UserError, match=message):
        plan(digits(**{"mesh.slices": slices, "mesh.fsdp": "1"}), topology)


def test_a_run_in_epochs_needs_the_number_of_examples():
    assert total_steps(digits(), None) is None
    assert total_steps(digits(total="3 epochs"), 1280) == 3 * 1280 // digits().data.batch_size
    assert total_steps(load_config("llama_1b"), None) == 250_000


@pytest.fixture(scope="module")
def compiled():
    pytest.importorskip("libtpu")
    return plan(digits(), "v5e:2x2", examples=1437)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
class TestCompiled:
    """Of a small model, where libtpu is installed."""

    def test_the_classes_of_memory_are_the_peak(self, compiled):
        assert sum(compiled.memory.values()) == compiled.peak_bytes
        assert min(compiled.memory.values()) > 0
        assert compiled.fits
        # Adam has two numbers for each parameter, and some counts.
        assert 2 <= compiled.memory["optimizer"] / compiled.memory["parameters"] < 2.1

    def test_the_mesh_is_laid_over_the_pod(self, compiled):
        assert (compiled.num_chips, compiled.mesh) == (4, MESH)
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
        text = "\n".join(lines(compiled))
        assert "4 chips, mesh data 2, fsdp 2;" in text
        assert "all-gather over fsdp" in text

    def test_between_slices_go_the_gradients_alone(self):
        pytest.importorskip("libtpu")
        found = plan(digits(**{"mesh.slices": "2"}), "v5e:2x2")
        assert (found.num_chips, found.mesh) == (8, {**MESH, "slices": 2})
        (between,) = (one for one in found.traffic if "slices" in one.axes)
        assert (between.kind, between.axes) == ("all-reduce", ("slices",))
        # Of two slices each sends what it has of the sums, and fsdp and data have cut those.
        gradients = 4 * found.num_params
        assert gradients / 4 <= between.wire_bytes < 2 * gradients
        assert between.seconds == between.wire_bytes / CHIPS["v5e"].dcn_rate
        assert "2 slices of v5e:2x2: 8 chips, mesh slices 2, data 2, fsdp 2" in lines(found)[0]

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
