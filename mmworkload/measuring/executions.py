"""Other ways to run the user's model, timed in turn with the eager one: ``torch.compile`` and a CUDA graph."""

from __future__ import annotations

import io
import re
import shutil
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError, UnavailableError
from mmworkload.measuring.attribution import Kernel
from mmworkload.measuring.result import FusedKernel

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule

    from mmworkload.graph import LayerGraph
    from mmworkload.measuring.program import Eager, Run

# What the compiler writes above each call in the code that it makes: the nodes of the model that the call computes.
_SOURCES = re.compile(r"#.*Source Nodes: \[(?P<nodes>[^\]]*)\]")
# A call of a kernel that it made itself; others are library kernels, which have names of their own.
_CALL = re.compile(r"^\s*(?P<name>(?:triton|cpp)_\w+?)(?:\.run)?\(")
_LIBRARY = re.compile(r"\bextern_kernels\.|\btorch\.ops\.")
# What its C++ kernels are called in a profile: the number of the graph comes first.
_GRAPH = re.compile(r"^graph_\d+_(?=cpp_)")
_ROOT = re.compile(r"^L\['self'\]\.?")


@dataclass(frozen=True)
class Compiled:
    """A compiled model, ready to run; ``modules`` maps its source nodes to module paths, ``code`` is what was made."""

    program: Eager
    modules: Mapping[str, str]
    code: list[str] = field(default_factory=list)

    def run(self) -> Run:
        """Prepares one forward pass of the compiled model."""
        return self.program.eager_run()


def require_compiler(device: torch.device) -> None:
    """Raises UnavailableError when ``torch.compile`` has no compiler for ``device``."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise UnavailableError("--compile needs Triton on CUDA, which is not there. Install it: pip install triton")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        name = str(get_cpp_compiler())
    except Exception:
        # torch says what it tried by an error of its own, which differs by version.
        name = ""
    if not name or shutil.which(name) is None:
        raise UnavailableError(
            f"--compile needs a C++ compiler on the CPU, and there is none{f' named {name}' if name else ''}. Install"
            " g++, or name one in the environment variable CXX."
        )


def compile_model(program: Eager) -> Compiled:
    """``torch.compile`` of the user's model with its default backend; the first forward pass, run here, compiles it.

    Compiled afresh, so that the compiler says which nodes each kernel covers.
    """
    import torch
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.utils import run_and_get_code

    modules: dict[str, str] = {}

    def backend(graph_module: GraphModule, inputs: Sequence[Any]) -> Any:
        for node in graph_module.graph.nodes:
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            modules[node.name] = _ROOT.sub("", str(stack[-1][0])) if stack else ""
        return compile_fx(graph_module, inputs)

    # torch.compile of a module is a module; its annotation says that it may be called.
    module: Any = torch.compile(program.module, backend=backend, dynamic=False)
    made = replace(program, module=module)
    result = Compiled(made, modules)
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()), torch.inference_mode():
        # The compiler warns of what it would rather have (TF32, a cache): no matter of a measurement.
        warnings.simplefilter("ignore")
        # Without its profile flag the C++ kernels would be in no profile.
        with torch._inductor.config.patch({"force_disable_caches": True, "cpp.enable_kernel_profile": True}):
            _, code = run_and_get_code(made.eager_run())
    result.code.extend(code)
    return result


def sources(code: Iterable[str]) -> dict[str, set[str]]:
    """Kernel made by the compiler to the source nodes that it covers, from the comments in the code.

    A comment holds for the next call alone. Calls of C++ kernels (on the CPU) have none: they are not in the result.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for text in code:
        nodes: list[str] = []
        for line in text.splitlines():
            comment, call = _SOURCES.search(line), _CALL.match(line)
            if comment is not None:
                nodes = [name.strip() for name in comment["nodes"].split(",") if name.strip()]
            elif call is not None:
                if nodes:
                    found[call["name"]].update(nodes)
                nodes = []
            elif _LIBRARY.search(line):
                nodes = []
    return dict(found)


def fused_kernels(
    kernels: Iterable[Kernel], code: Sequence[str], modules: Mapping[str, str], graph: LayerGraph
) -> tuple[FusedKernel, ...]:
    """Kernels of a compiled run by name, longest first: time and calls a run, and the layers that each covers.

    A layer is covered when its module is that of a source node. Kernels of libraries have no source nodes.
    """
    of_module: dict[str, list[str]] = defaultdict(list)
    for layer in graph:
        of_module[layer.module].append(layer.name)
    covered = sources(code)
    times: dict[str, list[float]] = defaultdict(list)
    runs = set()
    for kernel in kernels:
        runs.add(kernel.run)
        times[_GRAPH.sub("", kernel.name)].append(kernel.time_s)
    count = max(1, len(runs))

    def layers(name: str) -> tuple[str, ...]:
        paths = {modules[node] for node in covered.get(name, ()) if node in modules}
        inside = {layer for path in paths for layer in of_module.get(path, ())}
        return tuple(layer.name for layer in graph if layer.name in inside)

    found = [
        FusedKernel(name, layers(name), sum(seconds) / count, round(len(seconds) / count))
        for name, seconds in times.items()
    ]
    return tuple(sorted(found, key=lambda item: -item.time_s))


def captured(program: Eager, device: torch.device) -> Callable[[], Run]:
    """Captures one eager forward pass as a CUDA graph; the function prepares its replay.

    The inputs stay where they are; what the forward pass writes in place is restored before each replay. Raises
    MmworkloadError on a device without CUDA graphs and what the capture raises (a forward pass that synchronises).
    """
    import torch

    require_cuda_graphs(device)
    with torch.inference_mode():
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            # Libraries choose algorithms and take their workspaces in the first runs, which a capture must not do.
            for _ in range(3):
                program.eager_run()()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        run = program.eager_run()
        torch.cuda.synchronize(device)
        with torch.cuda.graph(graph):
            outputs = run()

    def prepare() -> Run:
        program.restore()

        def replay() -> Any:
            graph.replay()
            return outputs

        return replay

    return prepare


def require_cuda_graphs(device: torch.device) -> None:
    """Raises MmworkloadError where there are none."""
    if device.type != "cuda":
        raise MmworkloadError("--cuda-graph needs --device cuda: there are no CUDA graphs on the CPU.")
