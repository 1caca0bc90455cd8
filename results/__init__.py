"""Recorded answers of simulators, as Parquet; written by ``mmworkload results add``."""
