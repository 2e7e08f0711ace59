"""A worker: computes one job, from its networks to its outcomes."""
