"""Sizes with units, and files that are opened in one step. Nothing here knows JAX or the cache."""
