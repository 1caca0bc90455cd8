"""Training iterations: forward pass, backward pass and update of the parameters, end to end, by stage and by layer.

The data are random, so that the loss is a declared one, of the outputs alone. End to end it is the user's eager model
in training mode. Stages and layers are those of its program, traced in that mode: autograd numbers its backward nodes
as the forward pass makes them, and these numbers say which stage and layer a piece of backward work belongs to.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError, ModelError
from mmworkload.measuring.attribution import BACKWARD, NODE, Kernel, backward_ranges, kernels, per_layer
from mmworkload.measuring.guard import guarded
from mmworkload.measuring.memory import storage_bytes
from mmworkload.measuring.profiling import memory_changes, profiled, run_names
from mmworkload.measuring.program import bind
from mmworkload.measuring.ranges import opened_by
from mmworkload.measuring.result import Spread, Training, TrainingLayer, TrainingStage
from mmworkload.measuring.stages import Timer, stage_of_call
from mmworkload.measuring.timing import alternated, warmed

if TYPE_CHECKING:
    import torch

    from mmworkload.graph import LayerGraph
    from mmworkload.measuring.program import Eager, Run
    from mmworkload.models import Model
    from mmworkload.tracing import Traced

LEARNING_RATE = 1e-4
LOSS_TEXT = "mean of the squares of each floating-point output, summed"
OPTIMIZER_TEXT = f"stochastic gradient descent, no momentum, learning rate {LEARNING_RATE:g}"
# The row of the loss; those of phases.
LOSS = "loss"
PHASES = ("forward", "backward", "update")
VIEWS = "(views)"
# Between the phases of a stage sample; no time of the iteration.
_ASIDE = "aside"
_UPDATE = "update/"
PROFILED_RUNS = 5


def measure_training(
    model: Model, traced: Traced, device: torch.device, *, warmup: int, repeats: int, limit_s: float
) -> Training:
    """Times training iterations of ``model`` on ``device``; ``traced`` is its trace in inference mode.

    ``warmup``, ``repeats`` and ``limit_s`` as in :func:`mmworkload.measuring.take`. Raises MmworkloadError for a model
    that has nothing to train or does not fit, and ModelError when it fails.
    """
    from mmworkload.tracing import trace_model

    with guarded(model, device.type, "building it for training"):
        built = model.build(device.type)
        built.module.train()
        own, note = None, ""
        try:
            own = trace_model(model, "export", training=True)
        except ModelError as error:
            note = f"no stages and layers: {error}"
        program = bind(own or traced, built, device)
        updates = _optimizers(program.module, own.graph if own else None, model.name)
    # A program's own runner prepares the eager model all the same.
    phases = PhaseSampler(program, list(updates.values()), model.name, device)
    samplers: list[Callable[[], float]] = [phases]
    stages = None
    if own is not None:
        stages = StagePhaseSampler(program, stage_of_call(own.graph, own.layer_of_call), updates, model.name, device)
        samplers.append(stages)
    for sample in samplers:
        with guarded(model, device.type, "training it"):
            warmed(sample, warmup=max(1, warmup), limit_s=limit_s / (6 * len(samplers)))
    phases.taken.clear()
    if stages is not None:
        stages.taken.clear()
    with guarded(model, device.type, "timing its training"):
        iteration, *_ = alternated(samplers, repeats=repeats, limit_s=limit_s / 2)
    rows: tuple[TrainingStage, ...] = ()
    layers: tuple[TrainingLayer, ...] = ()
    unattributed_s, attributed_share = 0.0, None
    if own is not None and stages is not None:
        runs = max(1, min(repeats, PROFILED_RUNS, int(limit_s / (4 * iteration.median_s))))
        with guarded(model, device.type, "profiling its training"):
            found, starts = _profile(program, updates, runs, model.name, device)
        rows, layers, unattributed_s, attributed_share = attribute(
            own, found, [key for _, key in starts], stages.taken, run_names(runs)
        )
    with guarded(model, device.type, "measuring the memory of its training"):
        peak_bytes = _peak_memory(phases, device)
    return Training(
        loss=LOSS_TEXT,
        optimizer=OPTIMIZER_TEXT,
        iteration=iteration,
        **{name: Spread.of([sample[name] for sample in phases.taken]) for name in PHASES},
        stages=rows,
        layers=layers,
        unattributed_s=unattributed_s,
        attributed_share=attributed_share,
        peak_memory_bytes=peak_bytes,
        note=note,
    )


def loss_of(outputs: Any, name: str) -> torch.Tensor:
    """The loss of what a forward pass gives. MmworkloadError when no floating-point output has a gradient."""
    import torch
    from torch.utils import _pytree

    tensors = [item for item in _pytree.tree_leaves(outputs) if isinstance(item, torch.Tensor)]
    trained = [item for item in tensors if item.is_floating_point() and item.requires_grad]
    if not trained:
        raise MmworkloadError(
            f"{name} cannot be trained: none of its {len(tensors)} outputs is a floating-point tensor that depends on a"
            " parameter. Measure it with --mode infer."
        )
    return torch.stack([item.float().square().mean() for item in trained]).sum()


def _optimizers(module: torch.nn.Module, graph: LayerGraph | None, name: str) -> dict[str, torch.optim.SGD]:
    """One optimizer for the parameters of each stage, in order of first use; those that no layer reads come last.

    Together they step as one would: parameters of a group are stepped on their own.
    """
    import torch

    stage_of: dict[str, str] = {}
    for layer in graph or ():
        for tensor, _ in layer.reads:
            stage_of.setdefault(graph.tensors[tensor].storage, layer.stage)  # type: ignore[union-attr]
    found: dict[int, tuple[torch.nn.Parameter, str]] = {}
    for path, item in module.named_parameters(remove_duplicate=False):
        if item.requires_grad and (id(item) not in found or path in stage_of):
            found[id(item)] = item, stage_of.get(path, "")
    if not found:
        raise MmworkloadError(
            f"{name} cannot be trained: it has no parameter that requires a gradient. Measure it with --mode infer."
        )
    order = [*dict.fromkeys(stage_of.values()), ""]
    groups: dict[str, list[torch.nn.Parameter]] = {stage: [] for stage in order}
    for item, stage in found.values():
        groups[stage].append(item)
    return {stage: torch.optim.SGD(items, lr=LEARNING_RATE) for stage, items in groups.items() if items}


def _update(optimizer: torch.optim.SGD) -> None:
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class PhaseSampler:
    """Prepares and times one iteration of the eager model; ``taken`` holds the seconds of each phase."""

    def __init__(self, program: Eager, optimizers: Sequence[torch.optim.SGD], name: str, device: torch.device) -> None:
        import torch

        self.program = program
        self.optimizer = torch.optim.SGD(
            [item for part in optimizers for group in part.param_groups for item in group["params"]], lr=LEARNING_RATE
        )
        self.name = name
        self.device = device
        self.timer = Timer(device)
        self.taken: list[dict[str, float]] = []

    def __call__(self) -> float:
        """The seconds of the whole iteration."""
        run = self.prepare()
        _settle(self.device)
        self.timer.begin()
        run()
        seconds = self.timer.seconds()
        self.taken.append(seconds)
        return sum(seconds.values())

    def prepare(self) -> Run:
        """One iteration, ready to run."""
        run = prepared(self.program, self.program.eager_run)

        def iteration() -> None:
            self.timer.mark("forward")
            loss = loss_of(run(), self.name)
            self.timer.mark("backward")
            loss.backward()
            self.timer.mark("update")
            _update(self.optimizer)

        return iteration


class StagePhaseSampler:
    """Prepares and times one iteration of the traced program stage by stage; ``taken`` holds seconds by phase and
    stage, as ``"backward head"``."""

    def __init__(
        self,
        program: Eager,
        stage_of_call: Mapping[str, str],
        updates: Mapping[str, torch.optim.SGD],
        name: str,
        device: torch.device,
    ) -> None:
        self.program = program
        self.updates = updates
        self.name = name
        self.device = device
        self.timer = Timer(device)
        # Stages in the order of their segments, with autograd's number when each began.
        self.starts: list[tuple[int, str]] = []
        self.runner = program.stage_runner(self._forward, stage_of_call)
        self.taken: list[dict[str, float]] = []

    def __call__(self) -> float:
        """The seconds of the whole iteration, timers included."""
        run = prepared(self.program, self.runner)
        self.starts.clear()
        _settle(self.device)
        self.timer.begin()
        outputs = run()
        self._forward(LOSS)
        loss = loss_of(outputs, self.name)
        self.timer.mark(_ASIDE)
        self._hook(loss)
        _settle(self.device)
        self.timer.mark(f"backward {LOSS}")
        loss.backward()
        for stage, optimizer in self.updates.items():
            self.timer.mark(f"update {stage}")
            _update(optimizer)
        seconds = self.timer.seconds()
        seconds.pop(_ASIDE, None)
        self.taken.append(seconds)
        return sum(seconds.values())

    def _forward(self, stage: str) -> None:
        self.starts.append((next_number(), stage))
        self.timer.mark(f"forward {stage}")

    def _hook(self, loss: torch.Tensor) -> None:
        """Notes the time at the first backward node of each segment: autograd runs them from the last to the first."""
        numbers = [number for number, _ in self.starts]
        first: dict[int, tuple[int, Any]] = {}
        for number, node in backward_nodes(loss):
            index = max(0, bisect_right(numbers, number) - 1)
            if index not in first or number > first[index][0]:
                first[index] = number, node
        for index, (_, node) in first.items():
            node.register_prehook(self._marker(self.starts[index][1]))

    def _marker(self, stage: str) -> Callable[[Any], None]:
        return lambda gradients: self.timer.mark(f"backward {stage}")


def next_number() -> int:
    """The number that the next backward node made on this thread will get."""
    import torch

    return int(torch._C._autograd._get_sequence_nr())


def backward_nodes(loss: torch.Tensor) -> Iterator[tuple[int, Any]]:
    """The backward nodes behind ``loss`` with their numbers, without those that accumulate gradients."""
    found, waiting = {loss.grad_fn}, [loss.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        number = node._sequence_nr()
        # The largest number stands for none.
        if number < 1 << 63:
            yield number, node
        for following, _ in node.next_functions:
            if following is not None and following not in found:
                found.add(following)
                waiting.append(following)


def prepared(program: Eager, prepare: Callable[[], Run]) -> Run:
    """What ``prepare`` gives; tensors that the pass before wrote in place forget how."""
    import torch

    with torch.no_grad():
        for tensor, _ in program.pristine:
            if tensor.grad_fn is not None:
                tensor.detach_()
        return prepare()


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _profile(
    program: Eager, updates: Mapping[str, torch.optim.SGD], runs: int, name: str, device: torch.device
) -> tuple[list[Kernel], list[tuple[int, str]]]:
    """Kernels of ``runs`` iterations of the traced program, and its nodes with autograd's numbers as they began."""
    from torch.profiler import record_function

    starts: list[tuple[int, str]] = []

    def opener(key: str) -> AbstractContextManager[object]:
        starts.append((next_number(), key))
        return record_function(f"{NODE}{key}")

    def prepare() -> Run:
        run = prepared(program, program.node_run)

        def iteration() -> None:
            with opened_by(opener):
                outputs = run()
            with opener(LOSS):
                loss = loss_of(outputs, name)
            loss.backward()
            for stage, optimizer in updates.items():
                with record_function(f"{NODE}{_UPDATE}{stage}"):
                    _update(optimizer)

        return iteration

    events = profiled(prepare, runs, device, training=True)
    return kernels([*events, *backward_ranges(events, starts)], on_device=device.type != "cpu"), starts


