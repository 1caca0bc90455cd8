"""Accelergy by itself: energies and areas of single components, from the tool where it is installed.

A component is asked for alone, with a cycle of 5 ns, so that its answer can be kept and used for every architecture.
Register files and multipliers are asked for at 45 nm, the node that the Aladdin table has; their width and node follow
:mod:`mmworkload.energy_scaling`. All components that are not in the cache are answered by one run.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmworkload.arch import Compute
from mmworkload.energy_scaling import LOGIC_NM, Component, Figures, Mac, at_node, at_width
from mmworkload.errors import MmworkloadError, SimulationError, UnavailableError
from mmworkload.exporters.timeloop.architecture import compute_attributes
from mmworkload.exporters.timeloop.simulator import PYTHON_VARIABLE
from mmworkload.exporters.timeloop.yaml_text import mapping
from mmworkload.files import write_atomic
from mmworkload.printing import tell
from mmworkload.processes import end
from mmworkload.simulating.cache import default_root
from mmworkload.temporary import temporary_folder

CYCLE_S = 5e-9
# The Timeloop front end's default, with which the committed figures were made.
SRAM_BANKS = 2
LIMIT_S = 1800.0
_SCHEMA = 1
_PROGRAM = "accelergy"
_UNKNOWN = "Accelergy of unknown version"
_LOGIC = f"{LOGIC_NM}nm"
# Run by the Python of the tool: its version and a digest over everything that decides what its plug-ins answer.
_VERSIONS = """
import hashlib, importlib.metadata, json, pathlib, sys
digest = hashlib.sha256()
root = pathlib.Path(sys.prefix, "share", "accelergy", "estimation_plug_ins")
found = 0
for file in sorted(root.rglob("*")):
    if file.is_file() and (file.suffix in {".py", ".csv", ".yaml", ".cfg", ".dat", ".txt"} or file.name == "cacti"):
        if not {"__pycache__", "cacti_inputs_outputs"} & set(file.parts):
            digest.update(str(file.relative_to(root)).encode() + b"\\0" + file.read_bytes())
            found += 1
try:
    version = importlib.metadata.version("accelergy")
except importlib.metadata.PackageNotFoundError:
    version = ""
print(json.dumps({"version": version, "plug_ins": digest.hexdigest()[:12] if found else ""}))
"""


@dataclass(frozen=True)
class Query:
    """One component in Accelergy's words: its class, its attributes and the actions to estimate."""

    component: str
    attributes: Mapping[str, object]
    actions: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """Picojoules by action (``leak``: in one cycle of 5 ns), µm², and the plug-ins that estimated them."""

    energy_pj: Mapping[str, float]
    area_um2: float
    estimators: tuple[str, ...]


class Accelergy:
    """Estimates components with the Accelergy of ``MMWORKLOAD_TIMELOOP_PYTHON``'s environment or of ``PATH``."""

    name = "accelergy"

    def unavailable(self) -> str | None:
        """One sentence when Accelergy is not there. Starts nothing."""
        if _program() is None:
            return (
                f"the program {_PROGRAM} is not on PATH nor beside the Python that {PYTHON_VARIABLE} names; it comes"
                " with the container image timeloopaccelergy/timeloop-accelergy-pytorch or from"
                " github.com/Accelergy-Project"
            )
        return None

    def version(self) -> str:
        """``Accelergy 0.4, plug-ins 0123456789ab``: a digest, for the versions of plug-ins do not tell."""
        program = _program()
        if program is None:
            raise UnavailableError(str(self.unavailable()))
        return _version(program, _python(program))

    def estimate(self, components: Sequence[Component]) -> list[Figures]:
        """The figures of each component, from the cache or from one run for all that are new.

        Raises UnavailableError or SimulationError.
        """
        return [
            _figures(component, answer) for component, answer in zip(components, self.answers(components), strict=True)
        ]

    def answers(self, components: Sequence[Component]) -> list[Answer]:
        """What Accelergy says of each component, before width and node of logic are applied."""
        version = self.version()
        # Answers of plug-ins that cannot be told from others are of no use later.
        keeping = version != _UNKNOWN
        queries = [_query(component) for component in components]
        known: dict[str, Answer] = {}
        missing: dict[str, Query] = {}
        for query in queries:
            key = _key(version, query)
            if key not in known and key not in missing:
                answer = _read(key) if keeping else None
                if answer is None:
                    missing[key] = query
                else:
                    known[key] = answer
        if missing:
            for key, answer in zip(missing, ask(list(missing.values())), strict=True):
                known[key] = answer
                if keeping:
                    _keep(key, missing[key], answer, version)
        return [known[_key(version, query)] for query in queries]


