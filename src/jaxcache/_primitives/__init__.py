"""Sizes with units, checks of arguments, and files that are opened in one step. Nothing here knows JAX or the cache."""
