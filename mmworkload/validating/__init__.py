"""Comparing measured and simulated times of the very same layers."""

from mmworkload.validating.compare import compare
from mmworkload.validating.result import MEANING, Validation

__all__ = ["MEANING", "Validation", "compare"]
