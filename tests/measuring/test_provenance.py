"""What is recorded of the machine, where the machine can be replaced by a known one."""

import stat

import pytest

torch = pytest.importorskip("torch")

from mmworkload.measuring import provenance  # noqa: E402


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts a program called nvidia-smi on the path that prints its arguments to a file and one line to stdout."""

    def install(line, code=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\necho "{line}"\nexit {code}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path / "arguments"

    return install


def test_clocks_and_driver_are_asked_of_the_measured_gpu(smi):
    arguments = smi("NVIDIA H200, 580.159.04, P0, 1980, 3201, 1980, 3201, 700.00, 41")
    facts = provenance.nvidia_smi("1234")
    assert "--id=GPU-1234" in arguments.read_text()
    assert facts["driver_version"] == "580.159.04"
    assert facts["clocks.sm"] == "1980"
    assert facts["temperature.gpu"] == "41"


def test_a_query_that_fails_or_is_not_understood_gives_nothing(smi):
    smi("No devices were found", code=6)
    assert provenance.nvidia_smi() == {}
    smi("something else")
    assert provenance.nvidia_smi() == {}


def test_a_machine_without_the_tool_gives_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.nvidia_smi() == {}
    assert provenance.git_revision() == ""


def test_attention_backends_that_may_be_chosen():
    assert set(provenance.sdpa_enabled()) <= {"flash", "efficient", "cudnn", "math"}
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        assert "flash" not in provenance.sdpa_enabled()
    finally:
        torch.backends.cuda.enable_flash_sdp(True)
    assert "flash" in provenance.sdpa_enabled()
