"""FrontFunction: a function that calls a cached one with other arguments than it is called with itself."""

import types
from typing import Any

from .._calls.misses import Explanation
from .._calls.signature import Call
from .cached_function import CachedFunction, Dispatcher, dispatcher_of, global_name


class FrontFunction:
    """A function in front of a cached function: explained, compiled ahead, cleared, copied and bound as that is."""

    _cached: Any  # a CachedFunction, or another function in front of one
    __name__: str

    @property
    def _jaxcache(self) -> Dispatcher:
        return dispatcher_of(self._cached)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _cached_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the cached function for a call of this one; nothing is run or counted."""
        raise NotImplementedError

    def _reduce_elsewhere(self) -> Any:
        """Return how to make this function where no module has it under its name, in the form of ``__reduce__``."""
        raise TypeError(
            f"{self.__name__} travels to another process only by its name in a module: make it at a module's top "
            "level, or in the process that calls it"
        )

    def explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        """Say what a call would be, as ``cache.explain`` does."""
        return self._jaxcache.explain(*call_behind(self, args, kwargs))

    def warm(self, *signatures: Any, threads: int | None = None) -> int:
        """Compile ahead of the first call, as :meth:`CachedFunction.warm` does; signatures are calls of this function.

        Args:
            *signatures: Each a tuple of the positional arguments, one argument that is no tuple, or a :class:`Call`.
            threads: How many compile at a time; all cores if None.

        Returns:
            How many programs were compiled or loaded.
        """
        calls = [Call.of(signature) for signature in signatures]
        cached = [self._cached_call(call.args, call.kwargs) for call in calls]
        return self._cached.warm(*(Call(*args, **kwargs) for args, kwargs in cached), threads=threads)

    def clear(self) -> None:
        """Free this function's entries, as ``cache.clear`` does."""
        dispatcher = self._jaxcache
        dispatcher.compiler.clear(dispatcher.function)

    def clear_cache(self) -> None:
        """Free this function's entries, and what ``jax.jit`` holds for calls that went past the cache."""
        self._cached.clear_cache()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)  # pyright: ignore[reportArgumentType]

    def __copy__(self) -> "FrontFunction":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrontFunction":
        return self  # as functions are

    def __reduce__(self) -> Any:
        return global_name(self) or self._reduce_elsewhere()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in front of {self._cached!r}>"


def dispatcher_behind(function: Any) -> Dispatcher | None:
    """Return the dispatcher that serves the calls of a function, or of a method of one; None if no cache does."""
    if isinstance(function, types.MethodType):
        function = function.__func__
    return dispatcher_of(function) if isinstance(function, CachedFunction | FrontFunction) else None


def call_behind(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the cached function for a call of a function in front of it, or of a method.

    Nothing is run or counted.
    """
    if isinstance(function, types.MethodType):
        function, args = function.__func__, (function.__self__, *args)
    while isinstance(function, FrontFunction):
        args, kwargs = function._cached_call(args, kwargs)
        function = function._cached
    return args, kwargs
