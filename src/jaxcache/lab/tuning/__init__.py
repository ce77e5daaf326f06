"""The search for a setting by replay."""
