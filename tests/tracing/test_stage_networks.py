"""Stages of small networks of the kinds that people build, as data flow finds them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmworkload.graph import LayerGraph
from mmworkload.models import Model
from mmworkload.tracing import trace_model

WIDTH, HEADS = 32, 4


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True)


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 16, 16)
        self.blocks = nn.ModuleList([encoder_layer() for _ in range(2)])
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class CrossAttention(nn.Module):
    """From one stream to another: norms, q, k, v, attention, output projection, MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_q, self.norm_k, self.norm_mlp = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        def heads(tensor: Tensor) -> Tensor:
            return tensor.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        keys = self.norm_k(other)
        q, k, v = heads(self.q(self.norm_q(x))), heads(self.k(keys)), heads(self.v(keys))
        x = x + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))


class TwoCrossAttentions(nn.Module):
    """A vision transformer and a GRU, a cross-attention block each way, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.vit, self.gru = VisionTransformer(), nn.GRU(40, WIDTH, batch_first=True)
        self.v2a, self.a2v = CrossAttention(), CrossAttention()
        self.action_head = nn.Linear(2 * WIDTH, 12)
        self.emotion_head = nn.Sequential(nn.LayerNorm(2 * WIDTH), nn.Linear(2 * WIDTH, 7))

    def forward(self, image: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        seen, heard = self.vit(image), self.gru(audio)[0]
        pooled = torch.cat([self.v2a(seen, heard).mean(1), self.a2v(heard, seen).mean(1)], dim=-1)
        return self.action_head(pooled), self.emotion_head(pooled)


class NamedOutputs(TwoCrossAttentions):
    def forward(self, image: Tensor, audio: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        gesture, mood = super().forward(image, audio)
        return {"gesture": gesture, "mood": mood}


class Perceiver(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(1, 8, WIDTH))
        self.see, self.hear = nn.Linear(48, WIDTH), nn.Linear(40, WIDTH)
        self.cross = CrossAttention()
        self.blocks = nn.ModuleList([encoder_layer() for _ in range(2)])
        self.norm, self.classify = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, image: Tensor, audio: Tensor) -> Tensor:
        tokens = torch.cat([self.see(image), self.hear(audio)], dim=1)
        x = self.cross(self.latents.expand(len(tokens), -1, -1), tokens)
        for block in self.blocks:
            x = block(x)
        return self.classify(self.norm(x).mean(1))


class FilmBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.film = nn.Linear(WIDTH, 32)

    def forward(self, x: Tensor, sentence: Tensor) -> Tensor:
        scale, shift = self.film(sentence)[..., None, None].chunk(2, dim=1)
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) * scale + shift) + x


class Film(nn.Module):
    """A sentence scales and shifts the features of an image in every block."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.gru = nn.Embedding(100, WIDTH), nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.blocks = nn.ModuleList([FilmBlock() for _ in range(2)])
        self.last, self.classify = nn.Conv2d(16, 32, 1), nn.Linear(32, 10)

    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        sentence, x = self.gru(self.words(question))[0][:, -1], self.stem(image)
        for block in self.blocks:
            x = block(x, sentence)
        return self.classify(self.last(x).amax((2, 3)))


class GatedCrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cross, self.gate = CrossAttention(), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        return x + self.gate.tanh() * self.cross(x, image)


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, WIDTH)
        self.layers = nn.ModuleList([encoder_layer() for _ in range(4)])
        self.gated = nn.ModuleDict({"1": GatedCrossAttention(), "3": GatedCrossAttention()})
        self.norm, self.lm_head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 100)

    def forward(self, tokens: Tensor, image: Tensor) -> Tensor:
        x = self.embed(tokens)
        for index, layer in enumerate(self.layers):
            if str(index) in self.gated:
                x = self.gated[str(index)](x, image)
            x = layer(x)
        return self.lm_head(self.norm(x))


class Flamingo(nn.Module):
    """Gated cross-attention to an image in some blocks of a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.vision, self.resampler = VisionTransformer(), CrossAttention()
        self.latents = nn.Parameter(torch.zeros(1, 8, WIDTH))
        self.language = LanguageModel()

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        seen = self.vision(image)
        return self.language(tokens, self.resampler(self.latents.expand(len(seen), -1, -1), seen))


class QFormer(nn.Module):
    """Queries attend to themselves and the instruction, then to the image (InstructBLIP)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.queries = nn.Embedding(100, WIDTH), nn.Parameter(torch.zeros(1, 8, WIDTH))
        self.layers = nn.ModuleList([nn.TransformerDecoderLayer(WIDTH, HEADS, 64, batch_first=True) for _ in range(2)])

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        x = torch.cat([self.queries.expand(len(seen), -1, -1), self.words(tokens)], dim=1)
        for layer in self.layers:
            x = layer(x, seen)
        return x[:, :8]


