"""What the default configuration of some types lacks to be a model. A configuration from a file is left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def complete(configuration: Any) -> tuple[str, ...]:
    """Fills in what does not fit together, and says so in sentences for the user."""
    return tuple(f"the default configuration does not fit together: {item} is set" for item in _repairs(configuration))


def _repairs(configuration: Any) -> Iterator[str]:
    if configuration.model_type == "chameleon" and not configuration.vocabulary_map:
        # Behind four tokens of meaning the codes of an image, written in letters for digits.
        digits = str.maketrans("0123456789", "ABCDEFGHIJ")
        codes = range(configuration.vq_config.num_embeddings)
        configuration.vocabulary_map = {f"IMGIMG{str(code).translate(digits)}Z": 4 + code for code in codes}
        configuration.vocabulary_map["<image>"] = 4 + len(codes)
        yield f"vocabulary_map, of {len(codes)} codes of an image,"
    if "vocab_size" in configuration.to_dict() and configuration.vocab_size is None:
        # Letters and marks, as in the published speech recognisers.
        configuration.vocab_size = 32
        yield "vocab_size=32"
    vision, text = getattr(configuration, "vision_config", None), getattr(configuration, "text_config", None)
    if vision is None or text is None:
        return
    # The width that the vision tower hands on is the language model's.
    key = "out_hidden_size" if hasattr(vision, "out_hidden_size") else "hidden_size"
    joins = hasattr(vision, "spatial_merge_size") and (key == "out_hidden_size" or hasattr(vision, "embed_dim"))
    width = getattr(text, "hidden_size", None)
    if joins and width and getattr(vision, key, width) != width:
        setattr(vision, key, width)
        yield f"vision_config.{key}={width}"
    # The tower's vectors are shuffled into fewer, wider ones, for which its projector is made.
    ratio = getattr(vision, "pixel_shuffle_ratio", None)
    if ratio and vision.model_type == "llama4_vision_model":
        width = round(vision.intermediate_size * ratio**2)
        if vision.hidden_size != width:
            vision.hidden_size = width
            yield f"vision_config.hidden_size={width}"
        if vision.vision_output_dim != vision.projector_output_dim:
            vision.vision_output_dim = vision.projector_output_dim
            yield f"vision_config.vision_output_dim={vision.projector_output_dim}"
    # Pooled into a square of vectors, an image has at least as many patches on each side.
    if configuration.model_type == "gemma3" and vision.image_size < 896:
        vision.image_size, vision.patch_size = 896, 14
        yield "vision_config.image_size=896, vision_config.patch_size=14 (the published Gemma 3)"
    # A placeholder without a number cannot be found in the text.
    for key in ("image_token_index", "image_token_id", "video_token_index"):
        if key in configuration.to_dict() and getattr(configuration, key) is None:
            setattr(configuration, key, text.vocab_size - 1)
            yield f"{key}={text.vocab_size - 1}"
