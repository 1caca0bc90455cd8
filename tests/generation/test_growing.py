"""Graphs at every length from traces at three: exact where they grow evenly, an error with the layer where not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmworkload.errors import ModelError
from mmworkload.generation import Generation, Growing, Once, Steps, Totals, category, grow
from mmworkload.generation.totals import of_graph
from mmworkload.graph import LayerGraph
from mmworkload.models.family import InputSpec
from mmworkload.models.model import Model, synthesize
from mmworkload.tracing import trace_model


class Attend(nn.Module):
    """One query over a growing state, and, if asked, a product of the state with itself."""

    def __init__(self, squared: bool) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 8)
        self.squared = squared

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        y = nn.functional.scaled_dot_product_attention(self.proj(x), state, state)
        return y + (state @ state.transpose(-1, -2)).sum() if self.squared else y


class Crooked(nn.Module):
    """What it pads depends on the length in steps of four."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.Identity()

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        length = -(-state.shape[1] // 4) * 4
        return self.pad(nn.functional.pad(state, (0, 0, 0, length - state.shape[1] + 1))) * 2


def tracer(make: Callable[[], nn.Module], *inputs: Callable[[int], InputSpec]) -> Callable[[int], LayerGraph]:
    def traced(length: int) -> LayerGraph:
        specs = tuple(spec(length) for spec in inputs)
        model = Model(
            f"toy?length={length}",
            "toy",
            1,
            "float32",
            lambda device: (make(), synthesize(specs)),
            specs,
            {"*": "head"},
        )
        return trace_model(model).graph

    return traced


def attend(squared: bool = False) -> Callable[[int], LayerGraph]:
    return tracer(
        lambda: Attend(squared),
        lambda length: InputSpec("x", (1, 1, 8)),
        lambda length: InputSpec("state", (1, length, 8), role="state"),
    )


def bare(graph: LayerGraph) -> LayerGraph:
    return replace(graph, versions={})


@pytest.fixture(scope="module")
def growing() -> Growing:
    return grow(attend(), "length", (4, 16, 9))


@pytest.mark.parametrize("length", [2, 5, 9, 33, 1000])
def test_at_any_length_the_graph_is_the_traced_one(growing: Growing, length: int) -> None:
    assert bare(growing.at(length)) == bare(attend()(length))


def test_sums_over_steps_are_the_sums_of_traced_graphs(growing: Growing) -> None:
    lengths = range(5, 41, 7)
    phase = Steps("decode", growing, 5, len(lengths), 7)
    assert phase.lengths == lengths
    expected = sum((of_graph(attend()(length)) for length in lengths), Totals())
    assert Generation("toy", (phase,)).totals == expected
    # 8 x 8 of the projection, and two products of 8 with each place of the state.
    assert expected.macs == sum(64 + 2 * 8 * length for length in lengths)
    assert expected.state_bytes == sum(2 * 4 * 8 * length for length in lengths) // 2


def test_a_tensor_that_grows_along_two_axes_is_refused_with_its_layer() -> None:
    with pytest.raises(ModelError, match=r"layer 'matmul': at 9 it is"):
        grow(attend(squared=True), "length", (4, 16, 9))


def test_totals_by_category_add_up(growing: Growing) -> None:
    made = Generation("toy", (Once("first", attend()(4), 3), Steps("decode", growing, 4, 10)))
    groups = made.by(category)
    assert {key: found.macs for key, found in groups["decode"].items()} == {
        "Linear": 640,
        "Attention": sum(16 * t for t in range(4, 14)),
    }
    everything = sum((found for phase in groups.values() for found in phase.values()), Totals())
    assert everything == made.totals
    assert made.by_phase()["first"] == of_graph(attend()(4)).times(3)


def test_what_does_not_grow_evenly_is_refused_with_its_layer() -> None:
    traced = tracer(Crooked, lambda length: InputSpec("state", (1, length, 8), role="state"))
    with pytest.raises(ModelError, match=r"does not grow evenly with length: layer 'pad"):
        grow(traced, "length", (3, 6, 4))


def test_a_graph_with_other_layers_is_refused() -> None:
    plain, squared = attend(), attend(squared=True)
    with pytest.raises(ModelError, match="does not grow evenly with length"):
        grow(lambda length: squared(length) if length == 9 else plain(length), "length", (4, 16, 9))


def test_sampled_lengths_stand_for_all_steps(growing: Growing) -> None:
    made = Generation("toy", (Once("first", attend()(4)), Steps("decode", growing, 4, 100)), ("a note",))
    sampled = made.sampled(3)
    counts = {part.name: part.count for part in sampled.workload.parts}
    assert counts == {
        "first": 1.0,
        "decode at 4": 25.5,
        "decode at 54": 49.5,
        "decode at 103": 25.0,
        "decode at 29": 0.0,
    }
    assert sampled.workload.total_macs == made.totals.macs
    assert all("a note" in part.graph.notes for part in sampled.workload.parts)
    (held,) = sampled.held_out
    assert (held.length, held.between) == (29, (("decode at 4", 0.5), ("decode at 54", 0.5)))
    # As many points as steps: nothing is left to hold out.
    assert Generation("toy", (Steps("decode", growing, 4, 3),)).sampled(3).held_out == ()


def test_the_error_at_the_held_out_length_is_that_of_the_simulated_latency(growing: Growing) -> None:
    from mmworkload import arch
    from mmworkload.simulating.engine import simulate

    made = Generation("toy", (Steps("decode", growing, 4, 100),))
    sampled = made.sampled(3)
    simulation = simulate(sampled.workload, arch.load("eyeriss_like"), "roofline", cache=False)
    alone = {
        length: simulate(growing.at(length), arch.load("eyeriss_like"), "roofline", cache=False).serial_latency_s
        for length in (4, 29, 54)
    }
    expected = (alone[4] + alone[54]) / 2 / alone[29] - 1
    assert sampled.errors(simulation)["decode"] == pytest.approx(expected, abs=1e-12)
    told = sampled.told(simulation).assumptions[-1]
    assert told.startswith("decode: simulated at 3 lengths and interpolated; at length 29, which was held out")
    assert f"{100 * expected:+.3f} %" in told


def test_a_phase_that_was_simulated_at_some_lengths_is_one_phase_of_layers(growing: Growing) -> None:
    import io

    from mmworkload import arch
    from mmworkload.reporting.tables import print_out, simulate_tables
    from mmworkload.simulating.engine import simulate

    made = Generation("toy", (Once("prefill", attend()(4)), Steps("decode", growing, 4, 100)))
    simulation = simulate(made.sampled(3).workload, arch.load("eyeriss_like"), "roofline", cache=False)
    stream = io.StringIO()
    print_out(*simulate_tables(simulation), stream=stream)
    lines = stream.getvalue().splitlines()
    layers = len(attend()(4))

    # Three lengths and one that was held out are no layers of their own.
    assert len(simulation.layers) == 5 * layers
    assert simulation.totals.layers == 2 * layers
    assert {name: (item.layers, item.macs) for name, item in simulation.phases().items()} == {
        "prefill": (layers, 64 + 2 * 8 * 4),
        "decode": (layers, sum(64 + 2 * 8 * length for length in range(4, 104))),
    }
    assert not any("decode at" in line for line in lines if not line.startswith(("-", " ")))
    (projection,) = [line.split() for line in lines if line.startswith("decode: proj")]
    assert projection[2:5] == ["1", "6.40", "k"]
    (decode,) = [line.split() for line in lines[lines.index("Phases") :] if line.startswith("decode ")]
    assert decode[1:3] == ["100", str(layers)]

    from mmworkload.reporting.simulation_page import render
    from mmworkload.simulating.several import Asked, Simulations

    found = Simulations((Asked("eyeriss_like", "roofline", simulation),))
    page = render(found)
    phases = page.split('data-name="phases on eyeriss_like, roofline"')[1].split("</table>")[0]
    assert phases.count("<tr><th") == 2
    rows = page.split('data-name="layers on eyeriss_like, roofline"')[1].split("</table>")[0]
    assert rows.count('<th scope="row"') == 2 * layers
    frame = found.to_pandas().set_index(["phase", "layer"])
    assert frame.loc[("decode", "proj"), "runs"] == 100
    assert frame.loc["decode", "macs"].sum() == sum(64 + 2 * 8 * length for length in range(4, 104))