class Instructed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vision, self.qformer, self.project = VisionTransformer(), QFormer(), nn.Linear(WIDTH, 64)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        return self.project(self.qformer(tokens, self.vision(image)))


class CoAttentionLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual_cross, self.language_cross = CrossAttention(), CrossAttention()
        self.visual_self, self.language_self = encoder_layer(), encoder_layer()

    def forward(self, seen: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        return (
            self.visual_self(self.visual_cross(seen, words)),
            self.language_self(self.language_cross(words, seen)),
        )


class CoAttention(nn.Module):
    """LXMERT, ViLBERT: layers of each modality alone, then of both, which attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes, self.words = nn.Linear(64, WIDTH), nn.Embedding(100, WIDTH)
        self.visual, self.language = encoder_layer(), encoder_layer()
        self.joint = nn.ModuleList([CoAttentionLayer() for _ in range(2)])
        self.pooler, self.answer = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 50)

    def forward(self, regions: Tensor, tokens: Tensor) -> Tensor:
        seen, words = self.visual(self.boxes(regions)), self.language(self.words(tokens))
        for layer in self.joint:
            seen, words = layer(seen, words)
        return self.answer(torch.tanh(self.pooler(words[:, 0])))


class EarlyFusion(nn.Module):
    """The tokens of both modalities go through one encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.words = nn.Conv2d(3, WIDTH, 16, 16), nn.Embedding(100, WIDTH)
        self.encoder = nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False)
        self.classify = nn.Linear(WIDTH, 5)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        x = torch.cat([self.patch(image).flatten(2).transpose(1, 2), self.words(tokens)], dim=1)
        return self.classify(self.encoder(x)[:, 0])


class EarlyAndLate(nn.Module):
    """Colour and depth are one image from the start; sound comes in at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.gru, self.hidden, self.classify = nn.GRU(40, 16, batch_first=True), nn.Linear(32, 16), nn.Linear(16, 3)

    def forward(self, colour: Tensor, depth: Tensor, sound: Tensor) -> Tensor:
        seen = functional.relu(self.conv(functional.relu(self.stem(torch.cat([colour, depth], dim=1)))))
        both = torch.cat([seen.mean((2, 3)), self.gru(sound)[0][:, -1]], dim=-1)
        return self.classify(functional.relu(self.hidden(both)))


class Lateral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(4, 8, (5, 1, 1), (4, 1, 1), (2, 0, 0)), nn.BatchNorm3d(8)

    def forward(self, clips: list[Tensor]) -> list[Tensor]:
        return [torch.cat([clips[0], functional.relu(self.norm(self.conv(clips[1])))], dim=1), clips[1]]


class Pathways(nn.Module):
    def __init__(self, slow: int) -> None:
        super().__init__()
        self.slow, self.fast = nn.Conv3d(slow, slow, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)

    def forward(self, clips: list[Tensor]) -> list[Tensor]:
        return [functional.relu(self.slow(clips[0])), functional.relu(self.fast(clips[1]))]


class SlowFast(nn.Module):
    """The fast clip's features are given to the slow one's between stages that hold both pathways."""

    def __init__(self) -> None:
        super().__init__()
        self.stem_slow, self.stem_fast = (
            nn.Conv3d(3, 16, (1, 3, 3), (1, 2, 2), (0, 1, 1)),
            nn.Conv3d(3, 4, 3, (1, 2, 2), 1),
        )
        self.fuse1, self.stage1, self.fuse2, self.stage2 = Lateral(), Pathways(24), Lateral(), Pathways(32)
        self.classify = nn.Linear(36, 10)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        clips = [self.stem_slow(slow), self.stem_fast(fast)]
        for step in (self.fuse1, self.stage1, self.fuse2, self.stage2):
            clips = step(clips)
        return self.classify(torch.cat([clip.mean((2, 3, 4)) for clip in clips], dim=1))


class Conformer(nn.Module):
    """One modality, and how long each of its sequences is."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.conv = nn.Linear(80, WIDTH), nn.Conv1d(WIDTH, WIDTH, 15, padding=7, groups=WIDTH)
        self.attend, self.out = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), nn.Linear(WIDTH, 16)

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        padded = torch.arange(spectrogram.shape[1])[None] >= lengths[:, None]
        x = self.project(spectrogram).masked_fill(padded[..., None], 0.0)
        x = x + self.conv(x.transpose(1, 2)).transpose(1, 2)
        attended = self.attend(x, x, x, key_padding_mask=padded, need_weights=False)[0]
        return self.out(x + attended), lengths


class GraphConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, WIDTH), nn.Linear(WIDTH, 7)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        x = self.first(nodes)
        gathered = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
        return self.second(gathered.relu())


IMAGE, AUDIO, TOKENS = (1, 3, 64, 64), (1, 50, 40), (1, 12)


def example(*, whole: dict[str, tuple[int, ...]] | None = None, **shapes: tuple[int, ...]) -> dict[str, Any]:
    """Inputs of these shapes; ``whole`` are whole numbers."""
    floats: dict[str, Any] = {name: torch.zeros(shape) for name, shape in shapes.items()}
    return floats | {name: torch.zeros(shape, dtype=torch.long) for name, shape in (whole or {}).items()}


NETWORKS: dict[type[nn.Module], dict[str, Any]] = {
    TwoCrossAttentions: example(image=IMAGE, audio=AUDIO),
    NamedOutputs: example(image=IMAGE, audio=AUDIO),
    Perceiver: example(image=(1, 196, 48), audio=AUDIO),
    Film: example(image=(1, 3, 32, 32), whole={"question": TOKENS}),
    Flamingo: example(image=IMAGE, whole={"tokens": TOKENS}),
    Instructed: example(image=IMAGE, whole={"tokens": TOKENS}),
    CoAttention: example(regions=(1, 36, 64), whole={"tokens": TOKENS}),
    EarlyFusion: example(image=IMAGE, whole={"tokens": TOKENS}),
    EarlyAndLate: example(colour=(1, 3, 32, 32), depth=(1, 1, 32, 32), sound=AUDIO),
    SlowFast: example(slow=(1, 3, 4, 16, 16), fast=(1, 3, 16, 16, 16)),
    Conformer: example(spectrogram=(1, 100, 80), whole={"lengths": (1,)}),
    GraphConvolution: example(nodes=(100, 16), whole={"edges": (2, 500)}),
}


@pytest.fixture(scope="module")
def traced() -> dict[type[nn.Module], LayerGraph]:
    def graph(kind: type[nn.Module]) -> LayerGraph:
        return trace_model(Model(kind.__name__, "", 1, "float32", lambda device: (kind(), NETWORKS[kind]))).graph

    return {kind: graph(kind) for kind in NETWORKS}


def modules(graph: LayerGraph, depth: int = 1) -> dict[str, list[str]]:
    """Stage to what of the network is in it: modules to ``depth``, operators of the network itself apart."""
    found: dict[str, dict[str, None]] = {}
    for layer in graph:
        if layer.module:
            found.setdefault(layer.stage, {})[".".join(layer.module.split(".")[:depth])] = None
    return {stage: sorted(paths) for stage, paths in found.items()}


def test_cross_attention_blocks_are_fusion_and_each_output_has_its_head(
    traced: dict[type[nn.Module], LayerGraph],
) -> None:
    graph = traced[TwoCrossAttentions]
    assert modules(graph) == {
        "encoder/image": ["vit"],
        "encoder/audio": ["gru"],
        "fusion": ["a2v", "v2a"],
        "head/action": ["action_head"],
        "head/emotion": ["emotion_head"],
    }
    # 16 patches and 50 frames: q and output projection of one, k and v of the other, attention, MLP; both ways.
    image, audio, square = 16, 50, WIDTH * WIDTH
    each = (2 * image + 2 * audio) * square + 2 * image * audio * WIDTH
    assert graph.stages["fusion"].macs == 2 * each + (image + audio) * 8 * square
    assert graph.stages["head/action"].macs == 2 * WIDTH * 12
    assert graph.stages["head/emotion"].macs == 2 * WIDTH * 7
    # The pooled features serve both heads.
    assert graph["cat"].stage == "head"


def test_heads_are_called_after_named_outputs(traced: dict[type[nn.Module], LayerGraph]) -> None:
    stages = modules(traced[NamedOutputs])
    assert stages["head/gesture"] == ["action_head"]
    assert stages["head/mood"] == ["emotion_head"]


def test_a_perceiver_is_fusion_from_the_concatenation_to_its_last_block(
    traced: dict[type[nn.Module], LayerGraph],
) -> None:
    assert modules(traced[Perceiver]) == {
        "encoder/image": ["see"],
        "encoder/audio": ["hear"],
        "fusion": ["blocks", "cross"],
        "head": ["classify", "norm"],
    }


def test_film_is_fusion_but_for_what_the_image_alone_passes_through(traced: dict[type[nn.Module], LayerGraph]) -> None:
    assert modules(traced[Film], depth=3) == {
        "encoder/question": ["gru", "words"],
        "encoder/image": ["blocks.0.conv1", "blocks.0.conv2", "stem"],
        "fusion": ["blocks.0", "blocks.0.film", "blocks.1", "blocks.1.conv1", "blocks.1.conv2", "blocks.1.film"],
        "head": ["classify", "last"],
    }


