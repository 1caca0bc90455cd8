"""Models: what a name on the command line stands for, and how to build it."""

from mmworkload.models.family import Family, Figure, InputSpec, Parameter, Setting, Settings, Variant
from mmworkload.models.model import DTYPES, Built, Model, synthesize
from mmworkload.models.names import Options, families, resolve

__all__ = [
    "DTYPES",
    "Built",
    "Family",
    "Figure",
    "InputSpec",
    "Model",
    "Options",
    "Parameter",
    "Setting",
    "Settings",
    "Variant",
    "families",
    "resolve",
    "synthesize",
]
