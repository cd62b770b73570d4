"""Plans in words."""

from tests.planning.plans import a_plan
from zoo.planning.lines import plan_lines, search_lines
from zoo.planning.search import Found, TooLarge


def told(lines):
    return " ".join("\n".join(lines).split())


def test_a_plan_says_what_it_needs():
    text = told(plan_lines(a_plan()))
    assert text.startswith("2 slices of v5e:4x4: 32 chips, mesh slices 2, data 4, fsdp 4")
    assert "peak 1.75 GiB of 16" in text
    assert "at least 250.0 ms, limited by links" in text
    assert "backward, products 130.0 ms" in text
    assert "network between slices 30.0 ms" in text
    assert "all-gather over fsdp 3.00 GB, 24 times, 250.0 ms" in text
    assert "1,000 steps, 0.1 hours, 2 chip-hours at least" in text


def test_one_slice_has_no_network():
    text = told(plan_lines(a_plan(slices=1)))
    assert text.startswith("v5e:4x4: 32 chips")
    assert "network" not in text


def test_a_run_without_an_end_asks_for_it():
    assert "give --examples N" in told(plan_lines(a_plan(total_steps=None)))
    evaluation = told(plan_lines(a_plan(program="evaluate", total_steps=None)))
    assert "examples N" not in evaluation
    assert "MFU" not in evaluation


def test_a_search_names_the_fastest_and_its_flags():
    found = Found(
        plans=(a_plan(), a_plan(layout_text="data 32; remat none", step_s=0.3)),
        too_large=(TooLarge("fsdp 32; remat none", 40 * 2**30),),
        considered=123,
    )
    text = told(search_lines(found))
    assert "123 layouts, 3 of them compiled" in text
    assert "fsdp 32; remat none 40.00 does not fit" in text
    flags = "--config.mesh.data=4 --config.mesh.fsdp=4 --config.model.remat=full"
    assert f"the fastest: {flags} --config.accumulate=2" in text


def test_a_search_in_vain_says_so():
    found = Found((), (TooLarge("fsdp 32; remat full", 40 * 2**30),), considered=9)
    assert "none of them fits: take a larger pod" in told(search_lines(found))
