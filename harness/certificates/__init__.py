"""Certificates: what is proven of an example, rather than attacked."""