def test_a_language_model_is_of_text_up_to_its_first_gated_cross_attention(
    traced: dict[type[nn.Module], LayerGraph],
) -> None:
    graph = traced[Flamingo]
    assert modules(graph)["encoder/image"] == ["resampler", "vision"]
    stages = modules(graph, depth=3)
    assert stages["encoder/tokens"] == ["language.embed", "language.layers.0"]
    assert stages["fusion"] == [
        "language.gated.1",
        "language.gated.3",
        "language.layers.1",
        "language.layers.2",
        "language.layers.3",
    ]
    assert stages["head"] == ["language.lm_head", "language.norm"]


def test_a_query_transformer_reads_words_and_fuses_in_its_layers(traced: dict[type[nn.Module], LayerGraph]) -> None:
    stages = modules(traced[Instructed], depth=4)
    # The queries' and words' attention to themselves in the first layer is before the image comes in.
    assert stages["encoder/tokens"] == ["qformer", "qformer.layers.0.self_attn", "qformer.words"]
    assert {path for path in stages["fusion"] if path.endswith("multihead_attn")} == {
        f"qformer.layers.{index}.multihead_attn" for index in (0, 1)
    }
    assert stages["head"] == ["project"]


def test_co_attention_layers_are_fusion_and_the_layers_before_them_encoders(
    traced: dict[type[nn.Module], LayerGraph],
) -> None:
    assert modules(traced[CoAttention]) == {
        "encoder/regions": ["boxes", "visual"],
        "encoder/tokens": ["language", "words"],
        "fusion": ["joint"],
        "head": ["answer", "pooler"],
    }


def test_tokens_joined_early_are_fusion_to_the_end_of_their_encoder(traced: dict[type[nn.Module], LayerGraph]) -> None:
    assert modules(traced[EarlyFusion]) == {
        "encoder/image": ["patch"],
        "encoder/tokens": ["words"],
        "fusion": ["encoder"],
        "head": ["classify"],
    }


def test_early_and_late_fusion_in_one_network(traced: dict[type[nn.Module], LayerGraph]) -> None:
    assert modules(traced[EarlyAndLate]) == {
        "encoder/sound": ["gru"],
        "fusion": ["conv", "stem"],
        "head": ["classify", "hidden"],
    }
    assert traced[EarlyAndLate]["cat.1"].stage == "fusion"


def test_streams_that_are_connected_at_several_depths(traced: dict[type[nn.Module], LayerGraph]) -> None:
    """What depends on the fast clip alone is its encoder, what depends on both is fusion."""
    graph = traced[SlowFast]
    assert modules(graph, depth=2) == {
        "encoder/slow": ["stem_slow"],
        "encoder/fast": ["fuse1.conv", "fuse2.conv", "stage1", "stage1.fast", "stage2", "stage2.fast", "stem_fast"],
        "fusion": ["fuse1", "fuse1.norm", "fuse2", "fuse2.norm", "stage1", "stage1.slow", "stage2", "stage2.slow"],
        "head": ["classify"],
    }
    # Frames, rows and columns of the outputs, times channels in and out and taps.
    assert graph.stages["encoder/slow"].macs == (4 * 8 * 8) * 3 * 16 * 9
    lateral = (4 * 8 * 8) * 4 * 8 * 5
    assert graph.stages["encoder/fast"].macs == (16 * 8 * 8) * (3 * 4 * 27 + 2 * 4 * 4 * 27) + 2 * lateral


@pytest.mark.parametrize(
    ("kind", "modality", "other"), [(Conformer, "spectrogram", "lengths"), (GraphConvolution, "nodes", "edges")]
)
def test_lengths_and_edges_are_no_modality(
    traced: dict[type[nn.Module], LayerGraph], kind: type[nn.Module], modality: str, other: str
) -> None:
    graph = traced[kind]
    assert {item.tensor: item.role for item in graph.inputs} == {modality: "modality", other: "auxiliary"}
    assert list(graph.stages) == [f"encoder/{modality}"]


@pytest.mark.parametrize("kind", [TwoCrossAttentions, Film, Flamingo, SlowFast, Conformer])
def test_the_recorder_finds_the_same_stages(traced: dict[type[nn.Module], LayerGraph], kind: type[nn.Module]) -> None:
    model = Model(kind.__name__, "", 1, "float32", lambda device: (kind(), NETWORKS[kind]))
    graph = trace_model(model, "recorder").graph
    assert {stage: totals.macs for stage, totals in graph.stages.items()} == {
        stage: totals.macs for stage, totals in traced[kind].stages.items()
    }
