"""SeamlessM4T: totals by hand, every phase against transformers' own forward, the tasks of the paper."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from mmworkload.generation import Totals, category, generation
from mmworkload.generation.totals import of_graph
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.models.family import InputSpec
from mmworkload.models.model import Model, synthesize
from mmworkload.sources import require_known
from mmworkload.tracing import trace_model
from mmworkload.workloads.seamless_m4t import encoded_length, networks
from mmworkload.workloads.seamless_m4t.networks import seamless

pytestmark = pytest.mark.slow

HEADS, WIDTH, LAYERS = 4, 32, 2
SMALL: dict[str, Any] = {
    "hidden_size": WIDTH, "vocab_size": 60, "t2u_vocab_size": 40, "max_position_embeddings": 64,
    "encoder_layers": LAYERS, "encoder_ffn_dim": 48, "encoder_attention_heads": HEADS,
    "decoder_layers": LAYERS, "decoder_ffn_dim": 48, "decoder_attention_heads": HEADS,
    "speech_encoder_layers": LAYERS, "speech_encoder_attention_heads": HEADS, "speech_encoder_intermediate_size": 48,
    "t2u_encoder_layers": LAYERS, "t2u_encoder_ffn_dim": 48, "t2u_encoder_attention_heads": HEADS,
    "t2u_decoder_layers": LAYERS, "t2u_decoder_ffn_dim": 48, "t2u_decoder_attention_heads": HEADS,
    "t2u_max_position_embeddings": 64,
    "unit_hifi_gan_vocab_size": 50, "unit_embed_dim": 16, "lang_embed_dim": 4, "spkr_embed_dim": 4,
    "vocoder_num_langs": 3, "vocoder_num_spkrs": 5, "upsample_initial_channel": 64,
}  # fmt: skip


@cache
def traced(name: str) -> LayerGraph:
    return require_known(trace_model(resolve(name)).graph)


@cache
def network(version: str) -> Any:
    torch.manual_seed(0)
    more = {"char_vocab_size": 30, "t2u_variance_predictor_embed_dim": WIDTH} if version == "v2" else {}
    return seamless(version, **SMALL, **more).eval()


def graph(module: nn.Module, inputs: dict[str, torch.Tensor]) -> LayerGraph:
    specs = tuple(
        InputSpec(key, tuple(item.shape), str(item.dtype).removeprefix("torch."), high=2)
        for key, item in inputs.items()
    )
    model = Model("small", "small", 1, "float32", lambda device: (module, synthesize(specs)), specs, {"*": "head"})
    return require_known(trace_model(model).graph)


def assert_traced(module: nn.Module, inputs: dict[str, torch.Tensor], outputs: tuple[torch.Tensor, ...]) -> None:
    """The traced graph has the outputs of a real pass."""
    traced_graph = graph(module, inputs)
    found = [traced_graph.tensors[name] for name in traced_graph.outputs]
    assert [item.elements for item in found] == [item.numel() for item in outputs]


def room(rows: int, length: int, source: int) -> dict[str, torch.Tensor]:
    sizes = {"keys": length, "values": length, "cross_keys": source, "cross_values": source}
    return {name: torch.full((LAYERS, rows, HEADS, size, WIDTH // HEADS), torch.nan) for name, size in sizes.items()}


# --- small networks, for real ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "unit"), [("v1", False), ("v1", True), ("v2", False)])
def test_every_decoding_step_gives_the_logits_of_transformers_own_forward(version: str, unit: bool) -> None:
    whole = network(version)
    decoder = whole.t2u_model.model.decoder if unit else whole.text_decoder
    head = whole.t2u_model.lm_head if unit else whole.lm_head
    torch.manual_seed(1)
    encoded = torch.randn(2, 7, WIDTH)
    tokens = torch.randint(4, 40, (2, 2))
    state = room(2, 2, 7)

    def check(module: nn.Module, inputs: dict[str, torch.Tensor], trace: bool) -> torch.Tensor:
        with torch.no_grad():
            outputs = module.eval()(**inputs)
            reference = head(decoder(input_ids=tokens, encoder_hidden_states=encoded).last_hidden_state[:, -1])
        torch.testing.assert_close(outputs[0], reference)
        if trace:
            assert_traced(module, inputs, outputs)
        chosen: torch.Tensor = outputs[1]
        return chosen

    prefill = networks.DecoderPrefill(whole, unit=unit, head=True)
    chosen = check(prefill, {"tokens": tokens, "encoded": encoded, **state}, not unit)
    for cached in range(2, 5):
        # Not the padding token, which has no position.
        chosen = chosen.clamp(min=4)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        larger = room(2, cached + 1, 7)
        for name in larger:
            larger[name][:, :, :, : state[name].shape[3]] = state[name]
        state = larger
        step = networks.DecoderStep(whole, cached, unit=unit, beams=1)
        chosen = check(step, {"tokens": chosen[:, None], **state}, cached == 4 and unit)


def test_the_states_of_a_text_need_no_head() -> None:
    whole = network("v1")
    encoded, tokens = torch.randn(1, 7, WIDTH), torch.randint(4, 40, (1, 5))
    module = networks.DecoderPrefill(whole, unit=False, head=False).eval()
    with torch.no_grad():
        (found,) = module(tokens, encoded, **room(1, 5, 7))
        expected = whole.text_decoder(input_ids=tokens, encoder_hidden_states=encoded).last_hidden_state
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_encoders_are_those_of_transformers(version: str) -> None:
    whole = network(version)
    speech, text = torch.randn(2, 52, 160), torch.randint(4, 40, (2, 9))
    with torch.no_grad():
        heard = networks.SpeechEncoder(whole).eval()(speech)
        read = networks.TextEncoder(whole).eval()(text)
        torch.testing.assert_close(heard, whole.speech_encoder(speech).last_hidden_state)
        torch.testing.assert_close(read, whole.text_encoder(input_ids=text).last_hidden_state)
    assert heard.shape == (2, encoded_length(52), WIDTH)
    assert_traced(networks.SpeechEncoder(whole).eval(), {"speech": speech}, (heard,))


def test_units_at_once_are_those_of_transformers_when_the_lengths_fit() -> None:
    whole = network("v2")
    torch.manual_seed(2)
    states, characters, counts = torch.randn(1, 4, WIDTH), torch.randint(1, 30, (1, 9)), torch.tensor([[2, 3, 1, 3]])
    with torch.no_grad():
        reference = whole.t2u_model.model(inputs_embeds=states, char_input_ids=characters, char_count_per_id=counts)
        logits = whole.t2u_model.lm_head(reference.last_hidden_state)
        length = logits.shape[1]
        inputs = {"states": states, "characters": characters, "counts": counts}
        module = networks.Units(whole, 9, length).eval()
        states_of_units: list[torch.Tensor] = []
        with whole.t2u_model.lm_head.register_forward_pre_hook(lambda _, given: states_of_units.extend(given)):
            found = module(**inputs)
    torch.testing.assert_close(states_of_units, [reference.last_hidden_state])
    assert torch.equal(found, logits.argmax(-1))
    assert_traced(module, inputs, (found,))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_vocoder_is_that_of_transformers_when_the_lengths_fit(version: str) -> None:
    whole = network(version)
    units = torch.randint(4, 50, (1, 6))
    inputs = {"units": units, "speaker": torch.tensor([[4]]), "language": torch.tensor([[2]])}
    with torch.no_grad():
        reference, _ = whole.vocoder(units, inputs["speaker"], inputs["language"])
        module = networks.Vocoder(whole, reference.shape[-1] // 320).eval()
        found = module(**inputs)
    torch.testing.assert_close(found, reference)
    assert_traced(module, inputs, (found,))


def test_rows_are_repeated_as_often_as_their_counts_say() -> None:
    rows = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    counts = torch.tensor([[2, 1, 3], [1, 1, 1]])
    found = networks.Upsample(6)(rows, counts)[..., 0]
    assert found.tolist() == [[1, 1, 2, 3, 3, 3], [4, 5, 6, 6, 6, 6]]
    assert networks.durations(torch.tensor([-1.0, 0.1, 1.4])).tolist() == [1, 1, 3]


def test_the_parts_that_both_versions_share_are_one_computation() -> None:
    """Which is why they are one variant each."""

    def rows(module: nn.Module, inputs: dict[str, torch.Tensor]) -> list[object]:
        return [
            (item.op, item.work, item.vector_ops, item.read_bytes, item.write_bytes) for item in graph(module, inputs)
        ]

    text, units = torch.zeros(2, 9, dtype=torch.int64), torch.zeros(1, 6, dtype=torch.int64)
    one = torch.zeros(1, 1, dtype=torch.int64)
    tokens, state = text[:, :1], room(2, 6, 7)
    pairs: list[list[object]] = [[], []]
    for found, version in zip(pairs, ("v1", "v2"), strict=True):
        whole = network(version)
        found.append(rows(networks.TextEncoder(whole), {"text": text}))
        found.append(rows(networks.DecoderStep(whole, 5, unit=False, beams=1), {"tokens": tokens, **state}))
        found.append(rows(networks.Vocoder(whole, 9), {"units": units, "speaker": one, "language": one}))
    assert pairs[0] == pairs[1]


# --- totals ---------------------------------------------------------------------------------------------------------


def test_a_step_of_the_text_decoder_is_that_by_hand_and_reorders_its_caches() -> None:
    """24 layers of width 1024: four projections of its own, two across (keys and values are cached), 8192 inside."""
    found = traced("seamless-m4t/v1-text-decode")
    rows, length, source, width = 5, 33, 64, 1024
    layer = 6 * width * width + 2 * width * 8192 + 2 * width * (length + source)
    assert found.total_macs == rows * (24 * layer + width * 256_102)
    assert found.stages["head"].macs == rows * width * 256_102
    assert found.built_params == 2_359_990_658
    reorder = [item for item in found if category(item) == "KV_Cache_Reorder"]
    # Facts, A.5: both caches of 24 layers, read and written.
    moved = 2 * 24 * rows * 16 * length * 64 * 4
    assert sum(item.bytes for item in reorder) == 2 * moved + 2 * rows * 8


def test_the_text_to_unit_model_of_v2_upsamples_and_convolves() -> None:
    found = traced("seamless-m4t/v2-units")
    assert found.built_params == 2_309_249_669
    width, tokens, characters, units = 1024, 34, 128, 200
    encoder = 6 * tokens * (4 * width * width + 2 * width * 8192 + 2 * width * tokens)
    decoder = 6 * units * (4 * width * width + 2 * 7 * width * width + 2 * width * units)
    predictor = characters * (3 * width * 256 + 3 * 256 * 256 + 256)
    assert found.total_macs == encoder + decoder + predictor + units * width * 10_082
    assert sum(layer.op == "conv1d" for layer in found) == 2 * 6 + 2
    assert {category(layer) for layer in found if layer.op == "conv1d"} == {"Conv1d"}


# --- tasks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_task_of_the_paper_is_there_with_its_phases(version: str) -> None:
    family = families()["seamless-m4t"]
    variants = {name for item in family.variants for name in (item.name, *item.aliases)}
    text = ["text prefill", "text decode"]
    units = ["unit encoder", "unit prefill", "unit decode"] if version == "v1" else ["units"]
    speech = ["text states", *units, "vocoder"]
    expected = {
        "s2tt": ["speech encoder", *text],
        "s2st": ["speech encoder", *text, *speech],
        "t2tt": ["text encoder", *text],
        "t2st": ["text encoder", *text, *speech],
    }
    for alias, names in expected.items():
        found = family.generation(f"{version}-{alias}")
        assert found is not None
        runs = found.runs(**{key: item.default for key, item in found.parameters.items()})
        assert [run.name for run in runs] == names
        for run in runs:
            assert run.variant in variants
            assert set(run.settings) <= set(family.variant(run.variant, "seamless-m4t").parameters)
    assert encoded_length(500) == 63


@pytest.mark.full
def test_speech_to_speech_is_the_sum_of_its_traced_phases() -> None:
    made = generation("seamless-m4t/v1-s2st?frames=100&steps=5&units=6&vocoder_frames=12&beams=2")
    graphs = [traced("seamless-m4t/v1-speech-encoder?frames=100")]
    graphs.append(traced(f"seamless-m4t/v1-text-prefill?source={encoded_length(100)}&beams=2"))
    graphs += [
        traced(f"seamless-m4t/v1-text-decode?cached={t}&source={encoded_length(100)}&beams=2") for t in range(2, 7)
    ]
    graphs.append(traced(f"seamless-m4t/v1-text-prefill?tokens=7&source={encoded_length(100)}&beams=1&head=off"))
    graphs += [traced("seamless-m4t/v1-unit-encoder?tokens=7"), traced("seamless-m4t/v1-unit-prefill?source=7")]
    graphs += [traced(f"seamless-m4t/v1-unit-decode?cached={t}&source=7") for t in range(2, 8)]
    graphs.append(traced("seamless-m4t/v1-vocoder?units=6&frames=12"))
    assert made.totals == sum((of_graph(graph) for graph in graphs), Totals())
    assert "KV_Cache_Reorder" in made.by(category)["text decode"]
