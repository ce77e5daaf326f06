"""Planning of a sweep: Hydra expands and composes overrides, pydantic validates the trials."""
