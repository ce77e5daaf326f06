"""Calls: their keys, their identities, and why two of them differ."""
