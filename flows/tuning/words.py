"""Words of a tuning's command line: those of the tuning, and those that describe the program."""


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words that set the tuning, and the overrides that describe the program."""
    tuning = [word for word in words if word.startswith(("tune.", "trace="))]
    return tuning, [word for word in words if word not in tuning]
