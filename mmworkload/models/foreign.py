"""Files of other tools that are given as the name of a model: what each is, and what to give."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mmworkload.errors import ModelError

WEIGHTS = "weights without the network that they belong to"
TORCH = "a file of torch.save, weights or a pickled module"
# PyTorch writes its archives under any suffix; what one is stands in its directory.
PROGRAM = "a program of torch.export"
SCRIPT = "a TorchScript module"
FORMATS = {
    ".onnx": "an ONNX model",
    ".pt2": PROGRAM,
    ".pt": TORCH,
    ".pth": TORCH,
    ".ckpt": "a checkpoint of a training",
    ".safetensors": WEIGHTS,
    ".gguf": WEIGHTS,
    ".h5": "a Keras model",
    ".keras": "a Keras model",
    ".tflite": "a TensorFlow Lite model",
    ".pb": "a TensorFlow graph",
}


def refuse_file(name: str) -> None:
    """ModelError for a name that is a file, by its suffix or because it is there: what it is and what to give."""
    suffix = Path(name).suffix.lower()
    try:
        there = Path(name).is_file()
    except (OSError, ValueError):
        there = False
    if suffix not in FORMATS and not there:
        return
    kind = FORMATS.get(suffix, "a file of a kind that no model is read from")
    if there:
        kind = _archive(Path(name)) or kind
    absent = "" if there else ", and is not there"
    sample = ". As a sample of inputs it goes with --inputs" if kind == TORCH else ""
    raise ModelError(
        f"{name} is {kind}{absent}. Such files are not read: write a function that returns the network in PyTorch and"
        f" example inputs, and name it as path/file.py:function{sample}"
    )


def _archive(path: Path) -> str:
    """What an archive of PyTorch is, by the names in it; empty for any other file. Nothing is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {item.partition("/")[2] for item in archive.namelist()}
    except (OSError, ValueError, zipfile.BadZipFile):
        return ""
    if "constants.pkl" in names:
        return SCRIPT
    if any(item.startswith("models/") and item.endswith(".json") for item in names):
        return PROGRAM
    return TORCH if "data.pkl" in names else ""
