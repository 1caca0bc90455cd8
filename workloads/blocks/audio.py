"""Speech features from a waveform, as Librosa computes them, by operations of torch.

Waveforms are [N, samples]; spectra [N, bins, frames]; features [N, frames, features]. A frame is ``fft`` samples round
every ``hop``-th one, the signal being padded with zeros, so ``samples`` give ``1 + samples // hop`` frames.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

RATE_HZ = 22_050  # what Librosa resamples to
AUDIBLE = 1e-10  # the power below which decibels stop
RANGE_DB = 80.0
ROLL_OFF = 0.85  # of the energy lies below the roll-off frequency


def mel_filters(fft: int, bands: int, high_hz: float = RATE_HZ / 2, *, htk: bool = False) -> torch.Tensor:
    """[bands, fft / 2 + 1]: triangles at equal distances on the mel scale from 0 to ``high_hz``, each of area one.

    The scale is Slaney's (linear up to 1 kHz, logarithmic above) or, with ``htk``, 2595 log10(1 + f / 700).
    """
    edges_hz = _hertz(torch.linspace(0, _mel(high_hz, htk), bands + 2, dtype=torch.float64), htk)
    bins_hz = torch.linspace(0, RATE_HZ / 2, fft // 2 + 1, dtype=torch.float64)
    left, centre, right = (edges_hz[start : start + bands].unsqueeze(1) for start in range(3))
    rise, fall = (bins_hz - left) / (centre - left), (right - bins_hz) / (right - centre)
    return (torch.minimum(rise, fall).clamp_min(0) * 2 / (right - left)).float()


def _mel(frequency_hz: float, htk: bool) -> float:
    if htk:
        return 2595 * math.log10(1 + frequency_hz / 700)
    # 15 mel at 1 kHz, then 27 for each factor of 6.4.
    return frequency_hz * 3 / 200 if frequency_hz < 1000 else 15 + 27 * math.log(frequency_hz / 1000, 6.4)


def _hertz(mel: torch.Tensor, htk: bool) -> torch.Tensor:
    if htk:
        return 700 * (10 ** (mel / 2595) - 1)
    return torch.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def cosine_basis(count: int, size: int) -> torch.Tensor:
    """[count, size]: the first rows of the orthonormal cosine transform (DCT-II)."""
    row = torch.arange(count, dtype=torch.float64).unsqueeze(1)
    column = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * row * (column + 0.5)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis.float()


def decibels(power: torch.Tensor) -> torch.Tensor:
    """10 log10 of ``power`` [N, ...], not below 80 dB under the loudest of each sample."""
    level = 10 * power.clamp_min(AUDIBLE).log10()
    return torch.maximum(level, level.amax(dim=(1, 2), keepdim=True) - RANGE_DB)


def centroid(magnitude: torch.Tensor, bins_hz: torch.Tensor) -> torch.Tensor:
    """[N, 1, frames]: the mean frequency of each frame, weighted by ``magnitude`` [N, bins, frames]."""
    return (bins_hz @ functional.normalize(magnitude, p=1, dim=1)).unsqueeze(1)


def roll_off(magnitude: torch.Tensor, step_hz: float) -> torch.Tensor:
    """[N, 1, frames]: the frequency below which 85 % of the sum of ``magnitude`` [N, bins, frames] lies."""
    total = magnitude.cumsum(dim=1)
    return (total < ROLL_OFF * total[:, -1:]).sum(dim=1, keepdim=True) * step_hz


class Spectrum(nn.Module):
    """The short-time Fourier transform under a Hann window: [N, samples] to complex [N, fft / 2 + 1, frames]."""

    window: torch.Tensor
    bins_hz: torch.Tensor

    def __init__(self, fft: int, hop: int) -> None:
        super().__init__()
        self.fft, self.hop = fft, hop
        self.register_buffer("window", torch.hann_window(fft), persistent=False)
        self.register_buffer("bins_hz", torch.linspace(0, RATE_HZ / 2, fft // 2 + 1), persistent=False)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return torch.stft(
            waveform,
            self.fft,
            self.hop,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )

    def inverse(self, spectrum: torch.Tensor) -> torch.Tensor:
        """[N, hop * (frames - 1)]: the waveform of ``spectrum``."""
        return torch.istft(spectrum, self.fft, self.hop, window=self.window, center=True)


class Cepstrum(nn.Module):
    """Mel-frequency cepstral coefficients: mel powers [N, bands, frames] to [N, count, frames]."""

    basis: torch.Tensor

    def __init__(self, count: int, bands: int) -> None:
        super().__init__()
        self.register_buffer("basis", cosine_basis(count, bands), persistent=False)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return self.basis @ decibels(mel)


class Delta(nn.Module):
    """[N, rows, frames]: the slope of the line fitted to each row over nine frames (Savitzky and Golay).

    Less than half a window from an end, the slope of the first or last full window holds.
    """

    HALF = 4

    kernel: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(-self.HALF, self.HALF + 1.0)
        self.register_buffer("kernel", (offsets / offsets.square().sum()).view(1, 1, -1), persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        slope = functional.conv1d(features.flatten(0, 1).unsqueeze(1), self.kernel)
        return functional.pad(slope, (self.HALF, self.HALF), mode="replicate").view_as(features)


class Foreground(nn.Module):
    """The voice in front of a repeating background: a spectrum to one of the same shape.

    Each frame is compared with those most like it (by cosine; 2 ceil(sqrt(frames - 1)) of them); their median is the
    background, and a soft mask takes it away (Librosa's vocal separation, after Rafii and Pardo's REPET-SIM, 2012).
    """

    MARGIN = 4.0  # how far the voice must stand out

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        magnitude = spectrum.abs()
        frames = magnitude.transpose(1, 2)
        samples, count, _ = frames.shape
        direction = functional.normalize(frames, dim=2)
        itself = torch.eye(count, dtype=torch.bool, device=frames.device)
        likeness = (direction @ direction.transpose(1, 2)).masked_fill(itself, -math.inf)
        neighbours = min(count - 1, 2 * math.ceil(math.sqrt(count - 1)))
        nearest = likeness.topk(neighbours, dim=2).indices
        sample = torch.arange(samples, device=frames.device).view(-1, 1, 1)
        alike = frames[sample, nearest].sort(dim=2).values
        # The median of an even number is the mean of the two in the middle.
        median = (alike[:, :, (neighbours - 1) // 2] + alike[:, :, neighbours // 2]) / 2
        background = torch.minimum(magnitude, median.transpose(1, 2))
        return spectrum * soft_mask(magnitude - background, self.MARGIN * background)


def soft_mask(wanted: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """wanted² / (wanted² + other²), zero where both are zero."""
    tiny = torch.finfo(wanted.dtype).tiny
    scale = torch.maximum(wanted, other).clamp_min(tiny)
    wanted_power, other_power = (wanted / scale).square(), (other / scale).square()
    return wanted_power / (wanted_power + other_power).clamp_min(tiny)


class VoiceFeatures(nn.Module):
    """[N, samples] to [N, frames, 283], as the MUStARD data set has them.

    The voice is taken out of the background and transformed back; its 13 cepstral coefficients, their deltas, 128 mel
    powers up to 8 kHz, their deltas, and the spectral centroid of the whole sound.
    """

    FFT, HOP, COEFFICIENTS, BANDS, HIGH_HZ = 2048, 512, 13, 128, 8000.0
    WIDTH = 2 * COEFFICIENTS + 2 * BANDS + 1

    full: torch.Tensor
    speech: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum(self.FFT, self.HOP)
        self.foreground = Foreground()
        self.cepstrum = Cepstrum(self.COEFFICIENTS, self.BANDS)
        self.delta = Delta()
        # The coefficients are of the full range, the powers up to 8 kHz.
        self.register_buffer("full", mel_filters(self.FFT, self.BANDS), persistent=False)
        self.register_buffer("speech", mel_filters(self.FFT, self.BANDS, self.HIGH_HZ), persistent=False)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        sound = self.spectrum(waveform)
        voice = self.spectrum.inverse(self.foreground(sound))
        power = self.spectrum(voice).abs().square()
        coefficients = self.cepstrum(self.full @ power)
        mel = self.speech @ power
        middle = centroid(sound.abs(), self.spectrum.bins_hz)
        return torch.cat([coefficients, self.delta(coefficients), mel, self.delta(mel), middle], dim=1).transpose(1, 2)


class FrameFeatures(nn.Module):
    """[N, samples] to [N, frames, 24], the example configuration of MMSA-FET.

    20 cepstral coefficients (HTK's mel scale), root mean square, rate of zero crossings, spectral roll-off and spectral
    centroid, each over 512 samples at every 128th.
    """

    FFT, HOP, COEFFICIENTS, BANDS = 512, 128, 20, 128
    WIDTH = COEFFICIENTS + 4

    filters: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum(self.FFT, self.HOP)
        self.cepstrum = Cepstrum(self.COEFFICIENTS, self.BANDS)
        self.register_buffer("filters", mel_filters(self.FFT, self.BANDS, htk=True), persistent=False)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        magnitude = self.spectrum(waveform).abs()
        rows = [
            self.cepstrum(self.filters @ magnitude.square()),
            self._frames(waveform, "constant").square().mean(dim=2).sqrt().unsqueeze(1),
            self._crossings(waveform),
            roll_off(magnitude, RATE_HZ / self.FFT),
            centroid(magnitude, self.spectrum.bins_hz),
        ]
        return torch.cat(rows, dim=1).transpose(1, 2)

    def _frames(self, waveform: torch.Tensor, mode: str) -> torch.Tensor:
        """[N, frames, fft]: the samples of each frame; past the ends zeros, or what ``mode`` says."""
        half = self.FFT // 2
        padded = functional.pad(waveform.unsqueeze(1), (half, half), mode=mode).squeeze(1)
        return padded.unfold(1, self.FFT, self.HOP)

    def _crossings(self, waveform: torch.Tensor) -> torch.Tensor:
        """[N, 1, frames]: the share of samples whose sign is not that of the one before."""
        negative = self._frames(waveform, "replicate") < -AUDIBLE
        changes = negative[:, :, 1:] != negative[:, :, :-1]
        return changes.sum(dim=2).div(self.FFT).unsqueeze(1)


class Steps(nn.Module):
    """[N, frames, features] to [N, steps, features]: means over ``length`` frames each, the rest left out."""

    def __init__(self, steps: int, length: int) -> None:
        super().__init__()
        self.steps, self.length = steps, length

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        used = features[:, : self.steps * self.length]
        return used.unflatten(1, (self.steps, self.length)).mean(dim=2)


class MeanOfBins(nn.Module):
    """[N, frames, features] to [N, features]: the mean of the means over bins of frames.

    MUStARD's binning: the first frame, bins of a tenth of ``frames`` each, and what is left at the end.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        edges = (0, *range(1, frames, max(1, frames // 10)), frames)
        self.bins: Sequence[tuple[int, int]] = tuple(itertools.pairwise(edges))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.stack([features[:, start:end].mean(dim=1) for start, end in self.bins]).mean(dim=0)
