"""What importing costs: listing and the command line come without torch, pandas and networkx."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "transformers", "timm", "zigzag", "pandas", "networkx", "matplotlib", "numpy")
FRAMEWORKS = {"torch", "torchvision", "transformers", "timm"}


def loaded(program: str, *, forbidden: tuple[str, ...] = ()) -> set[str]:
    """The heavy packages that a fresh interpreter holds after ``program``; it cannot import ``forbidden`` ones."""
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in forbidden)
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys\n{block}{program}\nprint(*[n for n in {HEAVY} if sys.modules.get(n)])"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.splitlines()[-1].split())


def test_the_probe_sees_a_heavy_package() -> None:
    assert "networkx" in loaded("import networkx")


@pytest.mark.parametrize(
    ("group", "attribute", "name"),
    [
        ("workloads", "FAMILY", "av-mnist"),
        ("exporters", "EXPORTER", "timeloop"),
        ("simulators", "SIMULATOR", "roofline"),
    ],
)
def test_listing_plugins_loads_nothing_heavy(group: str, attribute: str, name: str) -> None:
    program = f"""
from mmworkload.plugins import plugins
assert {name!r} in plugins("mmworkload.{group}", {attribute!r})
"""
    assert loaded(program) == set()


def test_listing_architectures_loads_nothing_heavy() -> None:
    assert loaded("import mmworkload.arch\nassert 'eyeriss_like' in mmworkload.arch.names()") == set()


@pytest.mark.parametrize("module", ["mmworkload", "mmworkload.cli", "mmworkload.graph"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert loaded(f"import {module}") == set()


def test_measuring_needs_no_package_that_a_machine_with_torch_may_lack() -> None:
    missing = ("typer", "rich", "pydantic", "zigzag", "jinja2", "matplotlib")
    program = """
from mmworkload.measuring.everything import plan
assert ("av-mnist/concat", 1) in [(item.name, item.batch) for item in plan()]
"""
    assert loaded(program, forbidden=missing) == set()


def imports(path: Path, *, top_level: bool) -> Iterator[str]:
    """Dotted names that a module imports; ``top_level`` leaves out those in functions and for type checkers only."""
    todo: list[ast.AST] = [ast.parse(path.read_text(), str(path))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names if not node.level)
        elif top_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo.extend(node.orelse)
        else:
            todo.extend(ast.iter_child_nodes(node))


def modules(root: Path, installed_names: dict[str, str], *folders: str) -> list[Path]:
    found = [root / name for name in installed_names if name.endswith(".py") and name.split("/")[0] in folders]
    assert found
    return found


def dotted(root: Path, path: Path, shelves: list[str]) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    parts = [part for part in parts if part != "__init__"]
    return ".".join(["mmworkload", *parts] if parts[0] in shelves else parts)


def test_modules_that_load_a_framework_are_only_loaded_inside_functions(
    root: Path, installed_names: dict[str, str], shelves: list[str]
) -> None:
    """Networks and dispatch modes are classes over torch's; whoever uses one imports it when it is needed."""
    found = {
        dotted(root, path, shelves): set(imports(path, top_level=True))
        for path in modules(root, installed_names, "mmworkload", *shelves)
    }
    heavy = {name for name, needs in found.items() if any(item.split(".")[0] in FRAMEWORKS for item in needs)}
    assert {"mmworkload.tracing.recorder", "mmworkload.workloads.av_mnist.networks"} <= heavy
    assert {name for name, needs in found.items() if name not in heavy and needs & heavy} == set()
    # What is searched for plug-ins is light.
    assert not any(name.count(".") == 2 and name.startswith("mmworkload.workloads.") for name in heavy)


def test_the_engine_names_no_shelf(root: Path, installed_names: dict[str, str], shelves: list[str]) -> None:
    prefixes = tuple(f"mmworkload.{shelf}" for shelf in shelves)
    guilty = [
        f"{path.relative_to(root)}: {name}"
        for path in modules(root, installed_names, "mmworkload")
        for name in imports(path, top_level=False)
        if name.startswith(prefixes)
    ]

    assert guilty == []


def test_shelves_keep_to_themselves(root: Path, installed_names: dict[str, str], shelves: list[str]) -> None:
    """A shelf imports the engine and its own modules, by absolute names; exporters know no framework."""
    guilty = []
    for shelf in shelves:
        others = tuple(f"mmworkload.{other}" for other in shelves if other != shelf)
        for path in modules(root, installed_names, shelf):
            for name in imports(path, top_level=False):
                foreign = shelf != "workloads" and name.split(".")[0] in FRAMEWORKS
                if name.startswith((".", *others)) or foreign:
                    guilty.append(f"{path.relative_to(root)}: {name}")

    assert guilty == []


def test_an_import_in_a_function_is_no_top_level_import(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nimport a.b\nif TYPE_CHECKING:\n    import c\nelse:\n    from d import e\n"
        "class F:\n    import g\n    def h(self):\n        import i\n"
    )

    at_top_level = {"typing", "typing.TYPE_CHECKING", "a.b", "d", "d.e", "g"}
    assert set(imports(path, top_level=True)) == at_top_level
    assert set(imports(path, top_level=False)) == at_top_level | {"c", "i"}
