"""The networks of MUStARD that look at an utterance as a whole, and what its waveforms are made into."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from mmworkload.workloads.blocks.affect import Bert, Frames, two_layers
from mmworkload.workloads.blocks.audio import MeanOfBins, Steps, VoiceFeatures
from mmworkload.workloads.blocks.fusion import table1
from mmworkload.workloads.blocks.multimodal import MultiModal

WIDTHS = {"vision": 2048, "audio": 283, "text": 768}
HIDDEN, CLASSES = 10, 2


def concat(resnet: str, fusion: str, drop: Sequence[str]) -> nn.Module:
    """The mean over frames, the audio features as they are, and BERT's first state, joined by ``fusion`` of Table 1."""
    join = table1(fusion, list(WIDTHS.values()))
    encoders = {name: nn.Identity() if name in drop else _encoder(name, resnet) for name in WIDTHS}
    dropped = {name: (WIDTHS[name],) for name in drop}
    return MultiModal(encoders, join, two_layers(int(join.width), HIDDEN, CLASSES), dropped)


def single(name: str, resnet: str) -> nn.Module:
    """One modality of ``concat``."""
    return MultiModal({name: _encoder(name, resnet)}, None, two_layers(WIDTHS[name], HIDDEN, CLASSES))


def _encoder(name: str, resnet: str) -> nn.Module:
    make: dict[str, Callable[[], nn.Module]] = {
        "vision": lambda: Frames(resnet, mean=True),
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
