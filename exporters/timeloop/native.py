"""A folder of Timeloop's own v0.4 files as an architecture: ``--arch path/``.

The files go to the front end as they are, with our problems beside them. Only what the rest of mmworkload has to know
is read here (clock, array elements, the word and the port of the outermost level), from plain YAML and without the
tool, so a number may be an expression of numbers and of names under ``variables``, but not a Jinja template. What a
folder may hold:

* ``*.yaml`` in it, in ``components/`` in it and, as in the public exercises, in ``_components/`` beside it; of these
  all that have one of the front end's sections, but no files that the tool wrote. At least ``architecture``.
* ``variables`` with ``technology`` and ``global_cycle_seconds``, unless the architecture's containers set them.
* ``mapper``: used instead of ours. ``ERT`` and ``ART``: used instead of a run of Accelergy, both or none.
* files with a ``problem`` or a ``mapping`` and nothing else are left out: they are of one problem.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import math
import operator
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmworkload.arch import AccessEnergy, Architecture, Array, Compute, Level, VectorUnit
from mmworkload.errors import ArchitectureError
from mmworkload.exporters.timeloop.terms import DATA_SPACES, DIMS
from mmworkload.exporters.timeloop.yaml_text import mapping
from mmworkload.files import parse_yaml, read_text

SECTIONS = {
    "architecture",
    "components",
    "compound_components",
    "variables",
    "mapper",
    "mapspace",
    "constraints",
    "globals",
    "sparse_optimizations",
    "ERT",
    "ART",
}
_OF_ONE_PROBLEM = {"problem", "mapping"}
_OF_FORM_0_3 = {"architecture_constraints", "mapspace_constraints"}
# Text of the tool's own, whether or not it can be parsed: a section at the left edge, or a node's tag.
_NATIVE = re.compile(
    r"^(?:architecture\s*:|(?:compound_)?components\s*:|[ \t]*- *!(?:Container|Component)\b)", re.MULTILINE
)
_SECTION = re.compile(r"^(\w+)[ \t]*:", re.MULTILINE)
_FORM_0_3 = (
    "only Timeloop's form 0.4 can be read. It has architecture.nodes, from the DRAM to the multiplier, each a"
    " !Container or a !Component: the range in a name, PE[0..167], becomes spatial: {meshX: 168} of a !Container, the"
    " targets of architecture_constraints become the constraints of their nodes, word-bits becomes datawidth, and each"
    " version 0.4"
)
# An expression longer than this is none; the parser would take its whole stack for it.
_LONGEST_EXPRESSION = 1000
# What the tool writes into a folder in which it is run.
_WRITTEN = re.compile(r"(timeloop-(mapper|model)\.|parsed-processed-input|tl-parsed).*")
_STORAGE = re.compile(r"DRAM|SRAM|regfile|smartbuffer|storage")
# Whole words and all blanks after them, so that no part of a long text is tried twice.
_FACTOR = re.compile(r"(?<!\w)([A-Za-z_]\w*+)\s*+(?:<=|>=|==|=)")
# Names under which energy and traffic of other things are listed.
_TAKEN = {"mac", "vector", "leakage"}


@dataclass(frozen=True)
class NativeArchitecture:
    """What :func:`read_native` found.

    ``files`` are contents by name, as the front end gets them; ``left_out`` the files of one problem. ``elements`` is
    the product of all meshes, ``mesh`` that by axis. ``levels`` are the storage levels, outermost first; bits and
    bandwidths (words a cycle, None where the folder states none) are those of the first. ``compute`` is the name of the
    compute component, ``technology`` what the chip has (``45nm``).
    """

    name: str
    files: dict[str, str]
    left_out: tuple[str, ...]
    clock_mhz: float
    technology: str
    mesh: tuple[int, int]
    levels: tuple[str, ...]
    word_bits: int
    width_bits: int
    read_bandwidth: float | None
    write_bandwidth: float | None
    compute: str
    compute_class: str
    sections: frozenset[str]

    @property
    def elements(self) -> int:
        return self.mesh[0] * self.mesh[1]

    @property
    def technology_nm(self) -> float:
        return float(self.technology.removesuffix("nm"))

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits over names and contents of the files, comments and blank lines apart."""
        stripped = {
            name: [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            for name, text in self.files.items()
        }
        return hashlib.sha256(json.dumps(stripped, sort_keys=True).encode()).hexdigest()[:16]


def is_native(folder: Path) -> bool:
    """Whether ``folder`` has a file with ``architecture: ... nodes:``, or one that looks like a template of it."""
    return any(
        re.search(r"^architecture\s*:", read_text(path, ArchitectureError), re.MULTILINE)
        for path in [*folder.glob("*.yaml"), *folder.glob("*.yml"), *folder.glob("*.jinja*")]
    )


def as_architecture(folder: Path) -> Architecture | None:
    """The folder in our terms as far as they go, for the floors and for what is not a loop nest; None when the folder
    (or a file) is no architecture of Timeloop's.

    What a folder does not say is assumed: a DRAM without bandwidth moves one access of its width a cycle, and each
    array element does one elementwise operation a cycle. Raises ArchitectureError as :func:`read_native`, and for a
    single file of Timeloop's, which is a part of an architecture only.
    """
    if folder.is_file():
        _refuse_file(folder)
        return None
    if not is_native(folder):
        return None
    native = read_native(folder)
    port = native.width_bits / native.word_bits
    unknown = AccessEnergy(read_pj=0, write_pj=0)
    assumed = (
        [] if native.read_bandwidth and native.write_bandwidth else [f"{port:g} words a cycle at {native.levels[0]}"]
    )
    assumed.append("one elementwise operation a cycle and element")
    outer = Level(
        kind="dram",
        size_kib=None,
        word_bits=native.word_bits,
        width_bits=native.width_bits,
        read_bandwidth=native.read_bandwidth or port,
        write_bandwidth=native.write_bandwidth or port,
        energy=unknown,
        area_um2=0,
    )
    return Architecture(
        kind="native",
        # With the contents, so that an edited folder is another architecture.
        name=f"{native.name}@{native.key[:8]}",
        description=f"Timeloop's own files: {', '.join(native.levels)}, {native.elements} elements."
        f" Assumed: {'; '.join(assumed)}",
        source=f"the folder {native.name}: {', '.join(native.files)}",
        technology_nm=max(1, round(native.technology_nm)),
        clock_mhz=native.clock_mhz,
        levels={native.levels[0]: outer},
        array=Array(
            inside=native.levels[0], x=native.mesh[0], y=native.mesh[1], x_dims=tuple(DIMS), y_dims=tuple(DIMS)
        ),
        compute=Compute(
            kind="fpmac" if "fp" in native.compute_class else "intmac", bits=native.word_bits, energy_pj=0, area_um2=0
        ),
        vector=VectorUnit(lanes=native.elements, energy_pj=0),
        native=str(folder.resolve()),
    )


def _refuse_file(path: Path) -> None:
    """ArchitectureError that says what to give instead when ``path`` is of Timeloop's own form."""
    text = read_text(path, ArchitectureError)
    if not _NATIVE.search(text):
        return
    if "{{" in text or "{%" in text:
        raise ArchitectureError(_jinja(path))
    sections = dict.fromkeys(_SECTION.findall(text))
    if _OF_FORM_0_3.intersection(sections) or re.search(r"^[ \t]+(- )?subtree[ \t]*:", text, re.MULTILINE):
        raise ArchitectureError(f"{path} is Timeloop's own input of version 0.3; {_FORM_0_3}")
    told = [name for name in sections if name in SECTIONS | _OF_ONE_PROBLEM]
    what = f"{path} is Timeloop's own input ({', '.join(told) or 'nodes'}), which is given as a folder"
    # Components lie in a folder of their own within the architecture's.
    folder = path.parent.parent if path.parent.name == "components" else path.parent
    try:
        read_native(folder)
    except ArchitectureError as error:
        others = [name for name in told if name in _OF_ONE_PROBLEM]
        without = f" without its section {' and '.join(others)}" if others else ""
        raise ArchitectureError(
            f"{what}: put it into one{without}, beside its components and variables, and give --arch FOLDER"
            f" ({folder} itself is none: {error})"
        ) from error
    raise ArchitectureError(f"{what}: --arch {folder}")


def read_native(folder: Path) -> NativeArchitecture:
    """The architecture in ``folder``.

    The same folder is read once, until one of its files changes. Raises ArchitectureError with file and place: none or
    more than one architecture, another version than 0.4, Jinja, no technology or cycle time, an expression that is not
    arithmetic, a mesh or a word that is no whole number from 1, constraints on dimensions or data spaces that our
    problems do not have, a last node that is no compute.
    """
    paths = [path for place, _ in _places(folder) for path in _yaml_files(place)]
    return _read(folder.resolve(), tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths))


