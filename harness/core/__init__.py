"""Values and contracts of the house; standard library only, so that everything else may stand on it."""
