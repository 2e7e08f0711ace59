"""What is measured of an example beside its correctness; one file each."""
