"""Code Llama: totals by hand, phases that agree with transformers' own forward step by step, and whole generations."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from mmworkload.errors import MmworkloadError
from mmworkload.generation import (
    Generation,
    Totals,
    category,
    generation,
    quantized_caches,
    quantized_weights,
    resolve_generation,
)
from mmworkload.generation.totals import of_graph
from mmworkload.graph import LayerGraph
from mmworkload.models import resolve
from mmworkload.models.family import InputSpec
from mmworkload.models.model import Model, synthesize
from mmworkload.sources import require_known
from mmworkload.tracing import trace_model
from mmworkload.workloads.codellama.networks import Builder, llama
from mmworkload.workloads.codellama.sizes import SIZES, Size

pytestmark = pytest.mark.slow

# Three blocks of four heads, two of which share a key head.
SMALL = Size(64, 96, 3, 4, 2, 50, 64)


@cache
def traced(name: str) -> LayerGraph:
    return require_known(trace_model(resolve(name)).graph)


@cache
def short() -> Generation:
    return generation("codellama/7b?layers=1&prompt=16&steps=40")


def traced_module(make: Callable[[], nn.Module], inputs: dict[str, torch.Tensor]) -> LayerGraph:
    """The graph of a module at the shapes of ``inputs``."""
    specs = tuple(
        InputSpec(key, tuple(item.shape), str(item.dtype).removeprefix("torch."), high=SMALL.vocabulary)
        for key, item in inputs.items()
    )
    model = Model("small", "small", 1, "float32", lambda device: (make(), synthesize(specs)), specs, {"*": "head"})
    return require_known(trace_model(model).graph)


def assert_same_shapes(make: Callable[[], nn.Module], inputs: dict[str, torch.Tensor], outputs: tuple) -> None:
    """Of all outputs but tokens and scores, which the graph has in the shape before a view of them was taken."""
    graph = traced_module(make, inputs)
    found = [graph.tensors[name] for name in graph.outputs]
    assert [item.elements for item in found] == [item.numel() for item in outputs]
    large = [(one.shape, tuple(other.shape)) for one, other in zip(found, outputs, strict=True) if other.dim() > 1]
    assert [one for one, _ in large] == [other for _, other in large]


def loaded(module: nn.Module, reference: nn.Module) -> nn.Module:
    """``module`` with the weights of the whole model."""
    module.load_state_dict(reference.state_dict(), strict=True)
    return module.eval()


def caches(rows: int, length: int, old: tuple[torch.Tensor, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Room for ``length`` tokens, with what is in the old ones."""
    made = {}
    for index, name in enumerate(("keys", "values")):
        made[name] = torch.full((SMALL.layers, rows, SMALL.kv_heads, length, SMALL.head_width), torch.nan)
        if old is not None:
            made[name][:, :, :, : old[index].shape[3]] = old[index]
    return made


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    torch.manual_seed(0)
    return llama(SMALL, SMALL.layers).eval()


# --- small networks, for real ---------------------------------------------------------------------------------------


def test_every_step_gives_the_logits_and_shapes_of_transformers_own_forward(reference: nn.Module) -> None:
    build = Builder(SMALL)
    tokens = torch.randint(0, SMALL.vocabulary, (2, 5), generator=torch.Generator().manual_seed(1))
    state = caches(2, 5)
    with torch.no_grad():
        inputs = {"tokens": tokens, **state}
        outputs = loaded(build.prefill(3, 1, "all"), reference)(**inputs)
        torch.testing.assert_close(outputs[0], reference(tokens).logits)
        assert_same_shapes(lambda: build.prefill(3, 1, "all"), inputs, outputs)
        chosen = outputs[1][:, -1]
        for cached in range(5, 9):
            tokens = torch.cat([tokens, chosen[:, None]], dim=1)
            state = caches(2, cached + 1, (state["keys"], state["values"]))
            inputs = {"tokens": chosen[:, None], **state}
            outputs = loaded(build.decode(3, cached, 1), reference)(**inputs)
            whole = reference(tokens).logits[:, -1:]
            torch.testing.assert_close(outputs[0], whole)
            assert not any(item.isnan().any() for item in state.values())
            assert_same_shapes(lambda cached=cached: build.decode(3, cached, 1), inputs, outputs)  # type: ignore[misc]
            chosen = outputs[1]
            assert torch.equal(chosen, whole[:, -1].argmax(-1))


