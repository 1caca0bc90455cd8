"""Maps the shelves at the root of the repository to sub-packages of ``mmworkload``; all else is in pyproject.toml."""

import tomllib
from pathlib import Path

from setuptools import find_packages, setup

SHELVES = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text())["tool"]["mmworkload"]["shelves"]

# Packages are found, not listed: a list forgets the next family.
packages = ["mmworkload", *(f"mmworkload.{name}" for name in find_packages("mmworkload"))]
for shelf in SHELVES:
    packages += [f"mmworkload.{shelf}", *(f"mmworkload.{shelf}.{name}" for name in find_packages(shelf))]

setup(
    packages=packages,
    package_dir={"mmworkload": "mmworkload", **{f"mmworkload.{shelf}": shelf for shelf in SHELVES}},
    package_data={
        "": ["py.typed", "*.yaml", "*.html", "*.css", "*.js", "*schema.json"],
        "mmworkload.shapes": ["**/*.yaml"],
        "mmworkload.results": ["*.parquet"],
        "mmworkload.measurements": ["*.parquet"],
    },
)
