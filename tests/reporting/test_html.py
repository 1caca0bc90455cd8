"""The HTML report: whole, self-contained, escaped, the same every time."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mmworkload.errors import MmworkloadError, UnavailableError
from mmworkload.reporting.html import render, write_html
from mmworkload.validating import compare

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "use", "line", "rect", "circle"}
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


@pytest.fixture(scope="module")
def source(case: Any) -> str:
    return render(case.validation, case.graph, case.measurement, case.simulation)


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


def test_the_header_names_both_sides(page: Page) -> None:
    header = page.text.split("Summary")[0]
    for expected in ("batch 1", "41.6 k MACs", "float32, on cpu", "16 bits, native to eyeriss_like", "roofline 0."):
        assert expected in header
    assert "2026-11-21 02:10 UTC" in header


def test_it_has_every_section_and_layer(case: Any, page: Page) -> None:
    for title in ("Stages", "Modalities", "Straggler", "Share by stage", "Layer times", "What is not covered"):
        assert title in page.text
    for layer in case.graph:
        assert layer.name in page.text
    for key in ("device name", "sdpa enabled", "flash, math", "versions, torch", "2.15.0"):
        assert key in page.text


def test_numbers_sort_by_value(case: Any, page: Page) -> None:
    values = [attributes["data-v"] for tag, attributes in page.elements if tag == "td" and "data-v" in attributes]
    measured = [row.sides.measured_s for row in case.validation.layers]

    assert {str(value) for value in measured} <= set(values)
    buttons = [attributes for tag, attributes in page.elements if tag == "button"]
    assert len(buttons) == 12


def test_every_figure_has_an_alternative_text(page: Page) -> None:
    figures = [attributes for tag, attributes in page.elements if tag == "svg"]

    assert len(figures) == 4
    assert all(item["role"] == "img" and item["aria-labelledby"] for item in figures)
    assert "Share of time by stage, measured and simulated. encoder/image: " in page.text


def test_figures_follow_the_colours_of_the_page(source: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL))

    assert "var(--measured)" in drawn
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawn)) == set()


def test_the_same_comparison_gives_the_same_bytes(case: Any, source: str) -> None:
    assert render(case.validation, case.graph, case.measurement, case.simulation) == source


def test_500_layers_stay_below_a_megabyte(make_case: Any, tmp_path: Path) -> None:
    large = make_case(blocks=124)
    path = tmp_path / "deep" / "report.html"
    write_html(large.validation, large.graph, large.measurement, large.simulation, path)

    assert len(large.graph) == 500
    assert path.stat().st_size < 1_000_000
    assert Page(path.read_text()).errors == []


def test_gaps_and_other_kernels_are_visible(make_case: Any, case: Any) -> None:
    kept = tuple(item for item in case.measurement.layers if item.stage != "fusion")
    gappy = make_case(layers=kept, kernel_difference=0.2)
    text = Page(render(gappy.validation, gappy.graph, gappy.measurement, gappy.simulation)).text

    assert "Not the user's kernels. Eager and graph run different kernels for 20.0 %" in text
    assert "fusion: of 1 layers, 1 not measured and 0 not simulated." in text
    assert "1 layer not measured: cat." in text


def test_a_single_stage_leaves_out_what_compares_stages(make_case: Any, case: Any) -> None:
    graph = case.graph.only(["head"])
    measured = [item for item in case.measurement.layers if item.stage == "head"]
    simulated = [item for item in case.simulation.layers if item.stage == "head"]
    measurement = replace(case.measurement, layers=tuple(measured), only=("head",))
    simulation = replace(case.simulation, layers=tuple(simulated))
    page = Page(render(compare(graph, measurement, simulation), graph, measurement, simulation))

    assert page.errors == []
    assert "Straggler" not in page.text
    assert "Share by stage" not in page.text


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_with_its_extra(case: Any, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "mmworkload.reporting.html.find_spec", lambda name: None if name == missing else find(name), raising=True
    )

    with pytest.raises(UnavailableError, match=rf"needs {missing}, not installed: pip install 'mmworkload\[report\]'"):
        render(case.validation, case.graph, case.measurement, case.simulation)


def test_an_unwritable_place_leaves_nothing_behind(case: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    with pytest.raises(MmworkloadError, match="Choose another output"):
        write_html(case.validation, case.graph, case.measurement, case.simulation, blocked / "report.html")
    assert list(tmp_path.iterdir()) == [blocked]
