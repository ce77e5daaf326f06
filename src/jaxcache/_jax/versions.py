"""Versions of JAX that can be served. JAX is not imported for it."""

OLDEST = (0, 10)