def attribute(
    traced: Traced,
    found: Sequence[Kernel],
    keys: Iterable[str],
    taken: Sequence[Mapping[str, float]],
    runs: Sequence[str],
) -> tuple[tuple[TrainingStage, ...], tuple[TrainingLayer, ...], float, float]:
    """Rows of stages and of layers, seconds of no stage in an iteration, and the share of kernel time in stages.

    ``found`` are the kernels of the iterations called ``runs``, ``keys`` the nodes that ran, in order, ``taken`` the
    samples of the stage level. A node that is no layer is a view: it belongs to the stage of the layer before it, and
    before the first layer to the stage of that. A layer through which no gradient passes has no backward time: the loss
    does not depend on it, or no parameter is behind it, or it computes whole numbers.
    """
    graph = traced.graph
    order = list(dict.fromkeys(keys))
    row_of = {}
    stage = next((graph[traced.layer_of_call[key]].stage for key in order if key in traced.layer_of_call), "")
    for key in order:
        layer = traced.layer_of_call.get(key)
        if key == LOSS:
            row_of[key] = LOSS, LOSS
        elif layer is None:
            row_of[key] = stage, f"{VIEWS} {stage}"
        else:
            stage = graph[layer].stage
            row_of[key] = stage, layer
    of_call = {key: f"forward {row}" for key, (_, row) in row_of.items()}
    of_call |= {f"{BACKWARD}{key}": f"backward {row}" for key, (_, row) in row_of.items()}
    stages = list(dict.fromkeys(stage for stage, _ in row_of.values()))
    stages += [""] if "" not in stages else []
    of_call |= {f"{_UPDATE}{stage}": f"update {stage}" for stage in stages}
    times, unattributed_s = per_layer(found, of_call, runs)
    seconds = {name: statistics.median(item.times_s) for name, item in times.items()}
    rows_of: dict[str, list[str]] = {stage: [] for stage in stages}
    for stage, row in dict.fromkeys(row_of.values()):
        rows_of[stage].append(row)

    def spread(phase: str, stage: str) -> Spread:
        return Spread.of([sample.get(f"{phase} {stage}", 0.0) for sample in taken])

    def total(phase: str, stage: str) -> float:
        return sum(seconds[f"{phase} {row}"] for row in rows_of[stage])

    by_name = {layer.name: layer for layer in graph}
    layers = []
    for stage in stages:
        for row in rows_of[stage]:
            item = by_name.get(row)
            layers.append(
                TrainingLayer(
                    layer=item.name if item else row.split(" ")[0],
                    op=item.op if item else "",
                    stage=stage,
                    modality=item.modality if item else "",
                    forward_s=seconds[f"forward {row}"],
                    backward_s=seconds[f"backward {row}"],
                )
            )
    whole_s = sum(item.time_s for item in found)
    in_stages_s = sum(sum(item.times_s) for item in times.values())
    rows = tuple(
        TrainingStage(
            stage=stage,
            **{phase: spread(phase, stage) for phase in PHASES},
            forward_kernels_s=total("forward", stage),
            backward_kernels_s=total("backward", stage),
            update_kernels_s=seconds[f"update {stage}"],
        )
        for stage in stages
        if rows_of[stage] or any(f"update {stage}" in sample for sample in taken)
    )
    return rows, tuple(layers), unattributed_s, in_stages_s / whole_s if whole_s else 1.0


