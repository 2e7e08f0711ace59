"""Metrics: what is measured of an example beside its correctness."""
