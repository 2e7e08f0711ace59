"""An attack and a defense for purebench."""
