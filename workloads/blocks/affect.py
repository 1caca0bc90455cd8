"""What the networks for speech that is seen, heard and read are made of: encoders, and the ways to join them.

Sequences are [N, steps, width]; a summary of one is [N, width]. The joined networks are those of MultiBench (Liang et
al., NeurIPS 2021, examples/affect), which MMBench takes over; they stand behind feature extractors or take features.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from mmworkload.workloads.blocks.affect_variants import MODALITIES
from mmworkload.workloads.blocks.fusion import Concat, EarlyConcat, LowRankTensor, TensorFusion, table1
from mmworkload.workloads.blocks.images import IMAGENET_MEAN, IMAGENET_STD, PrepareImage
from mmworkload.workloads.blocks.layers import Frames, mlp
from mmworkload.workloads.blocks.mult import MulT
from mmworkload.workloads.blocks.multimodal import MultiModal

# Makes what summarises a sequence of features of that width.
Summary = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Features:
    """What the networks start from: ``widths`` of each modality's features, [N, steps, width], and what extracts them.

    A modality without extractor comes in as features.
    """

    widths: Mapping[str, int]
    extractors: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)

    def extractor(self, name: str) -> nn.Module:
        """Of one modality."""
        return self.extractors[name]() if name in self.extractors else nn.Identity()

    def summarised(self, name: str, summary: Summary) -> nn.Module:
        """One modality's features and what summarises them."""
        behind = summary(self.widths[name])
        if name not in self.extractors:
            return behind
        return nn.Sequential(OrderedDict(features=self.extractor(name), summary=behind))


class Bert(nn.Module):
    """BERT-base: token ids [N, tokens] to [N, tokens, 768]; with ``first``, the state of the first token, [N, 768].

    The pooler runs and nobody reads it, as where the public code calls the whole model for its last states.
    """

    def __init__(self, *, first: bool = False) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.model = BertModel(BertConfig(attn_implementation="sdpa"))
        self.first = first

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states = self.model(input_ids=tokens).last_hidden_state
        return states[:, 0] if self.first else states


def resnet(name: str) -> nn.Module:
    """A ResNet without its classifier on every frame: [N, frames, 3, H, W] to [N, frames, 2048]."""
    import torchvision

    network = torchvision.models.get_model(name, weights=None)
    network.fc = nn.Identity()
    return Frames(network)


class MeanOfSteps(nn.Module):
    """[N, steps, width] to [N, width]."""

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return sequence.mean(dim=1)


class Recurrent(nn.Module):
    """The last state of a GRU: [N, steps, width] to [N, hidden]; with ``out``, projected to [N, out]."""

    def __init__(self, width: int, hidden: int, out: int = 0) -> None:
        super().__init__()
        self.gru = nn.GRU(width, hidden, batch_first=True)
        self.project = nn.Linear(hidden, out) if out else nn.Identity()

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.project(self.gru(sequence)[1][-1])


class AllStates(nn.Module):
    """All states of a GRU, projected together: [N, steps, width] to [N, out]."""

    def __init__(self, width: int, hidden: int, steps: int, out: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, hidden, batch_first=True)
        self.project = nn.Linear(hidden * steps, out)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.project(self.gru(sequence)[0].flatten(1))


