"""Flow of a tuning, and its settings."""
