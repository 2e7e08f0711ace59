"""Statistics: intervals, paired tests and the worst case."""
