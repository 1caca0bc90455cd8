"""What devices were measured to take, as Parquet; written by ``mmworkload results add-measured``."""
