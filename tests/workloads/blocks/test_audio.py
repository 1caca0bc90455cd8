"""Speech features are those of Librosa, and what they are defined to be on tones and ramps."""

from __future__ import annotations

import math

import pytest
import torch

from mmworkload.workloads.blocks.audio import (
    RATE_HZ,
    Delta,
    Foreground,
    FrameFeatures,
    MeanOfBins,
    Spectrum,
    Steps,
    VoiceFeatures,
    cosine_basis,
    decibels,
    mel_filters,
    soft_mask,
)


def sound() -> torch.Tensor:
    """A second of a rising tone and of another that comes and goes."""
    t = torch.arange(RATE_HZ, dtype=torch.float64) / RATE_HZ
    gate = torch.sin(2 * math.pi * 3 * t) > 0
    rising = 0.5 * torch.sin(2 * math.pi * (300 + 200 * t) * t)
    return (rising + 0.25 * torch.sin(2 * math.pi * 1500 * t) * gate).float().unsqueeze(0)


def tone(frequency_hz: float, samples: int = 8192) -> torch.Tensor:
    phase = 2 * math.pi * frequency_hz / RATE_HZ * torch.arange(samples, dtype=torch.float64)
    return torch.sin(phase).float().unsqueeze(0)


# Row: the mean over frames, frame 20, and (of the voice) the mean of bins, from Librosa 0.11.0 for sound(), at its
# defaults unless FrameFeatures and VoiceFeatures say otherwise. Its nearest-neighbour filter was given the nearest
# neighbours: by itself it drops some at random among equals.
VOICE = {
    0: (-396.374026, -405.18634, -383.332959),
    1: (87.082178, 91.587234, 94.039136),
    12: (0.888842, 11.020037, -0.647535),
    13: (0.863666, 10.822233, 0.810224),
    25: (1.075175, 1.775473, 1.017729),
    30: (0.152784, 0.000157, 0.452631),
    40: (211.80307, 0.000098, 195.31315),
    170: (3.493218, -0.082468, 5.745874),
    282: (787.417158, 844.667255, 797.898436),
}
FRAMES = {
    0: (-528.208493, -549.034973),
    1: (111.610246, 103.448227),
    19: (8.019709, 4.428374),
    20: (0.372875, 0.393785),
    21: (0.049867, 0.050781),
    22: (1075.91334, 1507.324219),
    23: (705.486749, 735.669301),
}


