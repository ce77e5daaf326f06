"""Files of a sweep -> models. What cannot be read, or contradicts itself, is named with its reason, and left out."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from ..result import TrialResult

_MAY_BE_NEGATIVE = ("disk_saved_seconds",)  # where reading programs took longer than compiling them had
_Model = TypeVar("_Model", bound=BaseModel)


class Unreadable(NamedTuple):
    """A file that the report goes without."""

    path: str
    reason: str


class FileReader:
    """Reads the files of one sweep, and keeps a list of those that it could not use."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.unreadable: list[Unreadable] = []

    def read(
        self, model: type[_Model], paths: Iterable[Path], fault: Callable[[Path, _Model], str | None] | None = None
    ) -> list[_Model]:
        """Return the models of the files that can be read, ordered by path.

        Args:
            model: The class of what the files hold.
            paths: Of the files.
            fault: Returns what is wrong with a model that could be read; None for nothing.
        """
        models: list[_Model] = []
        for path in sorted(paths):
            content = b""
            try:
                content = path.read_bytes()
                read = model.model_validate_json(content)
            except OSError as error:
                self.refuse(path, f"cannot be read: {error.strerror}")
                continue
            except ValidationError as error:
                self.refuse(path, _what_is_wrong(content, error))
                continue
            reason = None if fault is None else fault(path, read)
            if reason is None:
                models.append(read)
            else:
                self.refuse(path, reason)
        return models

    def refuse(self, path: Path, reason: str) -> None:
        """Note that a file is of no use."""
        self.unreadable.append(Unreadable(str(path.relative_to(self._directory)), reason))


def _what_is_wrong(content: bytes, error: ValidationError) -> str:
    """Return why a file is not what it should be: cut short, of another version, or with what field wrong."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return "is empty" if not content.strip() else "is no JSON, as if cut short"
    version = value.get("schema_version", 1) if isinstance(value, dict) else None
    if version != 1:
        return f"is of schema version {version}, this jaxcache reads version 1"
    first = error.errors()[0]
    more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}{more}"


def fault_of_file(path: Path, result: TrialResult) -> str | None:
    """Return what is wrong with a result file of a sweep that could be read; None if nothing is."""
    if result.trial_id != path.parent.name:
        return f"is the result of trial {result.trial_id}, not of the directory that it is in"
    return fault_of_result(result)


def fault_of_result(result: TrialResult) -> str | None:
    """Return what is impossible in a trial's result; None if nothing is."""
    parts = {name: getattr(result, name) for name in ("statistics", "timing", "memory")}
    if result.status == "completed" and None in parts.values():
        missing = next(name for name, part in parts.items() if part is None)
        return f"has no {missing}, though its trial completed"
    for name, part in parts.items():
        for field, number in _numbers(part):
            if not math.isfinite(number) or (number < 0 and field not in _MAY_BE_NEGATIVE):
                return f"{name}.{field}: must be a finite number of 0 or more, but is {number}"
    return None


def _numbers(part: BaseModel | None) -> Iterator[tuple[str, float]]:
    for field in () if part is None else type(part).model_fields:
        value = getattr(part, field)
        if isinstance(value, int | float):
            yield field, value
