"""Execution of trials, each in its own process on a device."""