class Attentive(nn.Module):
    """The last step of a transformer's encoder: [N, steps, width] to [N, embed].

    A pointwise convolution without bias to ``embed`` features, then five layers with five heads and 2048 hidden units
    that normalise after adding.
    """

    def __init__(self, width: int, embed: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(width, embed, 1, bias=False)
        layer = nn.TransformerEncoderLayer(embed, nhead=5, dim_feedforward=2048, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=5, enable_nested_tensor=False)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        embedded = self.embed(sequence.transpose(1, 2)).transpose(1, 2)
        return self.layers(embedded)[:, -1]


class Translation(nn.Module):
    """What the words say, learnt by translating them into vision and audio: [N, steps, words] to [N, hidden].

    Pham et al., Found in Translation, AAAI 2019. In training the text is translated to one modality and back, and what
    it was encoded to, to another. At inference the text alone comes in: it is encoded, decoded step by step to the
    first modality (``width`` features; narrower text is padded), and encoded again; the two last states of that pass
    through a second encoder, whose two last states pass through a GRU.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.width, self.hidden = width, hidden
        self.encoder = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.decoder = Decoder(width, hidden)
        self.second = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.regression = nn.GRU(hidden, hidden, batch_first=True)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        if text.shape[2] < self.width:
            text = functional.pad(text, (0, self.width - text.shape[2]))
        states, last = self.encoder(text)
        forwards, backwards = states.chunk(2, dim=2)
        memory = forwards + backwards
        hidden, step, steps = last[:1], torch.zeros_like(text[:, 0]), []
        for _ in range(text.shape[1]):
            step, hidden = self.decoder(step, hidden, memory)
            steps.append(step)
        _, first = self.encoder(torch.stack(steps, dim=1))
        _, second = self.second(first.transpose(0, 1))
        return self.regression(second.transpose(0, 1))[1][-1]


class Decoder(nn.Module):
    """One step: the last output [N, width] and state [1, N, hidden] to the next, looking at [N, steps, hidden]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.compare = nn.Linear(2 * hidden, hidden)
        self.weigh = nn.Parameter(torch.rand(hidden))
        self.gru = nn.GRU(hidden + width, hidden, batch_first=True)
        self.out = nn.Linear(2 * hidden, width)

    def forward(
        self, last: torch.Tensor, hidden: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        asked = hidden[-1].unsqueeze(1).expand_as(memory)
        energy = self.compare(torch.cat([asked, memory], dim=2)).softmax(dim=1)
        weights = torch.matmul(energy, self.weigh).relu().unsqueeze(1)
        context = torch.bmm(weights, memory)
        state, hidden = self.gru(torch.cat([last.unsqueeze(1), context], dim=2), hidden)
        out = self.out(torch.cat([state, context], dim=2).squeeze(1))
        return out.log_softmax(dim=1), hidden


def prepare_frames(size: int) -> nn.Module:
    """Frames of a video, uint8 [N, frames, H, W, 3], to float32 [N, frames, 3, size, size]."""
    return Frames(PrepareImage(size, IMAGENET_MEAN, IMAGENET_STD))


class Prepare(nn.Module):
    """Each raw input through the module of its name."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, **raw: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: part(raw[name]) for name, part in self.parts.items()}


def extracted(audio: int) -> Features:
    """The paper's encoders: ResNet-50 in place of OpenFace, Librosa's ``audio`` features as they are, BERT."""
    return Features({"vision": 2048, "audio": audio, "text": 768}, {"vision": lambda: resnet("resnet50"), "text": Bert})


def late(
    features: Features, hidden: Sequence[int], head: int, out: int, fusion: str = "plain", drop: Sequence[str] = ()
) -> nn.Module:
    """A GRU of ``hidden`` units for each modality, its last states joined by ``fusion`` of MMBench's Table 1."""
    join = table1(fusion, hidden)
    summaries = [partial(Recurrent, hidden=units) for units in hidden]
    return _joined(features, summaries, hidden, join, mlp(int(join.width), head, out), drop)


def late_transformer(features: Features, widths: Sequence[int], head: int, out: int) -> nn.Module:
    """A transformer of ``widths`` for each modality, its last steps side by side."""
    summaries = [partial(Attentive, embed=width) for width in widths]
    return _joined(features, summaries, widths, Concat(), mlp(sum(widths), head, out))


def tensor(features: Features, hidden: Sequence[int], out: int, drop: Sequence[str] = ()) -> nn.Module:
    """A GRU of ``hidden`` units and a linear layer for each modality, and their outer product, 5 x 20 x 80."""
    widths = (4, 19, 79)
    fusion = TensorFusion(widths)
    return _joined(features, _projected(hidden, widths), widths, fusion, mlp(fusion.width, 512, out), drop)


def low_rank(features: Features, hidden: Sequence[int], out: int, drop: Sequence[str] = ()) -> nn.Module:
    """A GRU of ``hidden`` units and a linear layer for each modality, and their low-rank tensor product."""
    widths = (32, 32, 128)
    fusion = LowRankTensor(widths, 128, rank=32)
    return _joined(features, _projected(hidden, widths), widths, fusion, mlp(fusion.width, 512, out), drop)


def transformer(
    features: Features, out: int, steps: Mapping[str, int] | None = None, drop: Sequence[str] = ()
) -> nn.Module:
    """MulT on the features: 40 features, 8 heads, 4 layers. ``steps`` of each modality are needed to drop one."""
    fusion = MulT([features.widths[name] for name in MODALITIES], embed=40, heads=8, layers=4, out=out, all_steps=False)
    return _in_step(features, fusion, nn.Identity(), steps, drop)


def early(
    features: Features, hidden: int, out: int, steps: Mapping[str, int] | None = None, drop: Sequence[str] = ()
) -> nn.Module:
    """The features side by side at each step, and a GRU of ``hidden`` units."""
    width = sum(features.widths.values())
    head = nn.Sequential(Recurrent(width, hidden), *mlp(hidden, 512, out))
    return _in_step(features, EarlyConcat(), head, steps, drop)


def early_transformer(
    features: Features, out: int, steps: Mapping[str, int] | None = None, drop: Sequence[str] = ()
) -> nn.Module:
    """The features side by side at each step, and a transformer of 300 features."""
    width = sum(features.widths.values())
    head = nn.Sequential(Attentive(width, 300), *mlp(300, 128, out))
    return _in_step(features, EarlyConcat(), head, steps, drop)


def factorized(features: Features, steps: int, out: int) -> nn.Module:
    """What the multimodal factorization model runs at inference: all states of a GRU for each modality, then 256."""
    latent = 256
    summaries = [partial(AllStates, hidden=30, steps=steps, out=latent) for _ in MODALITIES]
    fusion = nn.Sequential(Concat(), mlp(3 * latent, latent, latent // 2))
    return _joined(features, summaries, [latent] * 3, fusion, mlp(latent // 2, 20, out))


def translation(width: int, out: int) -> nn.Module:
    """The text of a cyclic translation network, whose modalities have ``width`` features."""
    return MultiModal({"text": Translation(width, 32)}, None, mlp(32, 64, out))


def single(features: Features, name: str, hidden: int, out: int) -> nn.Module:
    """One modality: a GRU of ``hidden`` units and two linear layers."""
    encoder = features.summarised(name, partial(Recurrent, hidden=hidden))
    return MultiModal({name: encoder}, None, mlp(hidden, 512, out))


def _projected(hidden: Sequence[int], widths: Sequence[int]) -> list[Summary]:
    return [partial(Recurrent, hidden=units, out=width) for units, width in zip(hidden, widths, strict=True)]


def _joined(
    features: Features,
    summaries: Sequence[Summary],
    widths: Sequence[int],
    fusion: nn.Module,
    head: nn.Module,
    drop: Sequence[str] = (),
) -> nn.Module:
    """Summaries of ``widths``, joined."""
    encoders = {
        name: nn.Identity() if name in drop else features.summarised(name, summary)
        for name, summary in zip(MODALITIES, summaries, strict=True)
    }
    dropped = {name: (width,) for name, width in zip(MODALITIES, widths, strict=True) if name in drop}
    return MultiModal(encoders, fusion, head, dropped)


def _in_step(
    features: Features, fusion: nn.Module, head: nn.Module, steps: Mapping[str, int] | None, drop: Sequence[str]
) -> nn.Module:
    """The features themselves, joined."""
    encoders = {name: nn.Identity() if name in drop else features.extractor(name) for name in MODALITIES}
    dropped = {name: ((steps or {})[name], features.widths[name]) for name in drop}
    return MultiModal(encoders, fusion, head, dropped)
