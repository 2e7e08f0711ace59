"""What is measured of an example beside its correctness, and what is certified of it; one file each."""
