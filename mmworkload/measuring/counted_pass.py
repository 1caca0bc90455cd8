"""The program that Nsight Compute watches: one forward pass of a traced model, each node in an NVTX range.

Run as ``python -m mmworkload.measuring.counted_pass REQUEST``, a JSON file with the model's name, what is said about it
(``how``) and the ``layers`` whose kernels count (null: all). Beside it ``answer.json`` appears: the layer of each range
by its number, or what went wrong. A range is called ``node::NUMBER``: keys of nodes hold characters that ncu gives a
meaning.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from mmworkload.errors import MmworkloadError
from mmworkload.measuring.attribution import NODE

ANSWER = "answer.json"


class Tool(Protocol):
    """What tells the profiler where it is."""

    def push(self, name: str) -> None:
        """Opens a range of the thread."""

    def pop(self) -> None:
        """Closes the last range."""

    def start(self) -> None:
        """From here on kernels are counted."""

    def stop(self) -> None:
        """From here on they are not."""


class Nvtx:
    """NVTX ranges and the start and stop of CUDA's profiler interface, as ncu sees them."""

    def push(self, name: str) -> None:
        import torch

        torch.cuda.nvtx.range_push(name)

    def pop(self) -> None:
        import torch

        torch.cuda.nvtx.range_pop()

    def start(self) -> None:
        import torch

        torch.cuda.profiler.start()

    def stop(self) -> None:
        import torch

        torch.cuda.profiler.stop()


class Counted:
    """The ranges of one forward pass. ``layers[n]`` is the layer of the range ``node::n``, empty for a view.

    Parameters
    ----------
    chosen: the layers whose kernels are counted; all kernels of the pass without any.
    """

    def __init__(self, tool: Tool, layer_of_call: Mapping[str, str], chosen: frozenset[str] | None) -> None:
        self.tool = tool
        self.layer_of_call = layer_of_call
        self.chosen = chosen
        self.layers: list[str] = []

    @contextmanager
    def node(self, key: str) -> Iterator[None]:
        """The range of the node with this key."""
        layer = self.layer_of_call.get(key, "")
        self.tool.push(f"{NODE}{len(self.layers)}")
        self.layers.append(layer)
        counted = self.chosen is not None and layer in self.chosen
        try:
            if counted:
                self.tool.start()
            yield
        finally:
            if counted:
                self.tool.stop()
            self.tool.pop()

    @contextmanager
    def forward(self) -> Iterator[None]:
        """The whole pass."""
        if self.chosen is not None:
            yield
            return
        self.tool.start()
        try:
            yield
        finally:
            self.tool.stop()


def run(request: Mapping[str, Any], *, device: str = "cuda", tool: Tool | None = None) -> list[str]:
    """Runs the pass of ``request`` and returns the layers by the number of their range. Raises MmworkloadError."""
    import torch

    from mmworkload.measuring import find_device
    from mmworkload.measuring.guard import guarded
    from mmworkload.measuring.program import bind
    from mmworkload.measuring.ranges import opened_by
    from mmworkload.models import resolve
    from mmworkload.tracing import trace_model

    place = find_device(device)
    model = resolve(request["model"], **request["how"])
    traced = trace_model(model)
    chosen = None if request["layers"] is None else frozenset(request["layers"])
    counted = Counted(tool or Nvtx(), traced.layer_of_call, chosen)
    with guarded(model, device, "reading its counters"), torch.inference_mode():
        program = bind(traced, model.build(device), place)
        # The first pass chooses algorithms and loads kernels; it is in no range.
        program.node_run()()
        forward = program.node_run()
        _wait(place)
        with opened_by(counted.node), counted.forward():
            outputs = forward()
            _wait(place)
        del outputs
    return counted.layers


def _wait(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def main(path: str) -> int:
    """The exit code: 0, or 2 when the answer is an error."""
    request = Path(path)
    try:
        answer: dict[str, Any] = {"layers": run(json.loads(request.read_text()))}
    except MmworkloadError as error:
        answer = {"error": str(error)}
    request.with_name(ANSWER).write_text(json.dumps(answer))
    return 2 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
