"""Results of a sweep, compared: rankings, tests, bounds, and what to change."""
