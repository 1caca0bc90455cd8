"""Arguments that one kind of model takes beside text, images and sound."""

from __future__ import annotations

from mmworkload.models.sources.transformers.sheet import Sheet
from mmworkload.models.sources.transformers.text import ids, length


def beside_text(sheet: Sheet) -> None:
    """Arguments of their own, by name."""
    for name, make in BESIDE.items():
        if sheet.takes(name):
            make(sheet)


def along_text(sheet: Sheet) -> None:
    """Arguments that say something of each token, by name."""
    for name, make in ALONG.items():
        if sheet.takes(name, "input_ids"):
            make(sheet)


def _points(sheet: Sheet) -> None:
    """One prompt of one point in the middle of the image: [batch, prompts, points, 2], with its label."""
    if sheet.takes("input_points", "input_labels"):
        sheet.add("input_points", (sheet.batch, 1, 1, 2), modality="prompt")
        sheet.ones("input_labels", (sheet.batch, 1, 1), modality="prompt", role="modality")


def _cross_attention_mask(sheet: Sheet) -> None:
    tokens = sheet.arguments["input_ids"].spec.shape[1]
    tiles = sheet.arguments["pixel_values"].spec.shape[2]
    sheet.ones("cross_attention_mask", (sheet.batch, tokens, 1, tiles))


def _image_attention_mask(sheet: Sheet) -> None:
    if sheet.takes("perceiver_embeddings"):
        tokens = sheet.arguments["input_ids"].spec.shape[1]
        sheet.ones("image_attention_mask", (sheet.batch, tokens, 1))


def _question(sheet: Sheet) -> None:
    """The text that the query transformer reads beside the image."""
    part = sheet.part("qformer_config")
    tokens = length(sheet, "question_tokens", "tokens of the instruction", part, ("max_position_embeddings",))
    ids(sheet, "qformer_input_ids", (sheet.batch, tokens), part)
    sheet.ones("qformer_attention_mask", (sheet.batch, tokens))


def _regions(sheet: Sheet) -> None:
    """Features of image regions, which a detector has found."""
    regions = sheet.size("regions", 36, "regions of the image", high=1024)
    sheet.add("visual_feats", (sheet.batch, regions, int(sheet.configuration.visual_feat_dim)), modality="image")
    sheet.add(
        "visual_pos", (sheet.batch, regions, int(sheet.configuration.visual_pos_dim)), modality="image", role="position"
    )
    sheet.ones("visual_attention_mask", (sheet.batch, regions))


def _embedded_regions(sheet: Sheet) -> None:
    regions = sheet.size("regions", 36, "regions of the image", high=1024)
    sheet.add("visual_embeds", (sheet.batch, regions, int(sheet.configuration.visual_embedding_dim)), modality="image")
    sheet.ones("visual_attention_mask", (sheet.batch, regions))
    sheet.ones("visual_token_type_ids", (sheet.batch, regions), role="position")


def _places(sheet: Sheet) -> None:
    """Which tokens are replaced by the image's vectors."""
    count = int(sheet.configuration.latent_query_num)
    tokens = sheet.arguments["input_ids"].spec.shape[1]
    rows = [[0] + [1] * count + [0] * (tokens - 1 - count)] * sheet.batch
    sheet.values("image_embeds_position_mask", rows, role="mask")


BESIDE = {
    "input_points": _points,
    "qformer_input_ids": _question,
    "visual_feats": _regions,
    "visual_embeds": _embedded_regions,
}
ALONG = {
    "cross_attention_mask": _cross_attention_mask,
    "image_attention_mask": _image_attention_mask,
    "image_embeds_position_mask": _places,
}
