"""Requests to hubs are refused while a model is built and traced, there only, and the process is then as it was."""

from __future__ import annotations

import json
import os
import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmworkload import verbs
from mmworkload.cli.app import app
from mmworkload.models import resolve
from mmworkload.models.hub import HubError, closed


def state() -> tuple[Any, ...]:
    return (socket.getaddrinfo, dict(vars(socket.socket)), dict(os.environ))


# --- the scope ------------------------------------------------------------------------------------------------------


def connect(address: tuple[str, int]) -> None:
    with socket.socket() as connection:
        connection.connect(address)


def test_within_the_scope_other_machines_are_out_of_reach_and_this_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, closed("hf:x"):
        socket.create_connection(server.getsockname()).close()
        assert socket.getaddrinfo("localhost", 80)
        for ask in (
            lambda: socket.getaddrinfo("hub.example", 443),
            lambda: connect(("192.0.2.1", 443)),
            lambda: urllib.request.urlopen("http://hub.example/weights.pt"),
        ):
            with pytest.raises(HubError, match=r"hf:y: the model asks for (hub\.example|192\.0\.2\.1)"), closed("hf:y"):
                ask()


def test_the_process_is_as_it_was_after_errors_and_nested_scopes() -> None:
    before = state()
    with pytest.raises(ZeroDivisionError), closed("a"), closed("b"):
        _ = 1 / 0
    assert state() == before
    with closed("a"):
        with closed("b"):
            pass
        # The inner scope does not open the outer one.
        with pytest.raises(HubError), closed("a"):
            socket.getaddrinfo("hub.example", 443)
    assert state() == before


def test_an_error_that_a_library_makes_of_a_refusal_is_still_one_error() -> None:
    def library() -> None:
        try:
            socket.getaddrinfo("hub.example", 443)
        except OSError:
            raise ValueError("something went wrong") from None

    with pytest.raises(HubError, match=r"hf:x: the model asks for hub\.example"), closed("hf:x"):
        library()


@pytest.mark.slow
def test_a_caller_who_is_offline_gets_the_same_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "timm_backbone", "backbone": "hf-hub:someone/resnet"}))
    with pytest.raises(HubError, match=r"config\.json: .* asks for .*Nothing is downloaded"):
        resolve(f"hf:{path}").build("meta")


def test_a_library_that_goes_on_without_the_file_may() -> None:
    with closed("hf:x"):
        try:
            socket.getaddrinfo("hub.example", 443)
        except FileNotFoundError:
            answer = "without"
    assert answer == "without"


def test_other_threads_of_the_caller_reach_what_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest: asked.append(host))
    with closed("hf:x"):
        thread = threading.Thread(target=lambda: socket.getaddrinfo("hub.example", 443))
        thread.start()
        thread.join()
    assert asked == ["hub.example"]


def test_what_somebody_replaces_meanwhile_stays_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(*args: Any) -> str:
        return "theirs"

    with closed("hf:x"):
        monkeypatch.setattr(socket, "getaddrinfo", theirs)
    assert socket.getaddrinfo is theirs


def test_a_function_of_the_users_may_ask_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest: asked.append(host))
    path = tmp_path / "asking.py"
    path.write_text(
        "import socket, torch\n"
        "def build():\n"
        "    socket.getaddrinfo('hub.example', 443)\n"
        "    return torch.nn.Linear(3, 2), (torch.zeros(1, 3),)\n"
    )
    assert verbs.trace(f"{path}:build").total_macs == 6
    assert asked == ["hub.example"]


# --- models by name -------------------------------------------------------------------------------------------------

BERT = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 50}
DETR = {"model_type": "detr", "use_timm_backbone": False, "use_pretrained_backbone": False, "num_queries": 5}
ASKING: dict[str, tuple[dict[str, Any], str]] = {
    "repository": ({**DETR, "backbone": "someone/repo"}, "backbone='someone/repo' asks for https://"),
    "timm": (
        {"model_type": "timm_backbone", "backbone": "hf-hub:someone/resnet"},
        "backbone='hf-hub:someone/resnet' asks for https://",
    ),
    "kernel": (
        {**BERT, "attn_implementation": "kernels-community/flash-attn2"},
        "attn_implementation='kernels-community/flash-attn2' asks for a kernel",
    ),
    "private": ({**BERT, "_attn_implementation": "someone/kernel@v1:run"}, "someone/kernel@v1:run' asks for a kernel"),
    "inner": (
        {"model_type": "clip", "text_config": {"attn_implementation": "someone/kernel"}},
        "text_config.attn_implementation='someone/kernel' asks for a kernel",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ASKING)
def test_a_configuration_that_asks_a_hub_is_one_error_that_names_the_entry(
    case: str, tmp_path: Path, calls: list[str]
) -> None:
    import huggingface_hub.utils

    configuration, message = ASKING[case]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(configuration))
    client = type(huggingface_hub.utils.get_session())
    before = (*state(), client.send)
    result = CliRunner().invoke(app, ["show", f"hf:{path}"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.startswith(f"error: hf:{path}: ")
    assert (*state(), client.send) == before
    assert calls == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:someone/model"])
def test_a_model_of_timm_on_a_hub_is_refused_by_name(name: str, calls: list[str]) -> None:
    with pytest.raises(HubError, match=f"timm:{name} asks for a model on a hub"):
        resolve(f"timm:{name}")
    assert calls == []


@pytest.mark.slow
def test_eager_attention_is_no_kernel(small: Callable[..., Path]) -> None:
    assert resolve(f"hf:{small('bert', attn_implementation='eager')}").variant == "BertForMaskedLM"
