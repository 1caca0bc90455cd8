"""Prints the versions that pip is held to: the lock of the Python that runs this, for ``pip install --constraint``.

``python .ci/constraints.py`` prints ``locks/python3.12.txt`` on Python 3.12, and nothing, with a word on stderr, on a
Python without a lock. ``python .ci/constraints.py 2.11`` puts that release of PyTorch in the place of the locked one
and lifts what only PyTorch and torchvision ask for; pip then takes the torchvision that was made for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

LOCKS = Path(__file__).resolve().parent.parent / "locks"
# PyTorch bounds setuptools by itself, each release otherwise.
WITH_TORCH = frozenset({"torch", "torchvision", "setuptools"})
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*(?===)")
_ASKED_BY = re.compile(r" +# +(?:via +)?(?!via$)(?P<name>[a-z0-9][a-z0-9._-]*)")


def constraints(lock: str, torch: str = "") -> str:
    """The constraints in the text of a lock; with ``torch`` those of that release instead of the locked pair."""
    if not torch:
        return lock
    entries = _entries(lock.splitlines())
    lifted = set(WITH_TORCH)
    while more := {name for name, (_, asked) in entries.items() if asked and asked <= lifted} - lifted:
        lifted |= more
    kept = [line for name, (line, _) in entries.items() if name not in lifted]
    return "\n".join([*kept, f"torch=={torch}.*", ""])


def _entries(lines: Iterable[str]) -> dict[str, tuple[str, set[str]]]:
    """Each package of a lock with its line and the packages that ask for it."""
    found: dict[str, tuple[str, set[str]]] = {}
    asked: set[str] = set()
    for line in lines:
        if name := _NAME.match(line):
            asked = set()
            found[name[0]] = (line, asked)
        elif by := _ASKED_BY.match(line):
            asked.add(by["name"])
    return found


def main(arguments: list[str]) -> None:
    version = "{}.{}".format(*sys.version_info)
    lock = LOCKS / f"python{version}.txt"
    if lock.exists():
        sys.stdout.write(constraints(lock.read_text(), *arguments))
        return
    locked = ", ".join(path.stem.removeprefix("python") for path in sorted(LOCKS.glob("python*.txt")))
    print(
        f"There is no lock for Python {version} (there are {locked}): the newest releases are installed, which nobody"
        f" may have tried. For the locked ones: make distclean, then make with PYTHON=python{locked.split(', ')[-1]}",
        file=sys.stderr,
    )
    if arguments:
        print(f"torch=={arguments[0]}.*")


if __name__ == "__main__":
    main(sys.argv[1:])
