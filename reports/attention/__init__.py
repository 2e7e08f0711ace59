"""The attention study: whether a lower reconstruction loss is restored attention."""