def ask(queries: Sequence[Query]) -> list[Answer]:
    """One run of Accelergy for all queries.

    Raises UnavailableError when it is not there, SimulationError when it fails, takes more than half an hour, or
    answers from its dummy table.
    """
    program = _program()
    if program is None:
        raise UnavailableError(str(Accelergy().unavailable()))
    with temporary_folder() as folder:
        (folder / "arch.yaml").write_text(_input(queries))
        _start([program, "arch.yaml", "-o", "out", "-v", "1"], folder)
        return _outputs(folder, queries)


def _start(command: list[str], folder: Path) -> None:
    """Runs ``command`` in a process group of its own, for CACTI is a child of it."""
    environment = dict(os.environ)
    # Another Python must not find our packages.
    environment.pop("PYTHONPATH", None)
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise SimulationError(f"Accelergy did not end within {LIMIT_S:g} s and was killed") from None
        finally:
            end(process)
    if process.returncode:
        raise SimulationError(f"Accelergy failed (exit code {process.returncode}): {_reason(folder / 'log.txt')}")


def _reason(log: Path) -> str:
    text = log.read_text(errors="replace")
    missing = re.search(r"an? (energy|area) estimator for (\w+\([^)]*\))", text)
    if missing:
        return f"no plug-in has an {missing[1]} estimator for {missing[2]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "no message"


def _input(queries: Sequence[Query]) -> str:
    lines = ["architecture:", "  version: 0.4", "  subtree:", "  - name: system"]
    lines.append(f"    attributes: {mapping({'technology': _LOGIC, 'global_cycle_seconds': CYCLE_S})}")
    lines.append("    local:")
    for number, query in enumerate(queries):
        described = {
            "name": f"c{number}",
            "class": query.component,
            "required_actions": list(query.actions),
            "attributes": dict(query.attributes),
        }
        lines.append(f"    - {mapping(described)}")
    return "\n".join(lines) + "\n"


def _outputs(folder: Path, queries: Sequence[Query]) -> list[Answer]:
    import yaml

    def read(name: str, top: str, inner: str) -> dict[str, dict]:
        try:
            tables = yaml.safe_load((folder / "out" / name).read_text())[top][inner]
            return {table["name"].rpartition(".")[2]: table for table in tables}
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise SimulationError(
                f"Accelergy wrote no {name} that can be read: {_reason(folder / 'log.txt')}"
            ) from error

    energies, areas = read("ERT.yaml", "ERT", "tables"), read("ART.yaml", "ART", "tables")
    sources = [
        read("ERT_summary_verbose.yaml", "ERT_summary", "table_summary"),
        read("ART_summary_verbose.yaml", "ART_summary", "table_summary"),
    ]
    answers = []
    for number, query in enumerate(queries):
        name = f"c{number}"
        try:
            energy = {item["name"]: float(item["energy"]) for item in energies[name]["actions"]}
            area = float(areas[name]["area"])
            named = {_estimator(source[name]) for source in sources}
        except (KeyError, TypeError, ValueError) as error:
            raise SimulationError(f"Accelergy's tables lack {query.component} {dict(query.attributes)}") from error
        lacking = set(query.actions) - set(energy)
        if lacking:
            raise SimulationError(f"Accelergy gave no {', '.join(sorted(lacking))} energy of {query.component}")
        if any("dummy" in item.lower() for item in named):
            raise SimulationError(
                f"Accelergy answered {query.component} {dict(query.attributes)} from its dummy table: no real plug-in"
                " knows it"
            )
        answers.append(Answer(energy, area, tuple(sorted(named))))
    return answers


