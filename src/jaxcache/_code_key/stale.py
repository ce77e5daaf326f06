"""Warning of stale programs, which is public; what finds them is imported where it is used."""


class StaleProgramWarning(RuntimeWarning):
    """A program that was loaded without tracing differs from what its function is traced to."""
