"""Where and when experiments run: the only rooms that know Prefect and Hydra."""
