"""Audio: waveforms and spectrograms."""

from __future__ import annotations

from mmworkload.models.sources.transformers.sheet import Sheet

AUDIO = ("audio_config", "audio_encoder_config", "audio_encoder", "encoder_config", "speech_config", "encoder")
BANDS = (
    "num_mel_bins",
    "input_feat_per_channel",
    "feature_projection_input_dim",
    "n_mels",
    "mel_bins",
    "num_mels",
    "feature_size",
    "input_feat_size",
    "input_dim",
)
# One second of sound at 16 kHz.
SAMPLES = 16000


def audio(sheet: Sheet) -> None:
    """Every argument that holds sound."""
    part = sheet.part(*AUDIO)
    if sheet.takes("input_ids", "decoder_input_ids"):
        # Sound comes out of these; what may go in beside the text is an example of it.
        return
    both = sheet.takes("input_features", "input_values") and not sheet.requires("input_features")
    waveform = hasattr(part, "conv_dim")
    if sheet.takes("input_features") and not (both and waveform):
        _spectrogram(sheet)
    if sheet.takes("input_values") and not (both and not waveform):
        if hasattr(part, "max_length") and hasattr(part, "num_mel_bins"):
            frames = sheet.size(
                "audio_frames", int(part.max_length), "frames of the spectrogram", low=16, high=int(part.max_length)
            )
            part.max_length = frames
            sheet.add("input_values", (sheet.batch, frames, int(part.num_mel_bins)))
            return
        samples = sheet.size("samples", SAMPLES, "samples of the waveform", low=400)
        # A codec keeps the channels of its sound apart; a recogniser hears one.
        channels = sheet.look("audio_channels", within=part)
        sound = (samples,) if channels is None and not _codec(sheet) else (channels or 1, samples)
        sheet.add("input_values", (sheet.batch, *sound))


def _codec(sheet: Sheet) -> bool:
    return sheet.look("codebook_size", within=sheet.configuration) is not None and not sheet.takes("input_ids")


def _spectrogram(sheet: Sheet) -> None:
    """[batch, frames, bands], or [batch, bands, frames] for models that begin as Whisper does."""
    part = sheet.part(*AUDIO)
    bands = int(sheet.look(*BANDS, within=part, default=80))
    positions = getattr(part, "max_source_positions", None)
    if sheet.takes("is_longer"):
        # One clip that is short enough not to be cropped and fused: [batch, 1, frames, bands].
        longest = part.spec_size**2 // bands
        frames = sheet.size("audio_frames", min(1001, longest), "frames of the spectrogram", low=16, high=longest)
        sheet.add("input_features", (sheet.batch, 1, frames, bands))
        sheet.values("is_longer", [[False]] * sheet.batch, "bool", role="mask")
    elif positions and hasattr(part, "num_mel_bins"):
        # Two convolutions, one of stride 2, in front of fixed positions.
        sheet.add("input_features", (sheet.batch, bands, 2 * int(positions)))
        for name in ("feature_attention_mask", "input_features_mask"):
            sheet.ones(name, (sheet.batch, 2 * int(positions)))
    else:
        frames = sheet.size("audio_frames", 400, "frames of the spectrogram", low=16)
        sheet.add("input_features", (sheet.batch, frames, bands))
        for name in ("feature_attention_mask", "input_features_mask"):
            sheet.ones(name, (sheet.batch, frames), "bool")
