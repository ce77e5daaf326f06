"""Eviction policies over plain arrays, and the one loop that replays a trace under any of them; for numba alone.

A policy here is the protocol of ``_policies`` once more, over keys that are indices into arrays: a state of arrays, and
five small functions on it. They call the same formulas as the objects of ``_policies``, and a property test holds them
to the same decisions. Imported only where numba is installed.
"""
