"""Names of others on a page: nothing in them steers a reader, an XML parser or a terminal."""

from __future__ import annotations

import io
import sys
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmworkload.cli.app import app
from mmworkload.cli.progress import bar
from mmworkload.graph import LayerGraph
from mmworkload.reporting.markdown import literal, table
from mmworkload.reporting.stage_plot import write_plot
from mmworkload.reporting.svg import inline, style
from mmworkload.reporting.templates import environment

HOSTILE = "m\x1b[2J\r\u202ex"
WRITTEN = r"m\x1b[2J\r\u202ex"


def only_printable(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text)


def test_markdown_writes_names_out() -> None:
    assert table(["<a"], [[HOSTILE]]).endswith(f"| {WRITTEN} |")
    assert only_printable(literal(HOSTILE + "`" + HOSTILE + "`"))


def test_html_writes_names_out_and_keeps_its_own_lines() -> None:
    text = environment().from_string("<p>\n{{ name }} {{ 3 }}</p>\n").render(name=f"{HOSTILE}<b>\nnext")

    assert text == f"<p>\n{WRITTEN}&lt;b&gt;\nnext 3</p>\n"


def test_a_chart_with_control_characters_in_its_labels_is_xml() -> None:
    from matplotlib.figure import Figure

    with style("chart"):
        figure = Figure()
        axes = figure.subplots()
        axes.set_title(HOSTILE)
        text = inline(figure, "chart", HOSTILE)

    assert only_printable(text)
    assert xml.etree.ElementTree.fromstring(text).find("title").text == WRITTEN  # type: ignore[union-attr]


@pytest.fixture
def graph() -> LayerGraph:
    from mmworkload.tracing.snapshot import recorded

    found = recorded("av-mnist/concat")
    assert found is not None
    layers = (replace(found.layers[0], name=HOSTILE), *found.layers[1:])
    return replace(found, model=HOSTILE, layers=layers)


def test_the_picture_of_stages_is_xml_whatever_the_model_is_called(graph: LayerGraph, tmp_path: Path) -> None:
    write_plot(graph, tmp_path / "stages.svg")
    text = (tmp_path / "stages.svg").read_text()

    assert only_printable(text)
    assert xml.etree.ElementTree.fromstring(text) is not None
    assert WRITTEN in text


@pytest.mark.parametrize(
    "arguments", [("show",), ("show", "--all"), ("show", "--why", "--all"), ("show", "--coverage"), ("trace",)]
)
def test_no_verb_lets_a_saved_graph_steer_the_terminal(
    arguments: tuple[str, ...], graph: LayerGraph, tmp_path: Path
) -> None:
    path = tmp_path / "graph.json"
    graph.save(path)
    verb, *rest = arguments
    result = CliRunner().invoke(app, [verb, str(path), *rest])

    assert result.exit_code == 0
    assert only_printable(result.output)
    assert r"\x1b[2J" in result.stdout or "--coverage" in arguments or verb == "trace"


def test_simulate_writes_out_the_names_of_models_layers_and_architectures(graph: LayerGraph, tmp_path: Path) -> None:
    from mmworkload.plugins import data_files

    path = tmp_path / "graph.json"
    graph.save(path)
    arch = tmp_path / "arch.yaml"
    text = data_files("mmworkload.arch_specs", ".yaml")["eyeriss_like"].read_text()
    arch.write_text(text.replace("name: eyeriss_like", 'name: "a\\e[2J\\u202e"'))

    result = CliRunner().invoke(app, ["simulate", str(path), "--arch", str(arch), "--simulator", "roofline", "--all"])

    assert result.exit_code == 0
    assert only_printable(result.output)
    assert WRITTEN in result.stdout
    assert r"a\x1b[2J\u202e" in result.stdout


def test_a_progress_bar_takes_its_title_literally(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "120")
    with bar(f"simulating {HOSTILE}[red]") as progress:
        progress(1, 2)

    assert f"simulating {WRITTEN}[red]" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
    assert "\u202e" not in stream.getvalue()


def test_a_table_printed_as_csv_steers_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas

    frame = pandas.DataFrame({"layer": [HOSTILE], "kernels": [3]})
    monkeypatch.setattr("mmworkload.analyzing.analyze", lambda *_, **__: frame)
    result = CliRunner().invoke(app, ["analyze", "A1", "result", "--csv"])

    assert (result.exit_code, result.stdout) == (0, f"layer,kernels\n{WRITTEN},3\n")
