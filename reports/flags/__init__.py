"""Flags: what a reader must know of a row before believing it."""
