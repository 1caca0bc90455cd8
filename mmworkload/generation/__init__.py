"""Generation: models that run again and again over a growing state, as one workload."""

from mmworkload.generation.categories import CATEGORIES, category
from mmworkload.generation.generation import Generation, HeldOut, Once, Phase, Sampled, Steps
from mmworkload.generation.growing import Growing, grow
from mmworkload.generation.levers import LEVERS, eager_attention, quantized_caches, quantized_weights
from mmworkload.generation.resolving import generation, resolve_generation
from mmworkload.generation.totals import Totals

__all__ = [
    "CATEGORIES",
    "LEVERS",
    "Generation",
    "Growing",
    "HeldOut",
    "Once",
    "Phase",
    "Sampled",
    "Steps",
    "Totals",
    "category",
    "eager_attention",
    "generation",
    "grow",
    "quantized_caches",
    "quantized_weights",
    "resolve_generation",
]
