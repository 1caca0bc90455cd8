"""Small configurations of transformers' model types, the independent count of tests/tracing, and a closed network."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def _load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


count = _load(HERE.parent / "tracing" / "conftest.py", "_fixtures_of_tracing").count


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Path]:
    """``small("clip", projection_dim=8)`` writes a small config.json of that type, with changes, and gives its path."""
    known = json.loads((HERE / "small_configurations.json").read_text())

    def write(kind: str, **changes: Any) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"model_type": kind, **known[kind], **changes}))
        return path

    return write


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Network calls that were tried; each one fails."""
    tried: list[str] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        tried.append(str(args[-1] if args else kwargs))
        raise OSError("the network is closed in this test")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried
