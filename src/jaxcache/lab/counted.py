"""Numbers of things in words, for the flows too, which take from the library what is public."""

from .._primitives.counted import counted

__all__ = ["counted"]
