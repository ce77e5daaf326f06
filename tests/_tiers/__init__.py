"""Tiers below the local directory."""
