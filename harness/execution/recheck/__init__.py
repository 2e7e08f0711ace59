"""Computing again: verification of what is recorded, and estimates from one job of each kind."""
