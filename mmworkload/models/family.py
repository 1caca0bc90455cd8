"""What a workload module declares: inputs, parameters, variants, family. Free of torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from mmworkload.errors import MmworkloadError, UnknownNameError

if TYPE_CHECKING:
    import torch

    from mmworkload.graph import StageTotals

# The value of a parameter: a number, a choice, or several names.
Setting = int | str | tuple[str, ...]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class InputSpec:
    """One input of a workload, per batch.

    ``shape`` with the batch; ``dtype`` a torch name, floating types follow ``--dtype``; integers are drawn below
    ``high``; ``role`` is ``modality``, ``mask``, ``position`` or ``state``; ``modality`` defaults to ``name``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    modality: str = ""
    role: str = "modality"
    high: int = 0


@dataclass(frozen=True)
class Parameter:
    """A size or a choice that a user may set: ``--set tokens=128``.

    A number lies in ``low`` to ``high`` and is a multiple of ``step``; with ``choices`` the value is one of them, or
    any number of them, with commas between, when ``several``. Text without choices is free.
    """

    default: Setting
    help: str
    low: int = 1
    high: int = 1 << 20
    step: int = 1
    choices: tuple[str, ...] = ()
    several: bool = False

    @property
    def bounds(self) -> str:
        """What a value may be, in words."""
        if self.choices:
            return ("any of " if self.several else "one of ") + ", ".join(self.choices)
        if isinstance(self.default, str):
            return "any text"
        return f"{self.low} to {self.high}" + (f", a multiple of {self.step}" if self.step > 1 else "")

    def read(self, name: str, value: Any) -> Setting:
        """``value`` (text from the command line, or Python's) as a setting. MmworkloadError when it is impossible."""
        if self.choices:
            if self.several:
                parts = value if isinstance(value, (list, tuple, set, frozenset)) else str(value).split(",")
                chosen = tuple(str(part) for part in parts if part)
            else:
                chosen = (str(value),)
            for part in chosen:
                if part not in self.choices:
                    raise UnknownNameError(f"value of {name}", part, self.choices)
            # One order for one meaning.
            return tuple(item for item in self.choices if item in chosen) if self.several else chosen[0]
        if isinstance(self.default, str):
            return str(value)
        try:
            number = int(value)
            if isinstance(value, float) and number != value:
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise MmworkloadError(f"{name}={value}: give a whole number, {self.bounds}") from None
        if not self.low <= number <= self.high or number % self.step:
            raise MmworkloadError(f"{name}={number} is impossible: {self.bounds}")
        return number


