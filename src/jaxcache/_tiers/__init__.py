"""Whole stores at once: push, pull, clean up, and bundles of entries."""
