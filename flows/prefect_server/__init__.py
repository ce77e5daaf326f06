"""The project's own Prefect server."""
