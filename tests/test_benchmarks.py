"""The scripts behind docs/benchmarks.md still do what they did: each on something tiny."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.planning.plans import a_plan
from zoo.config import load_config
from zoo.config.sizes import num_params, row_macs
from zoo.planning.plan import DoesNotFit, filled, total_steps
from zoo.planning.search import Found
from zoo.planning.topology import chip_of

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
TINY = {"width": 16, "depth": 2, "mlp_dim": 32, "num_heads": 2, "patch_size": 16}


@pytest.fixture
def load(monkeypatch):
    """Imports a script by its name; what it does to the environment and the path is undone."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])

    def load(name):
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_every_row_of_tpu_step_is_a_config(load):
    tpu_step = load("tpu_step")
    names = [row.name for row in tpu_step.ROWS]
    assert len(set(names)) == len(names)
    sizes = {"S/16": 22_049_896, "B/16": 86_566_120, "L/16": 304_324_584}  # gap, learned positions
    # With its types, pooler and heads; of 32,000 tokens, without a shared table.
    sizes |= {"BERT-large": 336_226_108, "decoder-1.1B": 1_104_218_112}
    for row in tpu_step.ROWS:
        assert num_params(tpu_step.make_config(row)) == sizes[row.size]


def test_every_shipped_config_is_in_the_table_of_plans(load):
    table = load("plan_table")
    shipped = {path.stem for path in (SCRIPTS.parent / "configs").glob("*.py")}
    assert {row.config.partition(":")[0] for row in table.ROWS} == shipped
    for row in table.ROWS:
        config = filled(load_config(row.config, row.overrides))  # else it names what is missing
        assert total_steps(config, row.examples)
        assert chip_of(row.topology)


def test_the_docs_have_a_plan_that_fits_of_every_row(load):
    table, docs = load("plan_table"), SCRIPTS.parent / "docs"
    rows = json.loads((docs / "plans.json").read_text())
    assert [(row["config"], row["topology"]) for row in rows] == [row[:2] for row in table.ROWS]
    assert all(row["gib"] <= row["hbm_gib"] for row in rows)
    lines = [f"| {' | '.join(table.cells(*one))} |" for one in zip(table.ROWS, rows, strict=True)]
    page = (docs / "plans.md").read_text().splitlines()
    assert [line for line in page if line.startswith("| `")] == lines


def test_a_row_of_the_table_of_plans_falls_back_on_a_search(load, monkeypatch):
    table = load("plan_table")

    def does_not_fit(config, topology, *, examples):
        raise DoesNotFit(config, topology, chip_of(topology), 2**40)

    monkeypatch.setattr(table, "plan", does_not_fit)
    monkeypatch.setattr(table, "search", lambda *_, **__: Found((a_plan(),), (), 1))
    row = table.ROWS[0]
    cells = table.cells(row, table.numbers(row, table.planned(row)))
    assert len(cells) == len(table.HEAD)
    assert cells[3] == a_plan().layout_text
    monkeypatch.setattr(table, "search", lambda *_, **__: Found((), (), 1))
    with pytest.raises(SystemExit, match="fits on no mesh of v5e:2x2"):
        table.planned(row)


@pytest.mark.parametrize("family", ["vit", "bert", "decoder", "transformer"])
def test_the_products_of_cpu_step_are_all_of_a_model(load, family):
    cpu_step = load("cpu_step")
    config = cpu_step.make_config(family)
    macs = sum(times * b * m * k * n for times, b, m, k, n in cpu_step.products(config))
    if family == "vit":  # the pixels' is apart: it needs one gradient only
        macs += 8 * 196 * 768 * 384
    assert macs == config.data.batch_size * row_macs(config)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit", "bert", "decoder", "transformer"])
def test_cpu_step_times_each_row_in_turn(load, monkeypatch, family):
    cpu_step = load("cpu_step")
    data = cpu_step.FAMILIES[family][1] | {"batch_size": 8}
    if family == "vit":
        tiny = {**TINY, "num_classes": 10, "image_size": 32, "channels": 3}
        data = data | {"image_size": 32}
    else:
        tiny = {"width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2, "vocab_size": 300}
        tiny |= {"num_kv_heads": 1} if family == "decoder" else {}
    monkeypatch.setitem(cpu_step.FAMILIES, family, (tiny, data))
    step = cpu_step.zoo_step(cpu_step.make_config(family))
    times = cpu_step.cpu_seconds({"Zoo": step}, 2)
    assert len(times["Zoo"]) == 2
    assert np.isfinite(step()["loss"])


@pytest.mark.slow
def test_loop_overhead_compares_the_loop_with_the_bare_step(load):
    tiny = {f"model.{name}": str(value) for name, value in {**TINY, "patch_size": 4}.items()}
    tiny["optimizer.warmup"] = "1 steps"
    found = load("loop_overhead").measure(tiny, 2, 2)
    assert [*found] == ["CPU", "wall"]
    assert np.all(np.array([*found.values()]) > 0)


def test_input_pipeline_counts_images(load):
    pipeline = load("input_pipeline")
    rows = {"Zoo": pipeline.with_zoo(method="area"), "Pillow": pipeline.with_pillow(2)}
    rates = pipeline.images_per_second(rows, pipeline.make_jpegs(1), 1)
    assert [*rates] == ["Zoo", "Pillow"]
    assert min(rates.values()) > 0
