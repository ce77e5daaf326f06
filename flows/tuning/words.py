"""Words of a tuning's command line: those of the tuning, and those that describe the program and its present setting.

``memory_limit=`` is the limit to keep to, and several are the limits to look at. What the program has today is said
by ``present.memory_limit=``, ``present.eviction=`` and ``present.buckets=``.
"""

from ..planning.compose import did_you_mean
from ..planning.errors import UsageError

_PRESENT = "present."
_CONFIG_DIR = "--config-dir"
_OF_A_SETTING = ("memory_limit", "eviction", "buckets")
_NO_LIMIT = "null"


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words that set the tuning, and the overrides that describe the program and its present setting.

    Raises:
        UsageError: If a word of the present setting is not known, or two words say which limit to keep to.
    """
    tuning = [word for word in words if word.startswith(("tune.", "trace="))]
    wanted = [word for word in words if word.partition("=")[0] == "memory_limit"]
    present = [_present(word) for word in words if word.startswith(_PRESENT)]
    program = [word for word in words if word not in tuning and word not in wanted and not word.startswith(_PRESENT)]
    if not any(word.startswith("memory_limit=") for word in present):
        present.append(f"memory_limit={_NO_LIMIT}")
    return [*tuning, *_limits(wanted, tuning)], [*program, *present]


def take_config_dir(words: list[str]) -> tuple[list[str], str | None]:
    """Return the words without ``--config-dir``, and the directory that it names, or None.

    Raises:
        UsageError: If it names none, or there is another option.
    """
    kept: list[str] = []
    directory: str | None = None
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option == _CONFIG_DIR:
            directory = value if equals else next(rest, "")
            if not directory:
                raise UsageError(f"{_CONFIG_DIR} must name a directory, such as {_CONFIG_DIR} myconf")
        elif word.startswith("-"):
            raise UsageError(f"there is no option {word}, see --help; settings are written without dashes")
        else:
            kept.append(word)
    return kept, directory


def names_present_limit(program: list[str]) -> bool:
    """Return whether the overrides say what limit the program has today."""
    return any(word.startswith("memory_limit=") and word.partition("=")[2] != _NO_LIMIT for word in program)


def as_typed(message: str, words: list[str]) -> str:
    """Return a message about a limit or a present setting with the key that was typed for it."""
    typed = {word.partition("=")[0] for word in words}
    for name in _OF_A_SETTING:
        if message.startswith(f"{name} ") and f"{_PRESENT}{name}" in typed:
            return f"{_PRESENT}{message}"
    if "memory_limit" in typed:
        return message.replace("tune.memory_limit", "memory_limit").replace("tune.limits", "memory_limit")
    return message


def _present(word: str) -> str:
    """Return a word of the present setting as an override."""
    key, equals, _ = word.removeprefix(_PRESENT).partition("=")
    if not equals or key not in _OF_A_SETTING:
        names = [f"{_PRESENT}{name}" for name in _OF_A_SETTING]
        hint = did_you_mean(key, names) or f"there are: {', '.join(names)}"
        raise UsageError(f"{word}: there is no setting {_PRESENT}{key}; {hint}")
    return word.removeprefix(_PRESENT)


def _limits(wanted: list[str], tuning: list[str]) -> list[str]:
    """Return limits to keep to as words of the tuning."""
    values = [value for word in wanted if (value := word.partition("=")[2]) not in ("", _NO_LIMIT)]
    others = [word for word in tuning if word.startswith(("tune.memory_limit=", "tune.limits="))]
    if len(values) > 1 or (values and others):
        both = [*wanted, *others]
        raise UsageError(
            f"{' and '.join(both[:2])} both say which limit to keep to; give one, and what the program has "
            "today as present.memory_limit="
        )
    return [f"tune.{'limits' if ',' in value else 'memory_limit'}={value}" for value in values]
