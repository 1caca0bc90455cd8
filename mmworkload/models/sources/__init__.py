"""Where models come from: one module per scheme, each with ``find(name, rest, options)`` that gives a Model."""
