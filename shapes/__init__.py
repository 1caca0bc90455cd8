"""Traced layer graphs of every workload, as reviewable text; written by ``python -m mmworkload.tracing.snapshot``."""
