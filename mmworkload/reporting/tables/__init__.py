"""What each verb prints. Every function gives renderables, one a section, for :func:`print_out`."""

from mmworkload.reporting.tables.combinations import combination_tables
from mmworkload.reporting.tables.comparison import comparison_tables
from mmworkload.reporting.tables.coverage import coverage_tables
from mmworkload.reporting.tables.exits import exits_tables
from mmworkload.reporting.tables.export import export_tables, exports_tables
from mmworkload.reporting.tables.listing import list_tables
from mmworkload.reporting.tables.measure import measure_tables
from mmworkload.reporting.tables.packs import added_tables, packs_tables, verified_tables
from mmworkload.reporting.tables.show import show_tables
from mmworkload.reporting.tables.simulate import simulate_tables
from mmworkload.reporting.tables.validate import validate_tables
from mmworkload.reporting.terminal import print_out

__all__ = [
    "added_tables",
    "combination_tables",
    "comparison_tables",
    "coverage_tables",
    "exits_tables",
    "export_tables",
    "exports_tables",
    "list_tables",
    "measure_tables",
    "packs_tables",
    "print_out",
    "show_tables",
    "simulate_tables",
    "validate_tables",
    "verified_tables",
]
