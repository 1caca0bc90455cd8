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
        found = (getattr(sheet.configuration, name, None) for name in names)
        token = next((value for value in found if value is not None), None)
        if token is not None and (count := sheet.features(method)):
            sheet.placeholders.append(Placeholders(int(token), count, kind))
