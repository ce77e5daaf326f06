"""The call of a jitted function that this thread is compiling for, read from the stack.

JAX tells nobody which call it compiles for. Its own Python function that answers a call which C++ does not know is on
the stack then, with the call's arguments; reading them costs nothing until something is compiled, and keeps nothing.
"""

import sys
from typing import Any, NamedTuple

import jax

_ANSWERS = "cache_miss"  # of ``jax._src.pjit``, a closure over the function and the options of its jit


class CallUnderWay(NamedTuple):
    """A call of a function that ``jax.jit`` has wrapped.

    Attributes:
        function: What was wrapped.
        static_argnums: As JAX has resolved them.
        static_argnames: Likewise.
        args: Of the call.
        kwargs: Of the call.
        is_operation: Whether the function is a single operation of JAX, called eagerly.
        parameters: A hash of that operation's parameters, such as the shape to fill; 0 for any other function.
    """

    function: Any
    static_argnums: tuple[int, ...]
    static_argnames: tuple[str, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_operation: bool
    parameters: int


def call_under_way() -> CallUnderWay | None:
    """Return the innermost call that this thread compiles for; None if there is none, or JAX has changed."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == _ANSWERS and frame.f_globals.get("__name__") == "jax._src.pjit":
            return _read(frame.f_locals)
        frame = frame.f_back
    return None


def _read(variables: Any) -> CallUnderWay | None:
    try:
        function, info = variables["fun"], variables["jit_info"]
        is_operation = bool(getattr(function, "_apply_primitive", False))
        return CallUnderWay(
            function,
            tuple(info.static_argnums),
            tuple(info.static_argnames),
            tuple(variables["args"]),
            dict(variables["kwargs"]),
            is_operation,
            _parameters_of(function) if is_operation else 0,
        )
    except Exception:  # another JAX: less is explained, nothing else
        return None


def _parameters_of(function: Any) -> int:
    captured = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))
    return hash(tuple(sorted(captured["params"].cell_contents.items())))


def is_of_jax(function: Any) -> bool:
    """Say whether a function is one of JAX's own, such as those of ``jax.numpy``."""
    return (getattr(function, "__module__", None) or "").partition(".")[0] == jax.__name__
