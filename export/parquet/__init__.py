"""Canonical tables as plain parquet, with pictures where they are asked for."""
