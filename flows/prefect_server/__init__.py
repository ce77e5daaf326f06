"""Prefect server of the project: its process, its settings, and the connection to it."""