@functools.lru_cache(maxsize=32)
def _read(folder: Path, _state: tuple[tuple[Path, int, int], ...]) -> NativeArchitecture:
    texts, left_out, data = _load(folder)
    section_files: dict[str, str] = {}
    for file, content in data.items():
        for section in content:
            same = "components" if section == "compound_components" else section
            if same in section_files and same != "components":
                raise ArchitectureError(f"{folder}: both {section_files[same]} and {file} have a section '{section}'")
            section_files[same] = file
    if "architecture" not in section_files:
        raise ArchitectureError(_no_architecture(folder))
    if ("ERT" in section_files) != ("ART" in section_files):
        raise ArchitectureError(f"{folder}: it has only one of ERT and ART; Timeloop uses both or none")
    where = f"{folder / section_files['architecture']}"
    for file, content in data.items():
        for section, value in content.items():
            if section in SECTIONS - {"ERT", "ART"}:
                _require_version(value, f"{folder / file}: {section}")
    nodes = data[section_files["architecture"]]["architecture"]
    if not isinstance(nodes, dict) or not isinstance(nodes.get("nodes"), list):
        raise ArchitectureError(f"{where}: architecture.nodes is missing; {_FORM_0_3}")
    variables: dict[str, Any] = {}
    for file, content in data.items():
        stated = content.get("variables") or {}
        if not isinstance(stated, dict):
            raise ArchitectureError(f"{folder / file}: variables is a mapping of names to values")
        variables |= stated
    found = _Chip(where, variables, _variables_elsewhere(folder))
    found.walk(nodes["nodes"], "architecture.nodes", parallel=False)
    for file, content in data.items():
        _require_known_names(content, f"{folder / file}")
    return found.result(folder.name, texts, left_out, frozenset(section_files))


