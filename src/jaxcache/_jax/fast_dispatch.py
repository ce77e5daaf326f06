"""JAX's C++ dispatch with memories of our own, so that one call decides among all programs of a function.

``jax.jit`` compares a call with the signatures that it knows (shapes, dtypes, weak types, static values, shardings,
devices, configuration) in C++. For one that it does not know it asks a Python function, ``cache_miss``, which traces,
compiles and runs, and returns the result with the data that C++ needs to do the next such call alone. A copy of a
jitted function with an own memory and an own ``cache_miss`` therefore costs what ``jax.jit`` costs, and whether a call
is one of those that it knows is JAX's own verdict.

The result says which program it was: JAX puts outputs together as the data's tree says, and the tree given here
is that of ``{label: result}``.
"""

import functools
import operator
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from .interfaces import jitted_type

NOT_THIS_SIGNATURE: Any = object()  # the answer to a call that was not taught to a table
_SIGNATURES = 4096  # that a memory holds, the least recently used one goes; jax.jit shares 8192 among all functions
_NO_OPTIONS = ()  # tells nothing apart in a memory of one function; hashed in C
_UNKNOWN = (NOT_THIS_SIGNATURE, None, True)  # the last says that JAX's memory need not remember the signature


def never(*_args: Any, **_kwargs: Any) -> Any:
    """Answer as a table that knows nothing."""
    return NOT_THIS_SIGNATURE


class FastPath:
    """Data with which C++ runs a program for calls of one kind; equal only to itself."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data


def _labelled(data: Any, label: Any, registry: Any) -> Any:
    """Return the data of a fast path such that results come as ``{label: result}``."""
    tree = data.out_pytree_def
    labelled_tree = type(tree).from_node_data_and_children(registry, (dict, [label]), [tree])
    return data._replace(out_pytree_def=labelled_tree)


def _copy(jitted: Any, fun: Callable[..., Any], cache_miss: Callable[..., Any]) -> Any:
    """Return a copy of a jitted function that asks ``cache_miss``, with a memory of its own: one of JAX's own type.

    JAX calls ``fun`` where jit is disabled, and frees the memory when ``fun`` goes: it must be the copy's own. JAX
    hashes what the memory is looked up by under a lock, and no Python code may run there: a signal handler or finaliser
    in it might wait for that lock.

    Raises:
        Exception: Where JAX does not let its functions be copied.
    """
    state = dict(jitted.__getstate__())
    if state["version"] != 1:
        raise TypeError(f"unknown version {state['version']}")
    memory = type(state["cache"])(_SIGNATURES)
    state.update(fun=fun, cache_miss=cache_miss, cache=memory, global_cache_key=_NO_OPTIONS)
    copy: Any = jitted_type.__new__(jitted_type)  # pyright: ignore[reportCallIssue]
    copy.__setstate__(state)
    return copy


def function_in(jitted: Any) -> Callable[..., Any]:
    """Return the function that a jitted one compiles; where that stands in for one of ``jax.jit``, the latter's."""
    try:
        return jitted.__getstate__()["fun"]
    except Exception:  # it is none of jax.jit, or JAX has changed
        return vars(jitted)["__wrapped__"]


def jit_like(jitted: Any, fun: Callable[..., Any]) -> Any:
    """Return what ``jax.jit`` of ``fun`` with the options of ``jitted`` does, made without it.

    ``jax.jit`` has a memory for all functions, and hashes options in Python under its lock. Whoever makes a program in
    a signal handler or finaliser that comes meanwhile would wait for itself.

    Raises:
        Exception: Where JAX does not let its functions be copied.
    """
    from jax._src.traceback_util import api_boundary

    ask: Any = jitted.__getstate__()["cache_miss"].__wrapped__
    free = dict(zip(ask.__code__.co_freevars, ask.__closure__, strict=True))
    if set(free) != {"fun", "jit_info"}:
        raise TypeError(f"jax.jit depends on {sorted(free)}")
    free["fun"] = types.CellType(fun)
    ask_for = types.FunctionType(ask.__code__, ask.__globals__, ask.__name__, ask.__defaults__, tuple(free.values()))
    copied: Any = functools.update_wrapper(_copy(jitted, fun, api_boundary(ask_for)), fun)
    copied._fun, copied._jit_info = fun, jitted._jit_info
    return copied


Ask = Callable[..., tuple[Any, Any, bool]]  # returns a call's result, the data of its fast path, and if to forget it


