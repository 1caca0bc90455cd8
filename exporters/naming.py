"""File names of problems, the same for every target: in the order of the network, readable, and safe everywhere."""

from __future__ import annotations

import re

from mmworkload.exporters.work_items import work_items
from mmworkload.graph import Workload
from mmworkload.problem import Problem

_LONGEST = 60


class FileNames:
    """Names without a suffix, as ``007_layer1.0.conv1_1f0c92ab``: the place among the unique problems, the first layer
    that runs the problem, and the first digits of its key.

    The number alone makes them unique, also where a file system ignores the case of letters; characters that some
    system refuses are underscores, and of a long name the end is kept.
    """

    def __init__(self, workload: Workload) -> None:
        unique = {item.work.problem.key for item in work_items(workload) if item.work}
        self._digits = max(3, len(str(len(unique))))
        self._names: dict[str, str] = {}

    def name(self, problem: Problem, layer: str) -> str:
        """The name of ``problem``, which is first asked for with the first ``layer`` that runs it."""
        if problem.key not in self._names:
            plain = re.sub(r"[^A-Za-z0-9._-]+", "_", layer)[-_LONGEST:].strip("._-") or "layer"
            self._names[problem.key] = f"{len(self._names) + 1:0{self._digits}d}_{plain}_{problem.key[:8]}"
        return self._names[problem.key]
