"""What CMU-MOSEI's waveforms are made into."""

from __future__ import annotations

from torch import nn

from mmworkload.workloads.blocks.audio import FrameFeatures, Steps


def listen(steps: int, frames_per_step: int) -> nn.Module:
    """A waveform to the features of MMSA-FET, [N, steps, 24]."""
    return nn.Sequential(FrameFeatures(), Steps(steps, frames_per_step))
