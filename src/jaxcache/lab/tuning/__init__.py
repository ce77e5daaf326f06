"""Search for a cache setting by replay."""
