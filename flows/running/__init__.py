"""Flow of a sweep, from its first reference to its report."""
