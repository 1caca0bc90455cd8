"""Our words in Timeloop's.

The dimension letters of :mod:`mmworkload.problem` are Timeloop's own, so nothing is translated: N batch, G group or
head, M output channel, C input channel, P Q output height and width (O depth), R S kernel height and width (T depth).
A transposed convolution scatters: P and Q are then the extents of the input.
"""

from __future__ import annotations

from mmworkload.problem import Role

# A shared architecture names dimensions in its constraints, and the front end fails on a problem that lacks one
# (KeyError). So every problem declares these, with extent 1 where it has no use for them.
DIMS = "NGMCPQRS"
DEPTH_DIMS = "OT"

# The name of the operand decides its path through the architecture, also in attention, where both are activations.
DATA_SPACES: dict[Role, str] = {"weight": "Weights", "input": "Inputs", "output": "Outputs"}
ROLES: dict[str, Role] = {name: role for role, name in DATA_SPACES.items()}

# The two axes of the array are a container each: a dimension that may go to either can then be split over both.
SYSTEM, ARRAY_X, ARRAY_Y, MAC = "system", "array_x", "array_y", "mac"

# Accelergy's classes of the levels; the front end knows a storage by them.
CLASSES = {"dram": "DRAM", "sram": "SRAM", "regfile": "regfile"}


def dummy_level(container: str) -> str:
    """The level without storage that the front end adds for a fan-out."""
    return f"inter_{container}_spatial"
