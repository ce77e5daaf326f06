"""One process as a whole: unchanged programs, and the environment that reaches processes they start."""
