"""The page that a run leaves behind."""

import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_config
from zoo.config import UserError
from zoo.config.load import to_dict
from zoo.experiment import report
from zoo.experiment.history import read_history, training_seconds
from zoo.experiment.pictures import heat_uri, image_uri
from zoo.experiment.report import AttentionMap, Mistake, ReportArtifacts, write_report

VOID = {"meta", "img", "path"}
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror="alert(2)">', "</title>&amp;")


class Page(HTMLParser):
    """Elements and text of a page; fails where a tag does not close."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif "style" not in self.open:
            self.text += f" {data}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    @property
    def curves(self) -> dict[str, list[float | None]]:
        """The values under the pointer, by figure and series."""
        titles = re.findall(r"<h3>(.*?)</h3>", self.source)
        blocks = [json.loads(s, parse_constant=pytest.fail) for s in self.scripts[:-1]]
        return {
            f"{title}/{series['name']}": series["y"]
            for title, block in zip(titles, blocks, strict=True)
            for series in block["data"]["series"]
        }


def make_workdir(path: Path, lines: list[dict] | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(to_dict(tiny_config())))
    if lines is not None:
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def train_line(step: int, loss: float = 1.0, **more: float) -> dict:
    return {"step": step, "loss": loss, "learning_rate": 0.1, "grad_norm": 2.0, **more}


def make_artifacts(classes: tuple[str, ...] = ("cat", "dog", "owl"), size: int = 8):
    rng = np.random.default_rng(0)
    confusion = np.diag(np.full(len(classes), 20))
    confusion[0, 1], confusion[2, 0] = 7, 2
    image = rng.integers(0, 256, (size, size, 3), np.uint8)
    return ReportArtifacts(
        split="test",
        classes=classes,
        confusion=confusion,
        mistakes=(Mistake(image, 0, 1, 0.875, 0.125, "test[17]"),) * 24,
        attention=(AttentionMap(image, rng.uniform(0, 1, (4, 4)), 2, 2, "test[3]"),) * 8,
        metrics={"accuracy": 81 / 263, "loss": 0.25, "count": 263},
        num_params=12_345,
        device="8 x TPU v5 lite",
        command="zoo train --config x --workdir y",
    )


LINES = [
    *(train_line(step, loss=2 / step) for step in (1, 2, 3, 4)),
    {"step": 4, "eval/test/loss": 0.75, "eval/test/accuracy": 0.9, "eval/test/count": 50},
]


def test_page_tells_the_result_with_its_interval(tmp_path):
    page = Page(write_report(make_workdir(tmp_path, LINES), artifacts=make_artifacts()))
    assert "30.8 % accuracy on test : 81 of 263 held-out examples" in page.words
    assert "95 % Wilson interval 25.5 – 36.6 %" in page.words
    for fact in (
        "12,345",
        "8 x TPU v5 lite",
        "zoo train --config x --workdir y",
        '"mlp_dim": 32',
        "test[17]",
    ):
        assert fact in page.words
    assert page.curves["Loss/train"] == [2.0, 1.0, 0.66667, 0.5]
    assert page.curves["Loss/test"] == [0.75]
    assert page.curves["Accuracy/test"] == [90.0]


def test_page_asks_for_nothing_from_elsewhere(tmp_path):
    page = Page(write_report(make_workdir(tmp_path, LINES), artifacts=make_artifacts()))
    links = [a[name] for _, a in page.elements for name in ("src", "href", "srcset") if name in a]
    assert len(links) == 24 + 3 * 8
    assert all(link.startswith("data:image/") for link in links if link)
    assert not re.search(r"https?:|url\(|@import|<link|fetch\(", page.source)


def test_names_are_text_never_markup(tmp_path):
    artifacts = make_artifacts(HOSTILE)
    plain = Page(write_report(make_workdir(tmp_path / "a", LINES), artifacts=make_artifacts()))
    page = Page(write_report(make_workdir(tmp_path / "b", LINES), artifacts=artifacts))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert all(name in page.words for name in HOSTILE)


def test_names_of_splits_cannot_leave_the_data_script(tmp_path):
    lines = [*LINES, {"step": 4, "eval/</script><b>/loss": 1.0}]
    page = Page(write_report(make_workdir(tmp_path, lines), artifacts=None))
    assert page.curves["Loss/</script><b>"] == [1.0]
    assert all("</script>" not in name for name, _ in page.elements)


@pytest.mark.parametrize("lines", [None, [], [train_line(50)]])
def test_a_run_that_was_cut_still_has_a_page(tmp_path, lines):
    page = Page(write_report(make_workdir(tmp_path, lines), artifacts=None))
    assert "No evaluation yet." in page.words
    assert ("No metrics are logged yet." in page.words) == (not lines)
    assert ("Loss/train" in page.curves) == bool(lines)


def test_without_artifacts_the_last_logged_evaluation_counts(tmp_path):
    page = Page(write_report(make_workdir(tmp_path, LINES), artifacts=None))
    assert "90.0 % accuracy on test : 45 of 50" in page.words


def test_values_that_are_not_finite_are_said(tmp_path):
    lines = [train_line(s, loss=float("nan") if s in (3, 4) else 1.5) for s in range(1, 6)]
    lines[3]["loss"] = None
    page = Page(write_report(make_workdir(tmp_path, lines), artifacts=None))
    assert "Not a finite number at 2 logged steps, first at step 3, last at 4." in page.words
    assert page.curves["Loss/train"] == [1.5, 1.5, None, None, 1.5]


def test_a_missing_config_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        write_report(tmp_path, artifacts=None)


def test_many_classes_become_a_table_of_pairs(tmp_path):
    artifacts = make_artifacts(tuple(f"class {i}" for i in range(31)))
    page = Page(write_report(make_workdir(tmp_path), artifacts=artifacts))
    assert 'class="matrix' not in page.source
    pairs = report.confusion_view(artifacts)
    assert pairs["pairs"] == [("class 0", "class 1", 7, 27), ("class 2", "class 0", 2, 22)]
    assert pairs["hardest"][0] == ("class 0", 20 / 27, 27)
    assert "class 0 class 1 7 of 27" in page.words


def test_few_classes_are_a_matrix_with_recall(tmp_path):
    page = Page(write_report(make_workdir(tmp_path), artifacts=make_artifacts()))
    assert "recall cat 20 7 74.1 % dog 20 100.0 % owl 2 20 90.9 %" in page.words


def test_a_long_run_stays_a_small_page(tmp_path):
    rng = np.random.default_rng(0)
    lines = [train_line(s, *rng.uniform(1, 2, 1), accuracy=0.5) for s in range(1, 5001)]
    lines[1234]["loss"], lines[2345]["loss"] = 99.0, 0.125
    path = write_report(make_workdir(tmp_path, lines), artifacts=make_artifacts(size=300))
    curve = Page(path).curves["Loss/train"]
    assert path.stat().st_size < 3e6
    assert 900 < len(curve) <= 1002
    assert {99.0, 0.125} <= set(curve)


def test_a_resumed_runs_last_values_win_and_torn_lines_are_counted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [train_line(1), train_line(2, loss=5.0), {"step": 2, "eval/test/loss": 3.0}]
    lines += [train_line(2, loss=4.0), train_line(3)]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 4, "lo\n17\n')
    history, unreadable = read_history(path)
    assert history["loss"] == {1: 1.0, 2: 4.0, 3: 1.0}
    assert history["eval/test/loss"] == {2: 3.0}
    assert unreadable == 2


def test_training_time_follows_from_the_rates():
    rates = {10: 100.0, 20: 50.0, 30: float("nan"), 40: 200.0}
    assert training_seconds({"examples_per_second": rates}, 20) == 2.0 + 4.0 + 1.0


# Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3.
@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (29, 29, 0.8830, 1)],
)
def test_wilson_interval_is_the_published_one(correct, count, low, high):
    assert report.wilson_interval(correct, count) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_stays_within_zero_and_one():
    for count in range(1, 100):
        assert report.wilson_interval(0, count)[0] >= 0
        assert report.wilson_interval(count, count)[1] <= 1


def test_only_all_is_a_hundred_percent():
    assert report.percent(1.0) == "100.0 %"
    assert report.percent(9999 / 10000) == "99.9 %"
    assert report.percent(9999 / 10000, 2) == "99.99 %"


def test_small_pictures_keep_every_pixel_and_large_ones_shrink():
    def decode(uri):
        head, _, data = uri.partition(",")
        return head, np.asarray(Image.open(BytesIO(b64decode(data))))

    image = np.random.default_rng(0).integers(0, 256, (8, 6, 1), np.uint8)
    head, pixels = decode(image_uri(image))
    assert head == "data:image/png;base64"
    assert np.array_equal(pixels, image[..., 0])
    head, pixels = decode(image_uri(np.full((400, 200, 3), (200, 100, 50), np.uint8)))
    assert (head, pixels.shape) == ("data:image/jpeg;base64", (192, 96, 3))
    assert abs(pixels.astype(int) - (200, 100, 50)).max() <= 4
    _, pixels = decode(heat_uri(np.array([[0.0, 1.0]])))
    assert pixels[0, 0, 3] == 0 < pixels[0, 1, 3]


def css_colours(theme: int) -> dict[str, np.ndarray]:
    """The colours of the light (0) or dark (1) theme, as 0 to 1 sRGB."""
    text = (Path(report.__file__).parent / "report.css").read_text()
    block = re.findall(r":root \{(.*?)\}", text, re.S)[theme]
    triples = re.findall(r"--(\w+): (\d+) (\d+) (\d+);", block)
    found = {name: [int(v) for v in rgb] for name, *rgb in triples}
    found |= {n: [*bytes.fromhex(h)] for n, h in re.findall(r"--(\w+): #(\w{6});", block)}
    return {name: np.array(rgb) / 255 for name, rgb in found.items()}


def linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("theme", [0, 1])
def test_text_has_contrast(theme):
    colours = css_colours(theme)
    light = {name: linear(rgb) @ [0.2126, 0.7152, 0.0722] + 0.05 for name, rgb in colours.items()}
    lines = [(name, "page") for name in ("train", "right", "wrong", "third", "fourth")]
    for name, back in [
        ("ink", "page"),
        ("soft", "page"),
        ("ink", "faint"),
        ("soft", "faint"),
        *lines,
    ]:
        a, b = light[name], light[back]
        assert max(a, b) / min(a, b) >= 4.5, (name, back)  # WCAG 2.2, 1.4.3


# Full protanopia, deuteranopia and tritanopia: Machado 2009, IEEE TVCG 15:1291-1298, table 1.
BLINDNESS = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.1523, 1.0526, -0.2049), (0.1145, 0.7863, 0.0992), (-0.0039, -0.0481, 1.0520)),
    ((0.3673, 0.8606, -0.2280), (0.2801, 0.6725, 0.0474), (-0.0118, 0.0429, 0.9689)),
    ((1.2555, -0.0767, -0.1788), (-0.0784, 0.9308, 0.1476), (0.0047, 0.6914, 0.3039)),
)  # fmt: skip


def oklab(rgb):
    """Ottosson 2020: distances in it are near to perceived ones."""
    lms = ((0.41222147, 0.53633254, 0.05144599), (0.2119035, 0.68069955, 0.10739696),
           (0.08830246, 0.28171884, 0.6299787))  # fmt: skip
    lab = ((0.21045426, 0.79361779, -0.00407205), (1.9779985, -2.4285922, 0.45059371),
           (0.0259040, 0.78277177, -0.80867577))  # fmt: skip
    return np.array(lab) @ np.cbrt(np.array(lms) @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize("theme", [0, 1])
def test_lines_stay_apart_for_colour_blind_eyes(theme):
    colours = css_colours(theme)
    for a, b in combinations(("train", "right", "wrong", "third", "fourth"), 2):
        for eye in BLINDNESS:
            seen = [oklab(np.array(eye) @ linear(colours[name])) for name in (a, b)]
            assert np.linalg.norm(seen[0] - seen[1]) > 0.12, (a, b, eye)
