"""Numbers of things in words: 1 entry, 2 entries."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, as in ``1 entry``; the plural is the noun with an s unless it is given."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def counted_entries(number: int) -> str:
    """Return a number of entries in words."""
    return counted(number, "entry", "entries")
