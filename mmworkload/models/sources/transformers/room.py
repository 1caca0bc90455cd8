"""Room in the text for other modalities: as many placeholders as the model makes vectors of an image or a sound."""

from __future__ import annotations

from mmworkload.models.sources.transformers.sheet import Placeholders, Sheet

# The model's own method, what the placeholder is called in a configuration, and the kind that processors write beside
# each token.
METHODS = (
    ("get_image_features", ("image_token_id", "image_token_index", "media_placeholder_token_id"), 1),
    ("get_video_features", ("video_token_id", "video_token_index"), 2),
    ("get_audio_features", ("audio_token_id", "audio_token_index"), 3),
)


def room(sheet: Sheet) -> None:
    """Placeholders for every modality that replaces embeddings of the text. A model that joins them in another way has
    no such token, or no such method."""
    if not sheet.takes("input_ids"):
        return
    for method, names, kind in METHODS:
        found = [getattr(sheet.configuration, name, None) for name in names]
        if kind == 1:
            found.append((getattr(sheet.configuration, "vocabulary_map", None) or {}).get("<image>"))
        token = next((value for value in found if value is not None), None)
        if token is not None and (count := sheet.features(method) or (kind == 3 and _heard(sheet))):
            sheet.placeholders.append(Placeholders(int(token), count, kind))


def _heard(sheet: Sheet) -> int:
    """The vectors of a sound where no method gives them but the length of the audio tower's output is known."""
    import torch

    tower = getattr(sheet.module, "audio_tower", getattr(getattr(sheet.module, "model", None), "audio_tower", None))
    lengths = getattr(tower, "_get_feat_extract_output_lengths", None)
    if lengths is None or "input_features" not in sheet.arguments:
        return 0
    frames = sheet.arguments["input_features"].spec.shape[-1]
    return int(lengths(torch.tensor(frames, device="cpu"))[-1])