def settle(parameters: Mapping[str, Parameter], given: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Every parameter with its given or default value. UnknownNameError or MmworkloadError for what cannot be."""
    for name in given:
        if name not in parameters:
            raise UnknownNameError(f"parameter of {model}", name, list(parameters))
    return {name: item.read(name, given[name]) if name in given else item.default for name, item in parameters.items()}


def full_name(name: str, parameters: Mapping[str, Parameter], settings: Settings, *, end_to_end: bool = False) -> str:
    """``name?tokens=64&end-to-end`` with what differs from the defaults: one name for one graph at one batch."""
    changed = [
        f"{key}={','.join(value) if isinstance(value, tuple) else value}"
        for key, value in settings.items()
        if value != parameters[key].default
    ]
    query = "&".join([*changed, *(["end-to-end"] if end_to_end else [])])
    return f"{name}?{query}" if query else name


def accepted(function: Callable[..., Any], settings: Settings) -> dict[str, Any]:
    """Those settings that ``function`` has a parameter for."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in settings.items() if name in names}


@dataclass(frozen=True)
class Figure:
    """A ratio that a paper gives of a network, which ours is put beside.

    Ours is ``quantity`` (``params`` or ``macs``) of the stages that the glob ``over`` matches, by that of ``under``.
    ``differs`` says why the two need not be equal.
    """

    what: str
    published: float
    source: str
    quantity: Literal["params", "macs"]
    over: str
    under: str
    differs: str

    def ours(self, stages: Mapping[str, StageTotals]) -> float | None:
        """The ratio in a graph with these stages; None where nothing is left to divide by."""

        def total(glob: str) -> int:
            return sum(getattr(item, self.quantity) for stage, item in stages.items() if fnmatchcase(stage, glob))

        return total(self.over) / total(self.under) if total(self.under) else None

    def beside(self, stages: Mapping[str, StageTotals]) -> str:
        """Both ratios and what differs, in one sentence."""
        ours = self.ours(stages)
        return (
            f"{self.what}: {self.published:g} times in {self.source},"
            f" {'unknown' if ours is None else f'{ours:.2f}'} here; {self.differs}"
        )


@dataclass(frozen=True)
class Variant:
    """One network of a family.

    ``build(**settings)`` makes the module (called under a device context; it must not load anything) and
    ``inputs(batch, **settings)`` gives its inputs, in the order and under the names of ``forward``; each is passed
    those settings of ``parameters`` that it has a parameter for. ``stages`` maps globs over module paths to stages,
    first match first; what no rule names is decided by data flow. ``source`` says where the sizes are from.

    ``preprocess(**settings)`` makes a module that turns the raw inputs ``raw(batch, **settings)``, passed by name, into
    a dictionary with all inputs of the network; it runs on the host, in front of the network, with ``--end-to-end``.
    ``stand_ins`` names each part that stands in for what the source uses; ``figures`` are ratios from papers.
    """

    name: str
    source: str
    build: Callable[..., torch.nn.Module]
    inputs: Callable[..., tuple[InputSpec, ...]]
    stages: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    notes: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    preprocess: Callable[..., torch.nn.Module] | None = None
    raw: Callable[..., tuple[InputSpec, ...]] | None = None
    stand_ins: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Run:
    """What a generation runs: a variant of its family at ``settings``, once, or growing.

    A growing run takes ``steps`` steps, the first with the parameter ``along`` at ``start`` and each later one with
    ``stride`` more.
    """

    name: str
    variant: str
    settings: Settings = field(default_factory=dict)
    along: str = ""
    start: int = 0
    steps: int = 1
    stride: int = 1


@dataclass(frozen=True)
class Generating:
    """A generation: what ``runs(**settings)`` says, one run after another (:mod:`mmworkload.generation`).

    ``source``, ``parameters``, ``aliases`` and ``notes`` are as those of a variant.
    """

    name: str
    source: str
    runs: Callable[..., tuple[Run, ...]]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    notes: str = ""

    @property
    def phases(self) -> tuple[str, ...]:
        """The variants that it runs at its defaults, each once."""
        settings = {name: item.default for name, item in self.parameters.items()}
        return tuple(dict.fromkeys(run.variant for run in self.runs(**accepted(self.runs, settings))))


@dataclass(frozen=True)
class Family:
    """A workload: its variants, the first one being the default, and the data set it is used with.

    ``dataset`` names it and its paper, ``dataset_url`` where to get it. ``generations`` run several variants as a
    whole.
    """

    description: str
    dataset: str
    variants: tuple[Variant, ...]
    default_batch: int = 1
    dataset_url: str = ""
    generations: tuple[Generating, ...] = ()

    def generation(self, name: str) -> Generating | None:
        """The generation of that name or alias."""
        return next((item for item in self.generations if name == item.name or name in item.aliases), None)

    def variant(self, name: str, family: str) -> Variant:
        """The variant of that name or alias, the default for an empty name; UnknownNameError otherwise."""
        if not name:
            return self.variants[0]
        for item in self.variants:
            if name == item.name or name in item.aliases:
                return item
        whole = self.generation(name)
        if whole is not None:
            phases = ", ".join(f"{family}/{item}" for item in whole.phases)
            raise MmworkloadError(
                f"{family}/{name} is a generation of several graphs, which every verb but trace takes; here"
                f" one graph is needed. Take one of its phases: {phases}"
            )
        known = [item.name for item in self.variants] + [item.name for item in self.generations]
        raise UnknownNameError("variant", f"{family}/{name}", [f"{family}/{item}" for item in known])
