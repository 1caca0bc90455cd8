"""What may be said about exits behind a model's name: ``av-mnist/concat+exits?per_modality=2&p=0.3``. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from mmworkload.errors import MmworkloadError, UnknownNameError

SUFFIX = "+exits"
PLACES = ("auto", "blocks", "macs", "steps")
RESTS = ("next", "last")
BATCHES = ("worst", "each")
PARTS = ("segments", "paths")
LISTED, SERIAL, CHEAPEST = "listed", "phi", "macs"
ORDERS = (SERIAL, LISTED, CHEAPEST)

Number = TypeVar("Number", int, float)
# One value for all exits, or values by modality, one for each of its exits.
PerExit = float | Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class ExitSettings:
    """Where exits are, how often samples leave by them, and in which order modalities run.

    The paper (Hou et al., MMExit, Euro-Par 2023) says neither where its exits are nor how often they are taken: the
    defaults of ``place`` and ``p`` are choices of ours.

    Parameters
    ----------
    per_modality: exits in each encoder; an encoder with fewer places has fewer.
    place: ``blocks`` (after equal numbers of blocks), ``macs`` (after equal shares of the encoder's MACs), ``steps``
        (after equal shares of a recurrence's steps), ``auto`` (blocks, and steps where an encoder has too few).
    at: modality to the places of its exits, counted from 1, in place of ``per_modality``.
    classes: scores that an exit gives; 0 for as many as the network itself.
    order: ``phi`` (the paper's serialisation), ``listed`` (the model's order, the paper's RExit), ``macs`` (least
        expected MACs), or the modalities in their order.
    p: probability that a sample which gets to an exit leaves by it.
    accuracy: of the samples that leave, for the utility; 0 leaves cost alone to decide.
    weight: the paper's lambda: what an accuracy of one is worth in costs of the whole network.
    rest: when an encoder runs to its end: before the ``next`` modality starts, or ``last``, just before the fusion.
    batch: a batch runs on until its ``worst`` sample may leave, or ``each`` sample leaves it alone.
    parts: of the workload: ``segments`` with the probability that they run, or whole ``paths`` with theirs.
    """

    per_modality: int = 2
    place: str = "auto"
    at: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    classes: int = 0
    order: str = SERIAL
    p: PerExit = 0.3
    accuracy: PerExit = 0.0
    weight: float = 1.0
    rest: str = "next"
    batch: str = "worst"
    parts: str = "segments"

    def __post_init__(self) -> None:
        for name, known in (("place", PLACES), ("rest", RESTS), ("batch", BATCHES), ("parts", PARTS)):
            if getattr(self, name) not in known:
                raise UnknownNameError(name, str(getattr(self, name)), known)
        if not 1 <= self.per_modality <= 64:
            raise MmworkloadError(f"per_modality={self.per_modality}: give 1 to 64 exits")
        if self.classes < 0 or self.classes == 1:
            raise MmworkloadError(f"classes={self.classes}: an exit tells at least 2 classes apart")
        for name in ("p", "accuracy"):
            value = getattr(self, name)
            numbers = [item for items in value.values() for item in items] if isinstance(value, Mapping) else [value]
            if any(not 0 <= item <= 1 for item in numbers):
                raise MmworkloadError(f"{name}={write(value)}: probabilities lie between 0 and 1")
        for modality, places in self.at.items():
            if list(places) != sorted(set(places)) or not places or places[0] < 1:
                raise MmworkloadError(f"at={write(self.at)}: the places of {modality} count up from 1")

    @classmethod
    def read(cls, query: Mapping[str, Any]) -> ExitSettings:
        """From texts. Raises UnknownNameError for an unknown setting, MmworkloadError for an impossible value."""
        for name in query:
            if name not in _READ:
                raise UnknownNameError("setting of exits", name, _READ)
        return cls(**{name: _READ[name](name, str(value)) for name, value in query.items()})

    @property
    def query(self) -> str:
        """What differs from the defaults, as it stands behind ``+exits?``."""
        own = ((item.name, getattr(self, item.name), getattr(_DEFAULT, item.name)) for item in fields(self))
        return "&".join(f"{name}={write(value)}" for name, value, default in own if value != default)


def split_exits(name: str) -> tuple[str, ExitSettings | None]:
    """``base?x=1+exits?p=0.5`` as (``base?x=1``, the settings); without the suffix, the name and None.

    The name of one of its parts (``base+exits?p=0.5#image/1``) is none. Raises MmworkloadError for settings that
    cannot be.
    """
    base, suffix, query = name.rpartition(SUFFIX)
    if not suffix or "#" in query or (query and not query.startswith("?")):
        return name, None
    settings: dict[str, str] = {}
    for part in filter(None, query.removeprefix("?").split("&")):
        key, equals, value = part.partition("=")
        if not equals:
            raise MmworkloadError(f"{name}: '{part}' has no value; write {part}=VALUE")
        settings[key] = value
    return base, ExitSettings.read(settings)


def write(value: object) -> str:
    """The text of a setting: ``0.3``, or ``image:0.5:0.2,audio:0.1:0.1``."""
    if isinstance(value, Mapping):
        return ",".join(":".join([name, *map(write, items)]) for name, items in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(name: str, text: str) -> str:
    return text


def _number(kind: Callable[[str], Number]) -> Callable[[str, str], Number]:
    def read(name: str, text: str) -> Number:
        try:
            return kind(text)
        except ValueError:
            raise MmworkloadError(f"{name}={text}: give a number") from None

    return read


def _lists(kind: Callable[[str], Number]) -> Callable[[str, str], dict[str, tuple[Number, ...]]]:
    def read(name: str, text: str) -> dict[str, tuple[Number, ...]]:
        found = {}
        for part in text.split(","):
            modality, *values = part.split(":")
            if not (modality and values):
                raise MmworkloadError(f"{name}={text}: write modality:VALUE:VALUE,modality:VALUE:VALUE")
            found[modality] = tuple(_number(kind)(name, value) for value in values)
        return found

    return read


def _per_exit(name: str, text: str) -> PerExit:
    return _lists(float)(name, text) if ":" in text else _number(float)(name, text)


_READ: dict[str, Callable[[str, str], Any]] = {
    "per_modality": _number(int),
    "place": _text,
    "at": _lists(int),
    "classes": _number(int),
    "order": _text,
    "p": _per_exit,
    "accuracy": _per_exit,
    "weight": _number(float),
    "rest": _text,
    "batch": _text,
    "parts": _text,
}
_DEFAULT = ExitSettings()
