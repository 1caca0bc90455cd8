"""The HTML report: whole, self-contained, escaped, the same every time."""

from __future__ import annotations

import csv
import html
import importlib.util
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mmworkload import arch
from mmworkload.errors import MmworkloadError, UnavailableError
from mmworkload.measuring.result import Spread
from mmworkload.reporting.figures import standalone, write_figures
from mmworkload.reporting.html import render
from mmworkload.validating.report import Study, report

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "line", "rect", "circle"}
HOSTILE = '<b>"image"</b>&$x$'


class Page(HTMLParser):
    """Elements with their attributes, the text, and what is not well formed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.errors: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        self.errors += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def study(case: Any) -> Study:
    """The case on its accelerator, and a second time, as if by another simulator."""
    design = arch.load("eyeriss_like")
    rows = tuple(replace(row, simulator="other") if row.matrix else row for row in case.simulation.layers)
    other = replace(case.simulation, chosen="other", layers=rows)
    return Study(
        (
            report(case.graph, [case.measurement], case.simulation, arch=design),
            report(case.graph, [case.measurement], other, arch=design),
        ),
        unanswered=("a <simulator> on a chip: not there",),
    )


@pytest.fixture(scope="module")
def source(case: Any) -> str:
    return render(study(case))


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_it_is_well_formed(page: Page) -> None:
    assert page.errors == []
    assert page.elements[0][0] == "html"
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert len(identifiers) > 50


def test_it_asks_nothing_of_the_network(source: str, page: Page) -> None:
    assert "http" not in source
    assert "@import" not in source
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not {"link", "img", "iframe", "object", "embed"} & {tag for tag, _ in page.elements}


def test_every_reference_inside_it_has_a_target(source: str, page: Page) -> None:
    identifiers = {attributes.get("id") for _, attributes in page.elements}
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', source))
    wanted = {first or second for first, second in used}
    wanted |= {name for _, attributes in page.elements if (name := attributes.get("aria-labelledby"))}

    assert wanted
    assert wanted <= identifiers


def test_names_are_escaped_and_shown_as_they_are(source: str, page: Page) -> None:
    assert "<b>" not in source
    assert "b" not in {tag for tag, _ in page.elements}
    assert f"toy/{HOSTILE} on eyeriss_like" in page.text
    assert f"{HOSTILE}.linear" in page.text
    assert "A <fast> CPU" in page.text


def test_both_sides_are_named(page: Page) -> None:
    for expected in ("batch 1", "41.6 k MACs", "float32, on cpu", "16 bits, native to eyeriss_like", "roofline 0."):
        assert expected in page.text
    assert "2026-11-21 02:10 UTC" in page.text
    assert "Not compared. a <simulator> on a chip: not there" in page.text


def test_it_has_every_section_and_layer(case: Any, page: Page) -> None:
    for title in (
        "What bounds it",
        "How far the models are",
        "Where the model is wrong and why",
        "Modalities side by side",
        "Kernel categories",
        "Roofline, measured",
        "Layer times",
        "Errors by operator class",
        "Straggler",
        "What is not covered",
    ):
        assert title in page.text
    for layer in case.graph:
        assert layer.name in page.text
    for key in ("device name", "sdpa enabled", "flash, math", "versions, torch", "2.15.0"):
        assert key in page.text


def test_the_summary_comes_first_and_says_what_bounds_the_workload(page: Page) -> None:
    words = page.text
    assert words.index("Summary") < words.index("What bounds it") < words.index("Layer times")
    # The eager run takes 1.6 times the sum over layers.
    assert "On A <fast> CPU: 62.5 % in kernels, " in words
    assert "On eyeriss_like (roofline): " in words


def test_numbers_sort_by_value(case: Any, page: Page) -> None:
    values = [attributes["data-v"] for tag, attributes in page.elements if tag == "td" and "data-v" in attributes]
    measured = [row.sides.measured_s for row in study(case).reports[0].validation.layers]

    assert {str(value) for value in measured} <= set(values)
    tables = [attributes for tag, attributes in page.elements if tag == "table" and attributes.get("data-name")]
    buttons = [attributes["class"] for tag, attributes in page.elements if tag == "button"]
    assert buttons.count("csv") == len(tables)
    assert len({attributes["data-name"] for attributes in tables}) == len(tables)


def test_every_figure_has_an_alternative_text(page: Page) -> None:
    figures = [attributes for tag, attributes in page.elements if tag == "svg"]

    # Stages, categories, lanes and roofline; scatter and roofline of each comparison.
    assert len(figures) == 8
    assert all(item["role"] == "img" and item["aria-labelledby"] for item in figures)
    assert "Share of time by stage: measured, eyeriss_like, roofline, eyeriss_like, other. encoder/image: " in page.text


def test_every_layer_of_a_drawing_is_named(case: Any, source: str) -> None:
    drawn = re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL)
    scatter = next(text for text in drawn if "Simulated over measured time" in text)
    marks = re.findall(r"<use [^>]*><title>(.*?)</title></use>", scatter)

    assert len(marks) == len(case.graph)
    assert any(text.startswith("cat (cat): ") and text.endswith("simulated") for text in marks)
    assert any("&lt;b&gt;" in text for text in marks)


def test_figures_follow_the_colours_of_the_page(source: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL))

    assert "var(--measured)" in drawn
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawn)) == set()


def test_figures_as_files_stand_alone(case: Any, tmp_path: Path) -> None:
    written = write_figures(study(case), tmp_path / "figures")

    assert len(written) == len(set(written)) == 8
    for path in written:
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("width")
        assert "var(" not in path.read_text()
    with pytest.raises(MmworkloadError, match="is a file"):
        write_figures(study(case), written[0])
    assert 'fill="#ffffff"' in standalone('<svg viewBox="0 0 10 20"><g/></svg>')


def test_the_same_comparison_gives_the_same_bytes(case: Any, source: str) -> None:
    assert render(study(case)) == source


def test_500_layers_stay_below_two_megabytes(make_case: Any, tmp_path: Path) -> None:
    large = make_case(blocks=124)
    path = tmp_path / "deep" / "report.html"
    report(large.graph, [large.measurement], large.simulation).write_html(path)

    assert len(large.graph) == 500
    assert path.stat().st_size < 2_000_000
    assert Page(path.read_text()).errors == []


def test_gaps_and_other_kernels_are_visible(make_case: Any, case: Any) -> None:
    kept = tuple(item for item in case.measurement.layers if item.stage != "fusion")
    gappy = make_case(layers=kept, kernel_difference=0.2)
    text = Page(render(Study((report(gappy.graph, [gappy.measurement], gappy.simulation),)))).text

    assert "Not the user's operators. Eager and graph run different operators for 20.0 %" in text
    assert "fusion: of 1 layers, 1 not measured and 0 not simulated." in text
    assert "1 layer not measured: cat." in text
    assert "The measured rows are not of the kernels that the user's model runs." in text


def test_a_single_stage_leaves_out_what_compares_stages(case: Any) -> None:
    graph = case.graph.only(["head"])
    measured = [item for item in case.measurement.layers if item.stage == "head"]
    simulated = [item for item in case.simulation.layers if item.stage == "head"]
    measurement = replace(case.measurement, layers=tuple(measured), only=("head",))
    simulation = replace(case.simulation, layers=tuple(simulated))
    page = Page(render(Study((report(graph, [measurement], simulation),))))

    assert page.errors == []
    assert "Straggler" not in page.text
    assert "Modalities side by side" not in page.text


def test_a_sum_above_the_eager_time_is_explained_by_row(make_case: Any, case: Any) -> None:
    fast = make_case(eager=Spread.of([case.measurement.layer_sum_s / 2]))
    text = Page(render(Study((report(fast.graph, [fast.measurement], fast.simulation),)))).text

    assert "Why the layers take 2.00\N{MULTIPLICATION SIGN} the eager time" in text
    assert "1 operator, each measured with the profiler" in text or "shorter than the mean cost" in text


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_with_its_extra(case: Any, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "mmworkload.outputs.find_spec", lambda name: None if name == missing else find(name), raising=True
    )

    with pytest.raises(UnavailableError, match=rf"needs {missing}, not installed: pip install 'mmworkload\[report\]'"):
        render(study(case))


def test_an_unwritable_place_leaves_nothing_behind(case: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    with pytest.raises(MmworkloadError, match="Choose another output"):
        study(case).write_html(blocked / "report.html")
    assert list(tmp_path.iterdir()) == [blocked]


# What a reader does, done by a script at the end of the page; its findings become the page's text.
_SESSION = """
<script>
addEventListener("load", () => {
  const found = {errors: window.mistakes};
  const tables = [...document.querySelectorAll("table.sortable")];
  const table = tables.find(item => item.dataset.name.startsWith("layers of"));
  const column = [...table.tHead.rows[0].cells].findIndex(item => item.textContent === "measured");
  const values = () => [...table.tBodies[0].rows].map(row => Number(row.cells[column].dataset.v));
  table.tHead.rows[0].cells[column].querySelector("button").click();
  found.descending = values();
  table.tHead.rows[0].cells[column].querySelector("button").click();
  found.ascending = values();
  found.order = table.tHead.rows[0].cells[column].getAttribute("aria-sort");
  found.drawn = [...document.querySelectorAll("svg")].filter(item => item.getBoundingClientRect().height > 50).length;
  found.requests = performance.getEntriesByType("resource").map(item => item.name);
  const blobs = [];
  const make = URL.createObjectURL.bind(URL);
  URL.createObjectURL = blob => { blobs.push(blob); return make(blob); };
  HTMLAnchorElement.prototype.click = function() { found.file = this.download; };
  table.closest(".scroll").nextElementSibling.querySelector("button.csv").click();
  blobs[0].text().then(text => {
    found.csv = text;
    document.body.innerHTML = "<pre></pre>";
    document.querySelector("pre").textContent = "FOUND" + JSON.stringify(found) + "END";
  });
});
</script>
"""
_WATCH = (
    "<script>window.mistakes = []; addEventListener('error', event => window.mistakes.push(event.message));"
    "console.error = (...all) => window.mistakes.push(all.join(' '));</script>"
)


@pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("chromium-browser")), reason="chromium is not installed"
)
def test_a_browser_shows_sorts_and_downloads_without_an_error(case: Any, source: str, tmp_path: Path) -> None:
    watched = source.replace("<head>", f"<head>{_WATCH}", 1).replace("</body>", f"{_SESSION}</body>", 1)
    (tmp_path / "report.html").write_text(watched)
    done = subprocess.run(
        [
            shutil.which("chromium") or "chromium-browser",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    text = html.unescape(done.stdout.partition("FOUND")[2].rpartition("END")[0])
    found = json.loads(text)

    assert found["errors"] == []
    assert found["requests"] == []
    assert found["drawn"] == 8
    assert found["descending"] == sorted(found["descending"], reverse=True)
    assert found["ascending"] == sorted(found["ascending"])
    assert found["order"] == "ascending"
    assert len(found["ascending"]) == len(case.graph)
    lines = list(csv.reader(io.StringIO(found["csv"])))
    assert lines[0][:3] == ["#", "layer", "operator"]
    assert len(lines) == len(case.graph) + 1
    assert {row[1] for row in lines[1:]} == {layer.name for layer in case.graph}
    assert [float(row[6]) for row in lines[1:]] == found["ascending"]
    assert found["file"].startswith("layers-of-toy-")
    assert found["file"].endswith(".csv")
