"""Files of other tools in the place of a model: what they are and what to give, not "unknown workload"."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmworkload.cli.app import app
from mmworkload.errors import ModelError, UnknownNameError
from mmworkload.models import resolve


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.onnx", "an ONNX model"),
        ("MODEL.ONNX", "an ONNX model"),
        ("model.pt2", "torch.export"),
        ("model.pt", "torch.save"),
        ("model.pth", "torch.save"),
        ("model.safetensors", "weights"),
        ("model.gguf", "weights"),
        ("model.h5", "Keras"),
        ("model.tflite", "TensorFlow Lite"),
        ("model.pb", "TensorFlow"),
        ("notes.txt", "no model is read from"),
    ],
)
def test_a_file_that_is_no_model_says_what_it_is_and_what_to_give(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.touch()
    with pytest.raises(ModelError) as caught:
        resolve(str(path))
    assert kind in str(caught.value)
    assert "path/file.py:function" in str(caught.value)
    assert "is not there" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin", "model"])
@pytest.mark.parametrize(
    ("inside", "kind"),
    [
        (["constants.pkl", "data.pkl", "code/net.py"], "a TorchScript module"),
        (["models/model.json", "data/weights/weight_0"], "a program of torch.export"),
        (["data.pkl", "data/0"], "a file of torch.save"),
    ],
)
def test_an_archive_of_pytorch_is_known_by_what_is_in_it(
    name: str, inside: list[str], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as archive:
        for item in inside:
            archive.writestr(f"model/{item}", "")
    with pytest.raises(ModelError, match=f"is {kind}"):
        resolve(str(path))


def test_a_missing_file_of_a_known_kind_is_no_workload_either() -> None:
    with pytest.raises(ModelError, match=r"nowhere/model\.onnx is an ONNX model, and is not there"):
        resolve("nowhere/model.onnx")
    with pytest.raises(UnknownNameError, match="unknown workload 'av-mnst'"):
        resolve("av-mnst")


@pytest.mark.parametrize(
    "command",
    [("show",), ("simulate", "--arch", "eyeriss_like"), ("export", "csv", "--arch", "eyeriss_like"), ("measure",)],
)
def test_every_verb_says_so_in_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.touch()
    before = command[:2] if command[0] == "export" else command[:1]
    result = CliRunner().invoke(app, [*before, str(path), *command[len(before) :], *OUTPUT.get(command[0], [])])
    assert result.exit_code == 2
    assert "torch.save" in result.stderr
    assert "--inputs" in result.stderr
    assert len(result.stderr.splitlines()) == 1


OUTPUT = {"export": ["-o", "out"]}
