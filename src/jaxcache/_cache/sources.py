"""Functions by their source, to recognize functions that are created and wrapped again and again."""

import functools
import sysconfig
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .._calls.captured import Token, captured_values, code_behind, differing, what_runs, wrappers_around
from .._calls.description import Description
from .._jax.notices import file_of_user

if TYPE_CHECKING:
    from .entries import FunctionRecord

_SOURCES = 1024
_SIGNATURES = 4096  # of one source
_RECENT = 8  # functions of one source whose captured values are known
_NAMES = 16  # of one source that are counted apart; functions under further names are counted under the first
_INSTALLED = tuple({str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_PACKAGES = ("site-packages", "dist-packages")


class Origin(NamedTuple):
    """Source of a function, and the library that wrapped it.

    Attributes:
        key: Equal for functions of one source, whatever their names: the code alone, with that of wrappers around it,
            where no file holds it, as in notebooks and what is generated; elsewhere with its file and line.
        source_location: Such as `` (solve.py:12)``.
        library: The installed package that wrapped the function; empty if the user's own code did.
    """

    key: Hashable
    source_location: str
    library: str


def origin_of(fun: Callable[..., Any]) -> Origin | None:
    """Return the origin of a function that is being wrapped; None if it has no code of its own."""
    code = code_behind(fun)
    if code is None:
        return None
    file_and_line = (code.co_filename, code.co_firstlineno) if _is_file(code.co_filename) else ()
    source_location = f" ({Path(code.co_filename).name}:{code.co_firstlineno})"
    library = _library(file_of_user()) or _library(code.co_filename)
    runs = tuple(what_runs(each) for each in (code, *wrappers_around(fun)))
    return Origin((file_and_line, runs), source_location, library)


@functools.lru_cache(maxsize=1024)
def _is_file(name: str) -> bool:
    return not name.startswith("<") and Path(name).is_file()


@functools.lru_cache(maxsize=1024)
def _library(file: str) -> str:
    parts = Path(file).parts
    for packages in _PACKAGES:
        if packages in parts[:-1]:
            return parts[parts.index(packages) + 1].removesuffix(".py")
    home = next((home for home in _INSTALLED if Path(file).is_relative_to(home)), None)
    return "" if home is None else Path(file).relative_to(home).parts[0].removesuffix(".py")


@dataclass(frozen=True)
class Recreation:
    """A function that is called for the first time, compared with earlier ones of the same source.

    Attributes:
        called: Identities of the calls of all of them.
        captured: Names of captured values in which it differs from any of them.
    """

    called: Container[bytes]
    captured: tuple[str, ...]


@dataclass(slots=True)
class _Source:
    """Names, compiled signatures and latest functions of one source."""

    names: dict[str, None] = field(default_factory=dict)
    called: OrderedDict[bytes, None] = field(default_factory=OrderedDict)  # identities of calls
    recent: deque[tuple[weakref.ref[Any], dict[str, Token]]] = field(default_factory=lambda: deque(maxlen=_RECENT))


class SourceRegistry:
    """LRU map of the last 1024 sources. Its methods are called with the cache's lock."""

    def __init__(self) -> None:
        self._sources: OrderedDict[Hashable, _Source] = OrderedDict()

    def counted_as(self, origin: Origin | None, name: str) -> str:
        """Return the name that a function is counted under: its own, unless names are generated."""
        if origin is None:
            return name
        source = self._sources.setdefault(origin.key, _Source())
        self._sources.move_to_end(origin.key)
        if len(self._sources) > _SOURCES:
            self._sources.popitem(last=False)
        if len(source.names) < _NAMES:
            source.names[name] = None
        return name if name in source.names else next(iter(source.names))

    def add_function(self, record: "FunctionRecord") -> None:
        """Remember what a function that was compiled captures now."""
        source, function = self._source_of(record), record.fun()
        if source is not None and function is not None and not _is_among(function, source):
            source.recent.append((weakref.ref(function), captured_values(function)))

    def add_call(self, record: "FunctionRecord", description: Description) -> None:
        """Remember a signature that was compiled."""
        source = self._source_of(record)
        if source is None:
            return
        source.called[description.identity] = None
        if len(source.called) > _SIGNATURES:
            source.called.popitem(last=False)

    def recreated(self, record: "FunctionRecord") -> Recreation | None:
        """Compare with the earlier functions of the same source.

        None if each of them differs in more than values, or if this function was compiled before. A value is named if
        any of them had another: where two take turns, neither may be kept for both.
        """
        source, function = self._source_of(record), record.fun()
        if source is None or not source.recent or function is None or _is_among(function, source):
            return None
        values = captured_values(function)
        changes = [names for _, earlier in source.recent if (names := differing(earlier, values)) is not None]
        if not changes:
            return None
        captured = tuple(dict.fromkeys(name for names in changes for name in names))
        return Recreation(source.called, captured)

    def _source_of(self, record: "FunctionRecord") -> _Source | None:
        return self._sources.get(record.origin.key) if record.origin else None


def weakly(fun: Callable[..., Any]) -> Callable[[], Any]:
    """Return a function that returns ``fun`` while that lives."""
    try:
        return weakref.ref(fun)
    except TypeError:  # such as an object with slots, which jax.jit refuses when it is called
        return lambda: None


def _is_among(function: Any, source: _Source) -> bool:
    identities = [id(reference()) for reference, _ in source.recent]  # a list: no generator is left half way
    return id(function) in identities
