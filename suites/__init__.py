"""Shipped suites and recipes; found through importlib.resources, so they need no path."""