def with_fast_path(jitted: Any, ask_for: Ask | None = None) -> Callable[..., dict[FastPath | None, Any]]:
    """Return ``jitted`` with results ``{fast path: result}``; the path is None where JAX keeps none for the call.

    Args:
        jitted: The jitted function.
        ask_for: Serves, in the place of JAX, a call that C++ does not know.
    """
    try:
        state = jitted.__getstate__()
        ask_jax, fun, registry = ask_for or state["cache_miss"], state["fun"], state["pytree_registry"]
    except Exception:
        return lambda *args, **kwargs: {None: jitted(*args, **kwargs)}

    pins: list[bool] = []  # whether any fast path, with its executable, is in the copy's memory

    def ask(*args: Any, **kwargs: Any) -> tuple[dict[FastPath | None, Any], Any, bool]:
        result, data, outdated = ask_jax(*args, **kwargs)
        try:
            path = FastPath(data)
            labelled = _labelled(data, path, registry)
        except Exception:  # none, or of another kind than we know
            return {None: result}, None, outdated
        pins[:] = [True]
        return {path: result}, labelled, outdated

    def run(*args: Any, **kwargs: Any) -> dict[FastPath | None, Any]:
        return {None: fun(*args, **kwargs)}

    try:
        copy = _copy(jitted, run, ask)
        vars(copy).update(vars(jitted), _jaxcache_pins=pins)  # JAX's debug_nans looks there for the function
    except Exception:
        return lambda *args, **kwargs: {None: jitted(*args, **kwargs)}
    return copy


def is_pinned(call: Any) -> bool:
    """Say whether ``call``, of :func:`with_fast_path`, holds an executable whatever else JAX forgets."""
    return bool(getattr(call, "_jaxcache_pins", None))


class Lesson(NamedTuple):
    """Call that is to be taught to a table."""

    label: Any
    program: Callable[..., dict[FastPath | None, Any]]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def is_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether it is this very call, and not that of a signal handler or finaliser that came before."""
        mine, others = (*self.args, *self.kwargs.values()), (*args, *kwargs.values())
        return [*self.kwargs] == [*kwargs] and len(mine) == len(others) and all(map(operator.is_, mine, others))


class Table:
    """Dispatch over the programs of one function, as far as they were taught to it.

    It cannot forget one program: who evicts one drops the table, and the others are taught to the next. That asks JAX
    nothing, since each program has its fast paths.

    Attributes:
        call: Returns ``{label: result}``, or ``NOT_THIS_SIGNATURE`` for a call that was not taught.
    """

    __slots__ = ("_lessons", "_served", "call")

    def __init__(self, jitted: Any = None, function: Callable[..., Any] | None = None) -> None:
        """Make an empty table for calls of ``jitted``, which is of ``function``; nothing is ever taught to None."""
        self.call: Callable[..., Any] = never
        self._lessons: dict[int, Lesson] = {}  # by thread
        self._served: set[Any] = set()  # labels
        if jitted is None or function is None:
            return
        lessons, function_of = self._lessons, weakref.ref(function)  # the table must not keep it
        try:
            registry = jitted.__getstate__()["pytree_registry"]
        except Exception:
            return

        def answer(*args: Any, **kwargs: Any) -> tuple[Any, Any, bool]:
            thread = threading.get_ident()
            lesson = lessons.get(thread)
            if lesson is None or not lesson.is_of(args, kwargs) or lessons.pop(thread, None) is not lesson:
                return _UNKNOWN  # taken out at once: it is for this call, not for those within it
            path, result = lesson.program(*args, **kwargs).popitem()
            if path is None:
                return {lesson.label: result}, None, True
            return {lesson.label: result}, _labelled(path.data, lesson.label, registry), False

        def undecided(*_args: Any, **_kwargs: Any) -> Any:
            return NOT_THIS_SIGNATURE

        def run(*args: Any, **kwargs: Any) -> Any:
            return function_of()(*args, **kwargs)  # pyright: ignore[reportOptionalCall]

        try:
            copy = _copy(jitted, undecided, answer)
            copy._fun = run  # JAX's debug_nans looks there for the function
        except Exception:
            return
        self.call = copy

    def serve(
        self,
        label: Any,
        program: Callable[..., dict[FastPath | None, Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Return what ``program`` returns, without its fast path; calls of this kind will be answered with ``label``.

        The first call of a label goes past the table, since noting a fast path takes JAX several hits, and where
        programs come and go there may be no other. JAX notes the signature before it asks, so that what is learnt is
        what was asked for, whatever happens meanwhile to the arguments.
        """
        if label not in self._served:
            self._served.add(label)
            return program(*args, **kwargs).popitem()[1]
        thread = threading.get_ident()
        try:
            self._lessons[thread] = Lesson(label, program, args, kwargs)
            answer = self.call(*args, **kwargs)
        except BaseException as error:
            self.forget()  # JAX would ask for this signature at each call from now on
            if not is_reentrant(error):
                raise
            answer = NOT_THIS_SIGNATURE
        finally:
            self._lessons.pop(thread, None)
        return program(*args, **kwargs).popitem()[1] if answer is NOT_THIS_SIGNATURE else answer.popitem()[1]

    def forget(self) -> None:
        """Forget all that was taught."""
        if self.call is not never:
            self.call._clear_cache()  # pyright: ignore[reportFunctionMemberAccess]


NO_TABLE = Table()


def is_reentrant(error: BaseException) -> bool:
    """Return whether JAX refuses a call since this thread makes the same: in a signal handler or finaliser."""
    return isinstance(error, RecursionError) and str(error).startswith("Recursively calling jit")
