"""Trials: each a process of its own on a device."""