def _load(folder: Path) -> tuple[dict[str, str], tuple[str, ...], dict[str, dict[str, Any]]]:
    """Contents by name, files left out, and what was parsed, in a fixed order."""
    texts, parsed, left_out = {}, {}, []
    for place, prefix in _places(folder):
        for path in _yaml_files(place):
            name = f"{prefix}{path.name}"
            text = read_text(path, ArchitectureError)
            if _WRITTEN.fullmatch(path.name):
                continue
            try:
                content = parse_yaml(text, str(path), ArchitectureError, _loader())
            except ArchitectureError as error:
                if "{{" in text or "{%" in text:
                    raise ArchitectureError(_jinja(path)) from error
                raise
            if not isinstance(content, dict):
                continue
            old = _OF_FORM_0_3.intersection(content)
            if old:
                raise ArchitectureError(f"{path}: {min(old)} is of version 0.3; {_FORM_0_3}")
            of_one_problem = _OF_ONE_PROBLEM.intersection(content)
            if of_one_problem and not SECTIONS.intersection(content):
                left_out.append(name)
                continue
            if of_one_problem:
                raise ArchitectureError(
                    f"{path}: it has the section '{min(of_one_problem)}' beside others; move that to a file of its own,"
                    " which is then left out, for mmworkload brings its own problems"
                )
            if not SECTIONS.intersection(content):
                continue
            if "{{" in text or "{%" in text:
                raise ArchitectureError(_jinja(path))
            texts[name], parsed[name] = text, content
    return texts, tuple(left_out), parsed


def _places(folder: Path) -> list[tuple[Path, str]]:
    """Where files may be, and what their names begin with in a job."""
    beside = folder.resolve().parent / "_components"
    return [(folder, ""), (folder / "components", "components_"), (beside, "_components_")]


def _yaml_files(place: Path) -> list[Path]:
    return sorted([*place.glob("*.yaml"), *place.glob("*.yml")])


def _jinja(path: Path) -> str:
    return f"{path} is a Jinja template; expand it with Timeloop's front end and give the folder of plain YAML files"


def _no_architecture(folder: Path) -> str:
    templates = sorted(path.name for path in folder.glob("*.jinja*"))
    if templates:
        return _jinja(folder / templates[0])
    return f"{folder}: no *.yaml file in it has a section 'architecture'"


