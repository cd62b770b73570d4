"""A plan as a page."""

import re
from html.parser import HTMLParser

import pytest

from tests.planning.plans import a_plan
from zoo.config import UserError
from zoo.experiment.plan_page import LARGEST, roofline, times, write_page
from zoo.planning.chips import CHIPS
from zoo.planning.program import Operation


def test_the_page_is_one_whole_file(tmp_path):
    write_page(tmp_path / "plan.html", [a_plan()], title="llama_1b")
    text = (tmp_path / "plan.html").read_text()

    class Tags(HTMLParser):
        """Open tags, and what they would fetch."""

        def __init__(self):
            super().__init__()
            self.open, self.fetched = [], []

        def handle_starttag(self, tag, attrs):
            self.fetched += [value for name, value in attrs if name in ("src", "href")]
            if tag not in ("meta", "line", "path"):
                self.open.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    tags = Tags()
    tags.feed(text)
    assert (tags.open, tags.fetched) == ([], [])
    for told in ("2 slices of v5e:4x4, 32 chips", "250 ms", "limited by links", "all-reduce"):
        assert told in text
    assert "Layouts that were compiled" not in text


def test_several_plans_are_compared(tmp_path):
    plans = [a_plan(), a_plan(layout_text="data 32; remat none", step_s=0.3)]
    write_page(tmp_path / "plan.html", plans, title="llama_1b")
    rows = re.findall(r"<tr><td>([^<]*remat[^<]*)</td>", (tmp_path / "plan.html").read_text())
    assert rows == [one.layout_text for one in plans]


def test_nothing_that_fits_is_no_page(tmp_path):
    with pytest.raises(UserError, match="no layout fits"):
        write_page(tmp_path / "plan.html", [], title="llama_1b")
    assert not list(tmp_path.iterdir())


def test_times_name_what_takes_them():
    assert times(a_plan())[-2:] == [("links", 0.25), ("network", 0.03)]
    assert times(a_plan(slices=1))[-1] == ("links", 0.25)


def test_operations_stand_on_the_roof():
    """Left of the corner memory is the limit, right of it the chip's products."""
    chip = CHIPS["v5e"]
    corner = chip.flops / chip.hbm_rate
    parts = [
        Operation("forward", "products", int(corner * 10**9 * factor), 10**9, 0.25)
        for factor in (0.25, 0.5, 4, 8)
    ]
    drawn = roofline(a_plan(operations=tuple(parts), step_s=1.0))
    slow, slower, fast, faster = drawn["points"]
    assert [point[3] for point in drawn["points"]] == [True, True, False, False]
    assert slow[1] > slower[1] > fast[1] == faster[1]  # SVG counts from the top
    assert slow[0] < slower[0] < fast[0] < faster[0]
    assert {point[2] for point in drawn["points"]} == {LARGEST / 2}  # a quarter of the step each
    assert drawn["without"] == 0.002
