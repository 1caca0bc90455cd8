"""From a model type or a config.json to a configuration of transformers. Reads local files only."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmworkload.errors import FormatError, ModelError, UnknownNameError
from mmworkload.files import read_json
from mmworkload.models.hub import HubError, closed, refuse_kernels

# How libraries write the identifiers that have a meaning of their own (an end, a padding, a place for an image).
SPECIAL_TOKENS = ("_token_id", "_token_index", "_token")


def read_configuration(text: str, name: str) -> tuple[Any, str, bool]:
    """The configuration behind ``text``, a model type or the path of a config.json or of its folder; the class that
    the file names (empty where none is); and whether there is a file.

    Raises UnknownNameError, FormatError for a file that is no configuration, ModelError for a type without defaults,
    HubError for one that asks for a file on a hub.
    """
    from transformers import CONFIG_MAPPING

    types = sorted(CONFIG_MAPPING.keys())
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise ModelError(f"{name}: {text} is in the home folder of a user who has none; give the whole path") from error
    if text in types:
        data: dict[str, Any] = {"model_type": text}
    elif path.suffix == ".json" or path.exists():
        data = _load(path / "config.json" if path.is_dir() else path)
    elif "/" in text:
        raise ModelError(
            f"{name}: there is no file or folder {text}. Nothing is downloaded: give a model type (clip,"
            " llava, ...) or the path of a config.json"
        )
    else:
        raise UnknownNameError("model type of transformers", text, types)
    kind = data.get("model_type")
    if kind not in types:
        raise UnknownNameError(f"model_type in {path}", str(kind), types)
    refuse_kernels(name, data)
    try:
        with closed(name, data):
            configuration = CONFIG_MAPPING[kind].from_dict(data)
    except HubError:
        raise
    except Exception as error:
        what = f"{kind} has no default configuration" if path.suffix != ".json" else f"{path} is not a configuration"
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"{name}: {what}: {reason[:300]}. Give the path of a complete config.json") from error
    classes = data.get("architectures") or [""]
    return prepared(configuration), str(classes[0]), text not in types


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' remarks on kernels that are not installed and on token numbers."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _load(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict) or "model_type" not in data:
        raise FormatError(f"{path} is no configuration of transformers: it has no model_type")
    return data


def prepared(configuration: Any) -> Any:
    """``configuration`` for one forward pass: no cache comes out, and no backbone brings downloaded weights."""
    for part in parts(configuration):
        if hasattr(part, "use_cache"):
            part.use_cache = False
        if hasattr(part, "use_pretrained_backbone"):
            part.use_pretrained_backbone = False
    return configuration


def parts(configuration: Any) -> Iterator[Any]:
    """The configuration and those inside it, outermost first."""
    yield configuration
    for _, part in inner(configuration):
        yield from parts(part)


def inner(configuration: Any) -> list[tuple[str, Any]]:
    """The configurations that are entries of this one, by name."""
    return [(k, v) for k, v in vars(configuration).items() if hasattr(v, "to_dict") and hasattr(v, "model_type")]


def special_tokens(configuration: Any) -> set[int]:
    """Every token identifier that the configuration gives a meaning."""
    found: set[int] = set()
    for part in parts(configuration):
        for key, value in vars(part).items():
            if key.endswith(SPECIAL_TOKENS):
                found.update(item for item in (value if isinstance(value, (list, tuple)) else [value]) if _is_id(item))
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
