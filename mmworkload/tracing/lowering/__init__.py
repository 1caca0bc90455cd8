"""Lowerings: one module per operator family, found by the registry. Each is a pure function of shapes."""