def _variables_elsewhere(folder: Path) -> str:
    """What to write into a ``variables.yaml`` of ``folder``: the section of a template in it or above it, as the public
    exercises have it, else an example. On one line."""
    import yaml

    for place in (folder, folder.parent):
        for path in sorted(place.glob("*.jinja*")):
            section = re.search(
                r"^variables[ \t]*:.*\n(?:(?:[ \t]+.*)?\n)*", read_text(path, ArchitectureError) + "\n", re.MULTILINE
            )
            if section is None:
                continue
            with suppress(yaml.YAMLError):
                stated = yaml.safe_load(section.group())["variables"]
                if isinstance(stated, dict) and "{" not in section.group():
                    return f"variables: {mapping(stated)}, as {path} has it"
            return f"the section 'variables' of {path}"
    return 'variables: {version: 0.4, technology: "45nm", global_cycle_seconds: 1e-9}'


def _loader() -> Any:
    """A YAML loader that keeps the front end's tags (``!Component``) under the key ``!``."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return {"!": tag, **loader.construct_mapping(node, deep=True)}
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return {"!": tag}

    Loader.add_multi_constructor("!", tagged)
    return Loader


class _Chip:
    """The nodes, read from the outside to the inside; containers hand their attributes on."""

    def __init__(self, where: str, variables: dict[str, Any], advice: str) -> None:
        self.where = where
        self.advice = advice
        self.values = _Values(variables)
        self.inherited = {key: variables[key] for key in ("technology", "global_cycle_seconds") if key in variables}
        self.mesh = [1, 1]
        self.levels: list[str] = []
        self.outer: dict[str, Any] = {}
        self.compute: tuple[str, str] | None = None

    def walk(self, nodes: list[Any], path: str, *, parallel: bool) -> None:
        for index, node in enumerate(nodes):
            here = f"{path}[{index}]"
            tag = node.get("!") if isinstance(node, dict) else None
            if tag in ("Parallel", "Hierarchical", "Pipelined"):
                self.walk(node.get("nodes") or [], f"{here}.nodes", parallel=parallel or tag == "Parallel")
            elif tag == "Container":
                self._fan_out(node, here)
                self.inherited |= node.get("attributes") or {}
            elif tag == "Component":
                self._fan_out(node, here)
                self._component(node, here)
            elif tag not in ("Nothing", "ArchNodes"):
                raise ArchitectureError(
                    f"{self.where}: {here}: expected !Container, !Component, !Parallel, !Hierarchical or !Nothing"
                )

    def _fan_out(self, node: dict[str, Any], here: str) -> None:
        for axis, key in enumerate(("meshX", "meshY")):
            size = self._number((node.get("spatial") or {}).get(key, 1), f"{here}.spatial.{key}")
            if size < 1 or size != int(size):
                raise ArchitectureError(f"{self.where}: {here}.spatial.{key} is {size:g}; it is a whole number from 1")
            self.mesh[axis] *= int(size)

    def _component(self, node: dict[str, Any], here: str) -> None:
        name, kind = str(node.get("name", "")), str(node.get("class", ""))
        if not name or not kind:
            raise ArchitectureError(f"{self.where}: {here}: a component has a name and a class")
        self.compute = None
        if _STORAGE.search(kind):
            if name in _TAKEN:
                raise ArchitectureError(f"{self.where}: {here}: a level cannot be called '{name}'; rename it")
            attributes = {**self.inherited, **(node.get("attributes") or {})}
            if not self.levels:
                self.outer = {"here": here, **attributes}
            self.levels.append(name)
        elif "mac" in kind or "compute" in kind:
            self.compute = name, kind

    def _number(self, value: Any, what: str) -> float:
        try:
            number = self.values.of(value)
        except (ValueError, SyntaxError, ArithmeticError, TypeError, RecursionError) as error:
            shown = str(value)[:_LONGEST_EXPRESSION]
            raise ArchitectureError(
                f"{self.where}: {what} is '{shown}', which is not a number that can be told without Timeloop ({error})"
            ) from error
        if not math.isfinite(number):
            raise ArchitectureError(f"{self.where}: {what} is {number}; it is a finite number")
        return number

    def result(
        self, name: str, texts: dict[str, str], left_out: tuple[str, ...], sections: frozenset[str]
    ) -> NativeArchitecture:
        if self.compute is None:
            raise ArchitectureError(f"{self.where}: the last node has to be a compute component")
        if not self.levels:
            raise ArchitectureError(f"{self.where}: there is no storage component")
        for key in ("technology", "global_cycle_seconds"):
            if key not in self.inherited:
                raise ArchitectureError(f"{self.where}: no '{key}'; put a variables.yaml beside it: {self.advice}")
        technology = re.sub(r"\s", "", str(self.inherited["technology"]))
        if not re.fullmatch(r"\d+(\.\d+)?(nm)?", technology):
            raise ArchitectureError(
                f"{self.where}: technology is '{technology}'; it is a node like 45nm (-1 would charge 1 pJ an access)"
            )
        cycle_s = self._number(self.inherited["global_cycle_seconds"], "global_cycle_seconds")
        if not 1e-11 <= cycle_s <= 1e-3:
            raise ArchitectureError(f"{self.where}: global_cycle_seconds is {cycle_s:g}; it is in seconds, like 1e-9")
        here = self.outer.pop("here")
        word = self._bits("datawidth", here, None)
        width = self._bits("width", here, word)
        bandwidths: dict[str, float | None] = {}
        for key in ("read_bandwidth", "write_bandwidth"):
            stated = self.outer.get(key, self.outer.get("shared_bandwidth"))
            bandwidths[key] = None if stated is None else self._number(stated, f"{here}.attributes.{key}")
        return NativeArchitecture(
            name=name,
            files=texts,
            left_out=left_out,
            clock_mhz=round(1e-6 / cycle_s, 6),
            technology=technology,
            mesh=(self.mesh[0], self.mesh[1]),
            levels=tuple(self.levels),
            word_bits=word,
            width_bits=width,
            compute=self.compute[0],
            compute_class=self.compute[1],
            sections=sections,
            **bandwidths,
        )

    def _bits(self, key: str, here: str, default: int | None) -> int:
        if self.outer.get(key) is None:
            if default is None:
                raise ArchitectureError(f"{self.where}: {here}.attributes has no {key}")
            return default
        bits = self._number(self.outer[key], f"{here}.attributes.{key}")
        if bits < 1 or bits != int(bits):
            raise ArchitectureError(f"{self.where}: {here}.attributes.{key} is {bits:g}; it is a whole number from 1")
        return int(bits)


def _require_version(section: Any, where: str) -> None:
    version = section.get("version", 0.4) if isinstance(section, dict) else 0.4
    if str(version) != "0.4":
        raise ArchitectureError(f"{where} has version {version}; {_FORM_0_3}")


def _require_known_names(content: Any, where: str) -> None:
    """Constraints may name only what every problem of ours has; the front end's own message is a KeyError."""
    for path, key, value in _leaves(content, ""):
        if key in ("keep", "bypass", "keep_only", "no_reuse", "no_iteration_over_dataspaces"):
            names, known, what = _words(value), list(DATA_SPACES.values()), "data space"
        elif key == "factors":
            names = [match for item in _words(value) for match in _FACTOR.findall(item)]
            known, what = list(DIMS), "dimension"
        elif key == "permutation":
            names = [letter for item in _words(value) for letter in item]
            known, what = list(DIMS), "dimension"
        else:
            continue
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ArchitectureError(
                f"{where}: {path}: the {what} '{unknown[0]}' is in none of our problems, which have {', '.join(known)};"
                " an architecture for another kind of problem cannot be used"
            )


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """(path, key, value) of everything under a ``constraints`` node or section."""
    if isinstance(value, dict):
        for key, item in value.items():
            here = f"{path}.{key}" if path else str(key)
            if ".constraints." in f".{path}." or path.startswith("constraints"):
                yield here, str(key), item
            yield from _leaves(item, here)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")


def _words(value: Any) -> list[str]:
    """Items of a list, or of a text with commas or spaces between (the front end takes both)."""
    if isinstance(value, str):
        return [item for item in re.split(r"[,\s]+", value) if item]
    return [str(item) for item in value] if isinstance(value, list) else []


_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class _Values:
    """The values of arithmetic expressions of numbers and of ``variables``, each of which is worked out once."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = variables
        self.known: dict[str, float] = {}

    def of(self, value: Any) -> float:
        """Raises ValueError, and what the parser and the arithmetic raise."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, str) or len(value) > _LONGEST_EXPRESSION:
            raise ValueError("no arithmetic expression")
        return self._node(ast.parse(value.strip(), mode="eval").body)

    def _node(self, node: ast.AST) -> float:
        if isinstance(node, ast.Constant):
            return self.of(node.value if not isinstance(node.value, str) else None)
        if isinstance(node, ast.Name):
            if node.id not in self.variables:
                raise ValueError(f"no variable '{node.id}'")
            if node.id not in self.known:
                self.known[node.id] = self.of(self.variables[node.id])
            return self.known[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](self._node(node.left), self._node(node.right))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](self._node(node.operand))
        raise ValueError("only numbers, names under variables, + - * / and brackets")
