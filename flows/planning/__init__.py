"""Overrides to trials: Hydra expands and composes, pydantic validates."""