def test_voice_features_are_librosa_s() -> None:
    features = VoiceFeatures()(sound())
    assert features.shape == (1, 1 + RATE_HZ // 512, 283)
    bins = MeanOfBins(features.shape[1])(features)
    found = {row: (features[0, :, row].mean(), features[0, 20, row], bins[0, row]) for row in VOICE}
    for row, values in VOICE.items():
        assert torch.tensor(found[row]).tolist() == pytest.approx(values, rel=2e-4, abs=1e-4), row


def test_frame_features_are_librosa_s() -> None:
    features = FrameFeatures()(sound())
    assert features.shape == (1, 1 + RATE_HZ // 128, 24)
    for row, values in FRAMES.items():
        found = [features[0, :, row].mean().item(), features[0, 20, row].item()]
        assert found == pytest.approx(values, rel=1e-4, abs=1e-5), row


def test_features_of_a_tone() -> None:
    # Bin 20 of 512 samples, seen through whole frames alone.
    frequency_hz = 20 * RATE_HZ / 512
    features = FrameFeatures()(tone(frequency_hz))[0, 4:-4]
    assert features[:, 20] == pytest.approx(torch.full((57,), math.sqrt(0.5)), rel=1e-4)
    # A tone crosses zero twice a period: 40 times in 512 samples.
    assert ((features[:, 21] * 512 - 40).abs() <= 1).all()
    # Under a Hann window the energy lies in three bins, in amplitudes of one, two and one.
    assert features[:, 22] == pytest.approx(torch.full((57,), 21 * RATE_HZ / 512))
    assert features[:, 23] == pytest.approx(torch.full((57,), frequency_hz), rel=1e-4)


def test_a_sample_of_a_batch_does_not_see_the_others() -> None:
    both = torch.cat([sound(), 0.01 * sound().flip(1)])
    for extract in (VoiceFeatures(), FrameFeatures()):
        assert torch.allclose(extract(both)[1:], extract(both[1:]), rtol=1e-3, atol=1e-3)


def test_a_spectrum_and_back_is_the_waveform() -> None:
    spectrum = Spectrum(2048, 512)
    there = spectrum(sound())
    assert (there.shape, there.dtype) == ((1, 1025, 44), torch.complex64)
    assert torch.allclose(spectrum.inverse(there), sound()[:, : 43 * 512], atol=1e-5)


def test_what_repeats_in_every_frame_is_background() -> None:
    spectrum = Spectrum(2048, 512)
    # Three seconds of one tone; another for 1500 samples, so that most of the frames most like its own are without it.
    both = tone(1000, 3 * RATE_HZ)
    both[:, 30000:31500] += tone(4000, 1500)
    whole, voice = spectrum(both)[0].abs(), Foreground()(spectrum(both))[0].abs()
    low, high = round(1000 * 2048 / RATE_HZ), round(4000 * 2048 / RATE_HZ)
    during, before = 60, 5
    assert voice[high, during] > 0.9 * whole[high, during] > 100
    assert voice[low, before] < 0.01 * whole[low, before]


def test_a_soft_mask_shares_by_power() -> None:
    wanted, other = torch.tensor([3.0, 0.0, 0.0, 2.0]), torch.tensor([1.0, 5.0, 0.0, 2.0])
    assert soft_mask(wanted, other).tolist() == pytest.approx([0.9, 0, 0, 0.5])


def test_the_delta_of_a_ramp_is_its_slope() -> None:
    ramp = torch.stack([2.5 * torch.arange(12.0), -torch.arange(12.0), torch.ones(12)]).unsqueeze(0)
    slopes = Delta()(ramp)
    assert slopes.shape == ramp.shape
    assert torch.allclose(slopes, torch.tensor([2.5, -1, 0]).view(1, 3, 1).expand(1, 3, 12), atol=1e-6)


@pytest.mark.parametrize("htk", [False, True])
def test_mel_filters_have_an_area_of_one_up_to_the_highest_frequency(htk: bool) -> None:
    filters = mel_filters(16384, 40, 8000.0, htk=htk)
    assert filters.shape == (40, 8193)
    assert filters.sum(dim=1) * RATE_HZ / 16384 == pytest.approx(torch.ones(40), rel=2e-3)
    assert filters[:, math.ceil(8000 / RATE_HZ * 16384) + 1 :].sum() == 0


def test_mel_filters_are_librosa_s() -> None:
    # Librosa 0.11.0: filters.mel(sr=22050, n_fft=2048, n_mels=128, fmax=8000), and with htk=True.
    slaney, htk = mel_filters(2048, 128, 8000.0)[20], mel_filters(2048, 128, 8000.0, htk=True)[60]
    assert slaney[43:49].tolist() == pytest.approx([0, 0.011111534, 0.030803412, 0.035037816, 0.015345939, 0], rel=1e-5)
    assert htk.nonzero().flatten().tolist() == list(range(145, 154))
    assert htk[147:150].tolist() == pytest.approx([0.011244234, 0.01660757, 0.021970905], rel=1e-5)


def test_the_cosine_basis_is_orthonormal() -> None:
    basis = cosine_basis(16, 16)
    assert torch.allclose(basis @ basis.T, torch.eye(16), atol=1e-6)
    assert basis[0] == pytest.approx(torch.full((16,), 0.25))


def test_decibels_stop_80_under_the_loudest_of_each_sample() -> None:
    power = torch.tensor([[[1.0, 100.0, 1e-9]], [[1e-4, 1e-30, 0.0]]])
    assert decibels(power).tolist() == [[pytest.approx([0, 20, -60])], [pytest.approx([-40, -100, -100])]]


def test_steps_are_means_over_frames() -> None:
    frames = torch.arange(7.0).view(1, 7, 1)
    assert Steps(3, 2)(frames).flatten().tolist() == [0.5, 2.5, 4.5]


def test_bins_are_the_first_frame_tenths_and_the_rest() -> None:
    # 23 frames: edges at 0, 1, 3, ..., 21 and 23.
    bins = [[0], *([start, start + 1] for start in range(1, 23, 2))]
    expected = sum(sum(item) / len(item) for item in bins) / len(bins)
    assert MeanOfBins(23)(torch.arange(23.0).view(1, 23, 1)).item() == pytest.approx(expected)
    # Fewer frames than ten: each is a bin.
    assert MeanOfBins(4)(torch.tensor([[[1.0], [2.0], [3.0], [6.0]]])).item() == 3
