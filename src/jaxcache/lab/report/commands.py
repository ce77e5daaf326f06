"""Commands that reports name."""


def command_like(started: str | None, name: str) -> str:
    """Return how to start a command of the pipeline, spelt as the command was that started a sweep or tuning."""
    return f"jaxcache {name}" if started and started.startswith("jaxcache ") else f"python -m flows.{name}"
