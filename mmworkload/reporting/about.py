"""What stands behind a graph beside its layers: source, data set, route, notes and stand-ins, inputs in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmworkload.reporting.units import TIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mmworkload.graph import InputInfo, LayerGraph
    from mmworkload.models import Figure, Setting

# How the notes of a model begin that name a stand-in.
STAND_IN = "stand-in: "
_PACKAGES = {"torchvision": "torchvision", "timm": "timm", "hf": "transformers"}


@dataclass(frozen=True)
class About:
    """Where a model is from, and figures of it in papers; a text is empty where nothing is known."""

    source: str = ""
    dataset: str = ""
    dataset_url: str = ""
    figures: tuple[Figure, ...] = ()


def about(graph: LayerGraph) -> About:
    """Source and data set of the workload that ``graph`` is of, or the library with the version that it came from."""
    from mmworkload.exits.settings import split_exits
    from mmworkload.models import families

    base = split_exits(graph.model)[0].partition("?")[0]
    scheme, colon, _ = base.partition(":")
    if colon and scheme in _PACKAGES:
        package = _PACKAGES[scheme]
        return About(source=f"{package} {graph.versions.get(package, '')}".rstrip())
    name, _, variant = base.partition("/")
    family = families().get(name)
    found = next((item for item in family.variants if item.name == variant), None) if family else None
    if family is None or found is None:
        return About()
    return About(found.source, family.dataset, family.dataset_url, found.figures)


def split_notes(notes: Iterable[str]) -> tuple[list[str], list[str]]:
    """(notes, stand-ins), each once and without the prefix of a stand-in."""
    once = list(dict.fromkeys(notes))
    return (
        [note for note in once if not note.startswith(STAND_IN)],
        [note.removeprefix(STAND_IN) for note in once if note.startswith(STAND_IN)],
    )


def route_in_words(route: str) -> str:
    """``export`` and ``recorder (why)`` for somebody who does not know our names for them."""
    known = {"export": "torch.export", "recorder": "recording the operators of one run"}
    name, space, reason = route.partition(" ")
    return known.get(name, name) + space + reason


def shape_in_words(shape: Sequence[int]) -> str:
    """``1×3×224×224``; ``scalar`` without axes."""
    return TIMES.join(map(str, shape)) or "scalar"


def input_in_words(item: InputInfo, dtype: str) -> str:
    """``image 1×3×224×224``, with its type where that is not ``dtype`` and its role where it is no modality."""
    words = [item.tensor, shape_in_words(item.shape)]
    if item.dtype != dtype:
        words.append(item.dtype)
    if item.role != "modality":
        words.append(f"({item.role})")
    return " ".join(words)


def setting_in_words(value: Setting) -> str:
    """The value as ``--set`` takes it; ``none`` for no value at all."""
    return (",".join(value) if isinstance(value, tuple) else str(value)) or "none"
