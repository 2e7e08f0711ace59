"""The driver: plans a suite, hands out its jobs, and shows how far they are."""