def test_beam_search_keeps_the_best_beams_and_their_caches(reference: nn.Module) -> None:
    build = Builder(SMALL)
    with torch.no_grad():
        state = {key: torch.randn_like(item) for key, item in caches(6, 4).items()}
        scores = torch.tensor([0.0, -1.0, -50.0, -50.0, 0.0, -50.0])
        tokens = torch.arange(6)[:, None]
        inputs = {"tokens": tokens, **state, "scores": scores}
        module = loaded(build.decode(3, 3, 3), reference)
        logits, chosen, best, keys, values = module(**inputs)
        every = (logits[:, 0].log_softmax(-1) + scores[:, None]).view(2, 3, -1)
        for sample in range(2):
            flat = every[sample].flatten().topk(3)
            torch.testing.assert_close(best.view(2, 3)[sample], flat.values)
            assert chosen.view(2, 3)[sample].tolist() == (flat.indices % 50).tolist()
            rows = flat.indices // 50 + 3 * sample
            torch.testing.assert_close(keys[:, 3 * sample : 3 * sample + 3], state["keys"][:, rows])
            torch.testing.assert_close(values[:, 3 * sample : 3 * sample + 3], state["values"][:, rows])
        # The hopeless beams are dropped: nothing continues them.
        assert set((flat.indices // 50).tolist()) <= {0, 1}
        assert_same_shapes(lambda: build.decode(3, 3, 3), inputs, (logits, chosen, best, keys, values))


def test_draft_and_verify_give_what_the_whole_model_gives(reference: nn.Module) -> None:
    """LayerSkip is exact: the verified logits are those of the whole model on the drafted tokens."""
    build, drafted, exit_block = Builder(SMALL), 3, 1
    tokens = torch.randint(0, SMALL.vocabulary, (1, 6), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        first = caches(1, 5)
        loaded(build.prefill(3, 1, "last"), reference)(tokens[:, :5], **first)
        state = caches(1, 5 + drafted + 1, (first["keys"], first["values"]))
        hidden = []
        for index in range(drafted):
            module = loaded(build.draft(3, 5 + index, exit_block), reference)
            narrow = {key: item[:, :, :, : 6 + index] for key, item in state.items()}
            found: list[torch.Tensor] = []
            handle = module.model.norm.register_forward_pre_hook(lambda _, args, found=found: found.append(args[0]))
            _, chosen = module(tokens[:, -1:], **narrow)
            handle.remove()
            hidden += found
            tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        inputs = {"tokens": tokens[:, -1:], "states": torch.cat(hidden, dim=1), **state}
        outputs = loaded(build.verify(3, 5, exit_block, drafted), reference)(**inputs)
        torch.testing.assert_close(outputs[0], reference(tokens).logits[:, 5:])
        assert_same_shapes(lambda: build.verify(3, 5, exit_block, drafted), inputs, outputs)


# --- totals ---------------------------------------------------------------------------------------------------------


def macs(size: Size, layers: int, tokens: int, length: int, logits: int) -> int:
    """Llama (Touvron et al., 2023): four projections, three of the gated feed-forward, two products of attention over
    ``length`` places, and the head on ``logits`` tokens."""
    shared = size.kv_heads * size.head_width
    block = size.width * (2 * size.width + 2 * shared + 3 * size.inner) + 2 * size.width * length
    return layers * tokens * block + logits * size.width * size.vocabulary


@pytest.mark.parametrize("name", SIZES)
def test_macs_and_parameters_of_two_blocks_are_those_by_hand(name: str) -> None:
    size = SIZES[name]
    shared = size.kv_heads * size.head_width
    block = size.width * (2 * size.width + 2 * shared + 3 * size.inner) + 2 * size.width
    graph = traced(f"codellama/{name}-decode?layers=2&cached=300")
    assert graph.total_macs == macs(size, 2, 1, 301, 1)
    assert graph.total_params == graph.built_params == 2 * block + 2 * size.vocabulary * size.width + size.width
    assert graph.stages["head"].macs == size.width * size.vocabulary
    # Keys and values keep their heads: all places are read, one is written.
    place = 2 * 2 * shared * 4
    assert of_graph(graph).state_bytes == place * 301 + place


def test_a_prefill_attends_under_a_causal_mask_and_can_give_all_logits() -> None:
    size = SIZES["7b"]
    last, every = (traced(f"codellama/7b-prefill?layers=1&prompt=64&logits={which}") for which in ("last", "all"))
    assert last.total_macs == macs(size, 1, 64, 64, 1)
    assert every.total_macs == macs(size, 1, 64, 64, 64)
    assert last.total_macs - last.totals().useful_macs == 2 * size.width * (64 * 63 // 2)
    attention = [layer for layer in last if layer.op == "attention"]
    assert [work.problem.mask.kind for layer in attention for work in layer.work if work.problem.mask] == ["causal"] * 2


def test_beams_reorder_both_caches_at_each_step() -> None:
    graph = traced("codellama/34b-decode?layers=2&cached=99&beams=4")
    reorder = [layer for layer in graph if category(layer) == "KV_Cache_Reorder"]
    size = 2 * 4 * 8 * 100 * 128 * 4
    rows = 4 * 8
    assert [layer.op for layer in reorder] == ["index_select"] * 2
    assert sum(layer.bytes for layer in reorder) == 2 * (2 * size + rows)
    assert not any(category(layer) == "KV_Cache_Reorder" for layer in traced("codellama/7b-decode?layers=2&cached=300"))


def test_every_layer_has_a_category_of_the_paper() -> None:
    graph = traced("codellama/7b-decode?layers=2&cached=300")
    groups: dict[str, set[str]] = {}
    for layer in graph:
        groups.setdefault(category(layer), set()).add(layer.name.replace("layers.1", "layers.0"))
    assert set(groups) == {"Attention", "Linear", "LayerNorm", "Embedding", "Misc"}
    assert {f"model.layers.0.mlp.{part}_proj" for part in ("gate", "up", "down")} <= groups["Linear"]
    assert "lm_head" in groups["Linear"]
    assert "model.embed_tokens" in groups["Embedding"]
    assert any(name.startswith("model.rotary_emb") for name in groups["Embedding"])
    assert any(name.startswith("model.layers.0.input_layernorm") for name in groups["LayerNorm"])
    assert "model.layers.0.mlp.act_fn" in groups["Misc"]


@pytest.mark.parametrize(("name", "params", "gigas"), [("7b", 6_738_546_688, 7040.6), ("34b", 33_743_970_304, 35109.2)])
def test_the_whole_models_have_the_published_parameters(name: str, params: int, gigas: float) -> None:
    graph = traced(f"codellama/{name}-prefill?logits=all")
    assert graph.built_params == graph.total_params == params
    assert graph.total_macs == macs(SIZES[name], SIZES[name].layers, 1024, 1024, 1024)
    # What torch's FlopCounterMode counts (facts, E.3).
    assert graph.total_macs / 1e9 == pytest.approx(gigas, abs=0.05)
    step = traced(f"codellama/{name}-decode")
    assert step.built_params == params
    assert step.total_macs == macs(SIZES[name], SIZES[name].layers, 1, 1025, 1)


def test_the_largest_model_is_traced_in_less_than_a_gigabyte_and_a_half() -> None:
    # In a process of its own, and by VmHWM: ru_maxrss starts at that of the process forked from, even after exec.
    code = "import mmworkload; mmworkload.trace('codellama/34b-decode'); print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert int(peak) < 1_500_000


# --- generations ----------------------------------------------------------------------------------------------------


def test_a_generation_is_the_sum_of_its_traced_steps() -> None:
    made = generation("codellama/34b?layers=1&prompt=8&steps=9&beams=2")
    graphs = [traced("codellama/34b-prefill?layers=1&prompt=8&beams=2")]
    graphs += [traced(f"codellama/34b-decode?layers=1&cached={cached}&beams=2") for cached in range(8, 17)]
    assert made.totals == sum((of_graph(graph) for graph in graphs), Totals())
    assert made.name == "codellama/34b?prompt=8&steps=9&beams=2&layers=1"
    # Fitted at 8 and 16, checked at 12: these were not used.
    decode = made.phases[1]
    for cached in (9, 15, 333):
        expected = traced(f"codellama/34b-decode?layers=1&cached={cached}&beams=2")
        assert decode.growing.at(cached).layers == expected.layers  # type: ignore[union-attr]
        assert decode.growing.at(cached).tensors == expected.tensors  # type: ignore[union-attr]


def test_layerskip_runs_drafts_and_one_verification_a_round() -> None:
    size = SIZES["7b"]
    made = generation("codellama/7b-layerskip?layers=4&exit_block=1&drafted=2&accepted=1&prompt=8&steps=7")
    found = {name: totals.macs for name, totals in made.by_phase().items()}
    # Two tokens a round, so four rounds for seven tokens.
    starts = range(8, 16, 2)
    head = size.width * size.vocabulary
    for index in (0, 1):
        assert found[f"draft {index}"] == sum(macs(size, 1, 1, start + index + 1, 1) for start in starts)
    assert found["verify"] == sum(
        macs(size, 1, 1, start + 3, 0) + macs(size, 3, 3, start + 3, 0) + 3 * head for start in starts
    )
    assert found["prefill"] == macs(size, 4, 8, 8, 1)


@pytest.mark.parametrize(("stored", "bits", "scales"), [("int8", 8, 1), ("int4", 4, 2 * 4096 // 64)])
def test_quantised_weights_are_stored_small_and_brought_back(stored: str, bits: int, scales: int) -> None:
    plain = short()
    small = plain.mapped(lambda graph: quantized_weights(graph, stored), f"weights are {stored}")
    graph, packed = (made.phases[1].growing.at(17) for made in (plain, small))  # type: ignore[union-attr]
    name = "model.layers.0.self_attn.q_proj"
    weight, elements = f"{name}.weight", 4096 * 4096
    assert packed.tensors[weight].bits == bits
    assert dict(packed[name].reads)[weight] == elements * bits // 8
    assert dict(packed[name].reads)[f"{weight}:scale"] == 4096 * scales * 4
    assert packed[name].vector_ops - graph[name].vector_ops == elements * (1 if stored == "int8" else 2)
    (work,) = packed[name].work
    assert work.problem.operand("Weights").bits == bits
    assert (packed.total_macs, packed.tensors["model.embed_tokens.weight"].bits) == (graph.total_macs, 32)
    assert small.totals.macs == plain.totals.macs
    assert any(stored in note for note in small.notes)


def test_caches_of_fewer_bits_move_fewer_bytes() -> None:
    plain = traced("codellama/34b-decode?layers=2&cached=7")
    graph = quantized_caches(plain, "int8")
    # A byte a number, and a scale of four bytes for each row of 128.
    assert of_graph(graph).state_bytes * 128 * 4 == of_graph(plain).state_bytes * (128 + 4)
    assert graph.tensors["keys"].bits == 8
    attention = [layer for layer in graph if layer.op == "attention"]
    assert {work.problem.operand("Weights").bits for layer in attention for work in layer.work} == {8}
    assert {work.problem.operand("Inputs").bits for layer in attention for work in layer.work} == {32}
    touched = 2 * 8 * 128 * 8
    before = [layer for layer in plain if layer.op == "attention"]
    assert [a.vector_ops - b.vector_ops for a, b in zip(attention, before, strict=True)] == [2 * touched] * 2


def test_names_that_are_no_generation_and_verbs_that_need_one_graph_say_so() -> None:
    assert resolve_generation("codellama/7b-decode") is None
    assert resolve_generation("av-mnist/concat") is None
    with pytest.raises(MmworkloadError, match="codellama/7b is a generation of several graphs"):
        resolve("codellama/7b")
    with pytest.raises(MmworkloadError, match="unknown parameter"):
        generation("codellama/7b?cached=5")
    with pytest.raises(MmworkloadError, match="impossible"):
        generation("codellama/7b?steps=0")


def test_a_generation_is_simulated_as_a_workload_of_few_lengths() -> None:
    from mmworkload import simulate

    name = "codellama/7b?layers=1&prompt=16&steps=40&weights=int4&cache=int8"
    found = simulate(name, "eyeriss_like", simulator="roofline", cache=False)
    assert found.totals.macs == short().totals.macs
    assert sum(row.weight for row in found.layers if row.layer == "lm_head") == 41
    assert {"linear weights are int4", "keys and values are int8"} <= set(found.assumptions)
    assert any("which was held out" in text for text in found.assumptions)
    assert replace(found, assumptions=()).model == "codellama/7b?prompt=16&steps=40&layers=1&weights=int4&cache=int8"
