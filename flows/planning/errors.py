"""UsageError: the error of a wrong command."""


class UsageError(Exception):
    """Raised for a wrong command; the message is one line that says what to write instead."""
