"""Metrics: what is measured of an example beside its correctness; each imports torch where it computes."""

#: registered name -> where the class is
TABLE = {
    "amv": "harness.metrics.amv:AMV",
    "amv-by-head": "harness.metrics.amv:AMVByHead",
    "distances": "harness.metrics.distances:Distances",
    "reconstruction": "harness.metrics.reconstruction:Reconstruction",
}