def _estimator(summary: Mapping) -> str:
    parts = next(summary[key] for key in summary if key.startswith("primitive_estimation"))
    if isinstance(parts, str):
        return parts
    return ", ".join(sorted({str(part["estimator"]) for item in parts for part in item.values()}))


def _query(component: Component) -> Query:
    """The question for ``component``; what the Aladdin table does not look at is left at one value."""
    if isinstance(component, Mac):
        told = Compute(kind=component.kind, bits=component.bits, energy_pj=0, area_um2=0)
        return Query(component.kind, {"technology": _LOGIC, **compute_attributes(told)}, ("compute", "leak"))
    actions = ("read", "write", "leak")
    if component.kind == "regfile":
        return Query("regfile", {"technology": _LOGIC, "depth": component.rows, "width": 16}, actions)
    attributes: dict[str, object] = {
        "technology": f"{component.node_nm}nm",
        "depth": component.rows,
        "width": component.width_bits,
        "n_rw_ports": component.ports,
        "n_banks": SRAM_BANKS,
    }
    return Query("SRAM", attributes, actions)


def _figures(component: Component, answer: Answer) -> Figures:
    energy = answer.energy_pj
    # Picojoules in a cycle of 5 ns as microwatts.
    leak_uw = energy["leak"] * 1e-6 / CYCLE_S
    if isinstance(component, Mac):
        return at_node(component, Figures(energy["compute"], energy["compute"], leak_uw, answer.area_um2))
    figures = Figures(energy["read"], energy["write"], leak_uw, answer.area_um2)
    if component.kind == "regfile":
        return at_node(component, at_width(component, figures))
    return figures


def _program() -> str | None:
    """On PATH, where Timeloop looks for it, else beside the Python."""
    found = shutil.which(_PROGRAM)
    python = os.environ.get(PYTHON_VARIABLE)
    if found is None and python:
        located = shutil.which(python)
        found = shutil.which(_PROGRAM, path=str(Path(located).parent)) if located else None
    return found


def _python(program: str) -> str:
    """The Python whose environment holds the plug-ins."""
    chosen = os.environ.get(PYTHON_VARIABLE)
    if chosen and shutil.which(chosen):
        return chosen
    beside = shutil.which("python3", path=str(Path(program).parent))
    return beside or sys.executable


@functools.cache
def _version(program: str, python: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run(
        [python, "-c", _VERSIONS], env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    try:
        found = json.loads(answer.stdout.splitlines()[-1])
        known = found["version"] and found["plug_ins"]
        return f"Accelergy {found['version']}, plug-ins {found['plug_ins']}" if known else _UNKNOWN
    except (IndexError, ValueError, KeyError) as error:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise SimulationError(f"{python} does not say which Accelergy it has: {last}") from error


def _key(version: str, query: Query) -> str:
    content = json.dumps([_SCHEMA, version, query.component, dict(query.attributes), query.actions], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _path(key: str) -> Path:
    return default_root() / "components" / key[:2] / f"{key}.json"


def _read(key: str) -> Answer | None:
    """The kept answer; a damaged one counts as missing and is written anew."""
    try:
        content = json.loads(_path(key).read_bytes())
        if content["digest"] != _digest(content["answer"]):
            return None
        found = content["answer"]
        return Answer(found["energy_pj"], found["area_um2"], tuple(found["estimators"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(key: str, query: Query, answer: Answer, version: str) -> None:
    plain = json.loads(json.dumps(asdict(answer)))
    content = {"version": version, "query": asdict(query), "answer": plain, "digest": _digest(plain)}
    try:
        write_atomic(_path(key), json.dumps(content, sort_keys=True) + "\n", durable=True)
    except MmworkloadError as error:
        tell(f"warning: Accelergy's answers are not kept: {error}")


def _digest(answer: Mapping) -> str:
    return hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()


ENERGY_ESTIMATOR = Accelergy()
