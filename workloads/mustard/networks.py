"""The networks of MUStARD that look at an utterance as a whole, and what its waveforms are made into."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from mmworkload.workloads.blocks.affect import Bert, MeanOfSteps, resnet
from mmworkload.workloads.blocks.audio import MeanOfBins, Steps, VoiceFeatures
from mmworkload.workloads.blocks.fusion import table1
from mmworkload.workloads.blocks.layers import mlp
from mmworkload.workloads.blocks.multimodal import MultiModal

WIDTHS = {"vision": 2048, "audio": 283, "text": 768}
HIDDEN, CLASSES = 10, 2


def concat(faces: str, fusion: str, drop: Sequence[str]) -> nn.Module:
    """The means over frames of the ResNet called ``faces``, the audio features and BERT's first state.

    They are joined by ``fusion`` of MMBench's Table 1; zeros stand for what is in ``drop``.
    """
    join = table1(fusion, list(WIDTHS.values()))
    encoders = {name: nn.Identity() if name in drop else _encoder(name, faces) for name in WIDTHS}
    dropped = {name: (WIDTHS[name],) for name in drop}
    return MultiModal(encoders, join, mlp(int(join.width), HIDDEN, CLASSES), dropped)


def single(name: str) -> nn.Module:
    """One modality of ``concat``, with ResNet-50."""
    return MultiModal({name: _encoder(name, "resnet50")}, None, mlp(WIDTHS[name], HIDDEN, CLASSES))


def _encoder(name: str, faces: str) -> nn.Module:
    make: dict[str, Callable[[], nn.Module]] = {
        "vision": lambda: nn.Sequential(OrderedDict(features=resnet(faces), summary=MeanOfSteps())),
        "audio": nn.Identity,
        "text": lambda: Bert(first=True),
    }
    return make[name]()


def listen(frames: int) -> nn.Module:
    """A waveform of ``frames`` audio frames to the features of the whole utterance, [N, 283]."""
    return nn.Sequential(VoiceFeatures(), MeanOfBins(frames))


def listen_in_steps(steps: int, frames_per_step: int) -> nn.Module:
    """A waveform to a sequence of the same features, [N, steps, 283]."""
    return nn.Sequential(VoiceFeatures(), Steps(steps, frames_per_step))