def _peak_memory(phases: PhaseSampler, device: torch.device) -> dict[str, int]:
    """Bytes of ``model``, ``data``, ``gradients``, ``optimizer``, ``intermediates`` and their ``total`` at the peak.

    The gradients are those of parameters that are alive at the peak, which may be before the first of them. What is
    left of it is of the activations and their gradients, and of what operators take for themselves.
    """
    parameters = [item for group in phases.optimizer.param_groups for item in group["params"]]
    model = storage_bytes([*phases.program.module.parameters(), *phases.program.module.buffers()])
    data = storage_bytes(phases.program.inputs)
    held: set[int] = set()

    def note(*_: Any) -> None:
        held.clear()
        held.update(item.grad.untyped_storage().data_ptr() for item in parameters if item.grad is not None)

    # All gradients are alive when the parameters are updated.
    noting = phases.optimizer.register_step_pre_hook(note)
    changes = memory_changes(phases.prepare, device, training=True)
    noting.remove()
    gradients, peak = at_peak(changes, held)
    if device.type == "cuda":
        import torch

        run = phases.prepare()
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
    state = storage_bytes(
        value for item in phases.optimizer.state.values() for value in item.values() if value is not None
    )
    return {
        "model": model,
        "data": data,
        "gradients": gradients,
        "optimizer": state,
        "intermediates": peak - gradients,
        "total": model + data + state + peak,
    }


def at_peak(changes: Sequence[tuple[int, int]], held: Collection[int]) -> tuple[int, int]:
    """Of allocations (positive) and frees (negative) by address, in order: the bytes alive at the peak that are at the
    addresses ``held`` in the end, and all that are alive then."""
    levels = [0, *accumulate(size for _, size in changes)]
    peak = max(levels)
    made = {address: (index, size) for index, (address, size) in enumerate(changes, 1) if size > 0 and address in held}
    return sum(size for index, size in made.values() if index <= levels.index(peak)), peak
