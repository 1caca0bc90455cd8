"""The command line: what it prints, and that bad input is one clear error with exit code 2 and nothing half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mmworkload.cli.app import app
from mmworkload.graph import LayerGraph

MINE = """
import torch
from torch import nn

class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.see, self.hear, self.head = nn.Linear(8, 4), nn.LSTM(6, 4, batch_first=True), nn.Linear(8, 3)

    def forward(self, image, audio):
        return self.head(torch.cat([self.see(image), self.hear(audio)[0][:, -1]], dim=-1))

def build(batch=2):
    return Both(), {"image": torch.zeros(batch, 8), "audio": torch.zeros(batch, 5, 6)}

def broken():
    return nn.Linear(4, 4), (torch.zeros(2, 5),)

def raises():
    raise ValueError("no such checkpoint")

class Reads(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum().item() > 0 else x

def reads():
    return Reads(), (torch.zeros(3),)

@torch.library.custom_op("mmworkload_cli_test::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

@mystery.register_fake
def _(x):
    return torch.empty_like(x)

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return torch.ops.mmworkload_cli_test.mystery(self.inner(x))

def odd():
    return Odd(), (torch.zeros(2, 4),)
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "mine.py"
    path.write_text(MINE)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def refused(*arguments: object) -> str:
    """The one error line of a command that must fail with exit code 2 and print nothing on stdout."""
    result = run(*arguments)
    assert result.exit_code == 2, (result.exit_code, result.stdout, result.stderr)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_trace_json_is_the_contract_for_av_mnist() -> None:
    result = run("trace", "av-mnist/concat", "--json")
    data = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (data["schema_version"], data["model"], data["variant"], data["batch"]) == (
        2,
        "av-mnist/concat",
        "concat",
        1,
    )
    assert (data["total_macs"], data["total_params"], data["built_params"], data["outer_macs"]) == (
        11993032,
        260922,
        260922,
        0,
    )
    assert data["stages"]["encoder/image"]["macs"] == 464928
    assert data["stages"]["encoder/audio"]["macs"] == 11503104
    assert data["stages"]["head"] == {
        "layers": 3,
        "macs": 25000,
        "useful_macs": 25000,
        "outer_macs": 0,
        "params": 25110,
        "weight_bytes": 100440,
        "activation_bytes": (240 + 100 + 100 + 100 + 100 + 10) * 4,
        "vector_ops": 100 + 100 + 10,
    }
    assert data["coverage"]["unknown"] == []
    assert {"operator", "module", "macs", "bytes"} <= set(data["coverage"]["lowered"][0])
    assert sum(item["macs"] for item in data["coverage"]["lowered"]) == 11993032


def test_default_variant_and_alias_name_the_same_model() -> None:
    graphs = [json.loads(run("trace", name, "--json").stdout) for name in ("av-mnist", "av-mnist/slfs")]
    assert graphs[0] == graphs[1]
    assert graphs[0]["model"] == "av-mnist/concat"


def test_batch_scales_macs_exactly_and_not_parameters() -> None:
    data = json.loads(run("trace", "mujoco-push/late", "--batch", 7, "--json").stdout)
    assert data["total_macs"] == 7 * 439403520
    assert data["total_params"] == 1904986


def test_dtype_halves_the_weight_bytes() -> None:
    data = json.loads(run("trace", "av-mnist/concat", "--dtype", "bfloat16", "--json").stdout)
    assert sum(stage["weight_bytes"] for stage in data["stages"].values()) == 2 * 260922


def test_only_keeps_the_stages_that_match() -> None:
    data = json.loads(run("trace", "mujoco-push", "--only", "encoder/*", "--only", "fusion", "--json").stdout)
    assert list(data["stages"]) == ["encoder/position", "encoder/sensors", "encoder/image", "encoder/control", "fusion"]
    one = json.loads(run("trace", "mujoco-push", "--only", "encoder/image", "--json").stdout)
    assert (list(one["stages"]), one["total_macs"]) == (["encoder/image"], 423231488)


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_saved_graph_is_a_model(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"graph{suffix}"
    assert run("trace", "av-mnist/image", "-o", path).exit_code == 0
    again = json.loads(run("trace", path, "--json").stdout)
    assert again["total_params"] == 7077
    assert LayerGraph.load(path).to_dict() == again


def test_a_csv_has_one_row_a_layer(tmp_path: Path) -> None:
    import pandas

    path = tmp_path / "graph.csv"
    run("trace", "av-mnist/image", "-o", path)
    frame = pandas.read_csv(path)
    assert (len(frame), int(frame["macs"].sum())) == (23, 149032)


def test_a_users_function_with_keyword_inputs(mine: Path) -> None:
    data = json.loads(run("trace", f"{mine}:build", "--batch", 3, "--json").stdout)
    # Linear 8x4; LSTM 5 steps of 4 gates x 4 x (6 + 4); Linear 8x3.
    assert data["total_macs"] == 3 * (8 * 4 + 5 * 16 * (6 + 4) + 8 * 3)
    assert list(data["stages"]) == ["encoder/image", "encoder/audio", "fusion", "head"]


# MMBench, Table 3.
NINE = {
    "av-mnist", "mm-imdb", "cmu-mosei", "mustard", "medical-vqa", "medical-seg", "mujoco-push", "vision-touch",
    "transfuser",
}  # fmt: skip


def test_list_workloads_json_names_every_variant_with_its_source() -> None:
    listed = {item["name"]: item for item in json.loads(run("list", "workloads", "--json").stdout)}
    assert set(listed) >= NINE
    variants = [variant["name"] for variant in listed["av-mnist"]["variants"]]
    assert variants[0] == "av-mnist/concat"
    assert {"av-mnist/tensor", "av-mnist/image", "av-mnist/audio"} < set(variants)
    assert sum(len(item["variants"]) for item in listed.values()) >= 60
    assert all(variant["source"] for item in listed.values() for variant in item["variants"])


def test_show_fits_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("show", "mujoco-push/late", "--all", "--why")
    assert result.exit_code == 0
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert "encoder/position" in result.stdout


def test_export_writes_a_folder_and_refuses_a_foreign_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", "timeloop", "av-mnist", "--arch", "eyeriss_like", "-o", out).exit_code == 0
    first = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run("export", "timeloop", "av-mnist", "--arch", "eyeriss_like", "-o", out).exit_code == 0
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == first
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter1.tex").write_text("precious")
    assert str(foreign) in refused("export", "timeloop", "av-mnist", "--arch", "eyeriss_like", "-o", foreign)
    assert (foreign / "chapter1.tex").read_text() == "precious"


def test_roofline_simulation_as_json(tmp_path: Path) -> None:
    result = run("simulate", "av-mnist", "--arch", "eyeriss_like", "--simulator", "roofline", "--json")
    data = json.loads(result.stdout)
    assert data["simulator"] == "roofline"
    assert sum(layer["macs"] for layer in data["layers"]) == 11993032


def test_an_unknown_model_suggests_the_nearest() -> None:
    assert "av-mnist" in refused("trace", "avmnist/concat")
    assert "av-mnist/concat" in refused("show", "av-mnist/conct")
    assert "resnet50" in refused("trace", "torchvision:resnet5O")


def test_an_unknown_architecture_suggests_the_nearest() -> None:
    assert "eyeriss_like" in refused("simulate", "av-mnist", "--arch", "eyeris_like")


def test_unknown_kinds_of_things_are_named(tmp_path: Path) -> None:
    assert "timeloop" in refused("export", "timelop", "av-mnist", "--arch", "eyeriss_like", "-o", tmp_path / "o")
    assert "zigzag" in refused("simulate", "av-mnist", "--arch", "eyeriss_like", "--simulator", "zigzg")
    assert "workloads" in refused("list", "workload")
    assert "bfloat16" in refused("trace", "av-mnist", "--dtype", "bflot16")
    assert "encoder/image" in refused("trace", "av-mnist", "--only", "encoder/imag")
    assert "cuda" in refused("measure", "av-mnist", "--device", "cdua")


def test_a_batch_below_one_is_refused() -> None:
    assert "--batch 0" in refused("trace", "av-mnist", "--batch", 0)


def test_a_function_that_raises_is_one_line_with_its_place(mine: Path) -> None:
    error = refused("trace", f"{mine}:raises")
    assert "ValueError: no such checkpoint" in error
    assert "mine.py" in error


def test_a_forward_that_fails_is_named(mine: Path) -> None:
    assert "the forward pass raised RuntimeError" in refused("trace", f"{mine}:broken")


def test_a_forward_that_reads_values_says_where_and_what_to_do(mine: Path) -> None:
    error = refused("trace", f"{mine}:reads")
    assert "mine.py" in error
    assert ".item()" in error


def test_a_function_that_is_not_there_is_suggested(mine: Path) -> None:
    assert "build" in refused("trace", f"{mine}:biuld")
    assert "no file" in refused("trace", "nowhere.py:build")


def test_unknown_operators_are_refused_under_strict_and_counted_otherwise(mine: Path, tmp_path: Path) -> None:
    error = refused("simulate", f"{mine}:odd", "--arch", "eyeriss_like", "--simulator", "roofline")
    assert "mmworkload_cli_test.mystery" in error
    assert "--no-strict" in error
    assert not (tmp_path / "o").exists()
    data = json.loads(run("trace", f"{mine}:odd", "--json").stdout)
    assert [(item["operator"], item["calls"], item["bytes"]) for item in data["coverage"]["unknown"]] == [
        ("mmworkload_cli_test.mystery", 1, 2 * 2 * 4 * 4)
    ]
    assert run("simulate", f"{mine}:odd", "--arch", "eyeriss_like", "-s", "roofline", "--no-strict").exit_code == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("{}", "schema_version"),
        ('{"schema_version": 99}', "99"),
        (
            '{"schema_version": 1}',
            "schema_version 1 cannot be read by this version, which reads 2; trace the",
        ),
        ('{"schema_version": 2}', "not a complete layer graph"),
        ("\x00\x01", "graph.json"),
    ],
)
def test_a_corrupt_graph_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(text)
    error = refused("show", path)
    assert "graph.json" in error
    assert complaint in error


def test_a_truncated_graph_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    run("trace", "av-mnist/image", "-o", path)
    path.write_text(path.read_text()[:-3000])
    assert "graph.yaml" in refused("simulate", path, "--arch", "eyeriss_like", "-s", "roofline")


def test_an_output_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert "file" in refused("trace", "av-mnist", "-o", blocked / "graph.json")
    assert ".json, .yaml, .yml or .csv" in refused("trace", "av-mnist", "-o", tmp_path / "graph.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
