"""Functions under ``code_key=True``: their programs come from the shared directory before anything is traced.

A program is kept under a key of all the code and values that it was traced from. It is kept only if it was traced from
them here and now: functions within it are traced anew, whatever JAX remembers of them, and what tracing itself has
changed has no key. A share of the hits is traced in the background and compared, and each entry once for every state
of the user's files. A program that differs is dropped with all others of that code, which is always traced from there.
"""

import contextlib
import dataclasses
import functools
import random
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import tree_leaves, tree_map

from .._calls.misses import Explanation
from .._calls.signature import Key, abstract_leaf, placement
from .._code_key.background import background, context_of_new_thread
from .._code_key.digest import CannotBeKeyed
from .._code_key.keys import ProgramKey, prefix_of, program_key, refused_key
from .._code_key.stale import StaleProgramWarning
from .._code_key.walk import Walk, handles
from .._disk.disk_cache import DiskCache
from .._disk.jax_backend import just_served, plugged_cache
from .._disk.whole_programs import (
    count_hit,
    count_verified,
    drop_programs,
    get_program,
    has_note,
    put_note,
    put_program,
)
from .._jax import interfaces, whole_programs
from .._jax.notices import warn
from .._primitives.counted import counted_entries
from .cached_function import CachedFunction, Dispatcher
from .compiler import Compiler
from .executable import Executable, OwnJit, Program
from .last_run import note_request
from .recorded_function import RecordedDispatcher, RecordedFunction
from .recorder import Recorder
from .stored_program import decode_program, encode_program
from .warm_from import take_warmed

_REASONS = 64  # of each function, for explanations
_drawn = random.Random()  # of our own: the program's sequence of random numbers stays as it is
_differed: set[tuple[str, str]] = set()  # directories, and codes whose programs differed there
_asked: set[tuple[str, str]] = set()  # likewise, of those that the directory was asked for


@handles(CachedFunction, RecordedFunction)
def _cached_function(walk: Walk, value: Any) -> None:
    walk.value(value._jaxcache.plain)
    walk.attributes(value, ("__wrapped__", "__module__", "__name__", "__qualname__"))


_DIFFERED = "a program of this code differed from what it was traced to"


def _has_differed(cache: DiskCache, code: ProgramKey) -> bool:
    """Return whether a program of this code has differed in this process, or in another before this one asked.

    The one that finds a difference drops the programs too, so that it is enough to ask once.
    """
    name = (str(cache.path), code.code)
    if name not in _asked:
        _asked.add(name)
        if has_note(cache, refused_key(code.code)):
            _differed.add(name)
    return name in _differed


class _Loaded:
    """Program that was loaded, in the place of one that is to be compiled."""

    def __init__(self, executable: Executable) -> None:
        self._executable = executable

    def compile(self) -> Executable:
        return self._executable


class _Storing:
    """Program that is stored once it is compiled."""

    def __init__(self, program: Program, store: Callable[[Program, str, str, Executable], None]) -> None:
        self._program = program
        self._store = store

    def compile(self) -> Executable:
        facts = None
        with contextlib.suppress(Exception):  # of a JAX that does not show its programs: nothing is stored
            facts = whole_programs.text_and_hash(self._program.lowered)
        executable = self._program.compile()
        if facts is not None:
            self._store(self._program, *facts, executable)
        return executable


class CodeKeyedDispatcher(Dispatcher):
    """Server of the calls of a function whose programs may be loaded without tracing.

    Attributes:
        verify: Share of the hits that are traced and compared.
    """

    verify = 0.05

    @functools.cached_property
    def _reasons(self) -> dict[Key, str]:
        """Why calls are traced, by their key."""
        return {}

    def program(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cache = plugged_cache()
        self._reasons.pop(key, None)
        code = None if cache is None else self._code_of(key)
        if cache is None or code is None:
            return super().program(key, args, kwargs)
        if _has_differed(cache, code):
            self._note(key, _DIFFERED)
            return super().program(key, args, kwargs)
        note_request(cache, code.entry)
        loaded = self._load(cache, code, key, args, kwargs)
        if loaded is not None:
            return _Loaded(loaded)
        if self.entries.prepared.has(key):  # what it was traced from may have changed since
            self._note(key, "it was traced before it was called")
            return super().program(key, args, kwargs)

        def store(program: Program, custom_calls: str, lowered_hash: str, executable: Executable) -> None:
            try:
                self._store_program(cache, code, key, program, custom_calls, lowered_hash, executable)
            except Exception as error:  # nothing of ours may fail the program
                self._note(key, str(error) or type(error).__name__)

        return _Storing(super().program(key, args, kwargs), store)

    def _own_jit(self) -> OwnJit:
        own_jit = super()._own_jit()
        own_jit.anew = True
        return own_jit

    def _note(self, key: Key, reason: str) -> None:
        """Remember why a call is traced, for explanations."""
        self._reasons[key] = reason
        while len(self._reasons) > _REASONS:
            self._reasons.pop(next(iter(self._reasons)), None)

    def _code_of(self, key: Key) -> ProgramKey | None:
        """Return the key of a call's program; None, with a reason to remember, if there is none."""
        try:
            code = program_key(self.fun, self.function.name, self.options, key)
        except CannotBeKeyed as error:
            self._note(key, str(error))
            return None
        except Exception as error:  # a JAX that does not tell what its programs depend on
            self._note(key, f"JAX does not tell what the program depends on ({type(error).__name__}: {error})")
            return None
        return code

    def _is_unchanged(self, key: Key, code: ProgramKey) -> bool:
        """Return whether all that a program was keyed by is as it was then."""
        now = self._code_of(key)
        return now is not None and (now.stable, now.call) == (code.stable, code.call)

    # -- a hit

    def _load(
        self, cache: DiskCache, code: ProgramKey, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Executable | None:
        try:
            return self._loaded(cache, code, key, args, kwargs)
        except Exception as error:  # such as one that cannot be loaded here
            self._note(key, f"its entry cannot be used ({type(error).__name__}: {error})")
            return None

    def _loaded(
        self, cache: DiskCache, code: ProgramKey, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Executable | None:
        started = time.perf_counter()
        warmed = take_warmed(cache, code.entry)
        if warmed is not None:
            stored, whole = warmed.stored, warmed.whole
            count_hit(cache, warmed.found, time.perf_counter() - started)
        else:
            value = get_program(cache, code.entry)
            if value is None:
                return None
            stored = decode_program(value)
            whole = stored.load()
        if not self._is_to_be_trusted(cache, code, key, stored.lowered_hash, args, kwargs):
            return None
        return Executable(
            call=self._own_jit().call,
            weight=stored.weight,
            constants_bytes=stored.constants_bytes,
            lowering_seconds=0.0,
            compile_seconds=time.perf_counter() - started,
            storing_seconds=0.0,
            from_disk=True,
            ask_for=whole_programs.caller(whole, self._leaves),
        )

    def _leaves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Return the leaves of a call's arguments without the static ones."""
        if self.statics is None:
            return tree_leaves((args, kwargs))
        dynamic, named, _ = self.statics.split(args, kwargs)
        return tree_leaves((tuple(dynamic), named))

    # -- verification

    def _is_to_be_trusted(
        self,
        cache: DiskCache,
        code: ProgramKey,
        key: Key,
        lowered_hash: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> bool:
        """Return whether a program may be used; if it is to be verified, that happens later wherever it can."""
        if has_note(cache, code.verified) and _drawn.random() >= self.verify:
            return True
        abstract_args, abstract_kwargs = self._abstract(args, kwargs)

        def verify() -> bool:
            return self._verify(cache, code, key, lowered_hash, abstract_args, abstract_kwargs)

        if context_of_new_thread(interfaces.trace_context) != interfaces.trace_context():
            return verify()  # a thread would trace under another configuration
        background.add(verify)
        return True

    def _abstract(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with descriptions in the place of arrays, which the program may donate."""
        if self.statics is None:
            return tree_map(_description, (args, kwargs))
        fixed = {position % len(args) for position in self.statics.positions if -len(args) <= position < len(args)}
        described = [arg if number in fixed else tree_map(_description, arg) for number, arg in enumerate(args)]
        named = {
            name: value if name in self.statics.names else tree_map(_description, value)
            for name, value in kwargs.items()
        }
        return tuple(described), named

    def _verify(
        self,
        cache: DiskCache,
        code: ProgramKey,
        key: Key,
        lowered_hash: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> bool:
        """Trace a program that was loaded; return False if it differs, after everything of its code was dropped."""
        try:
            if not self._is_unchanged(key, code):
                return True  # what it depends on has changed since: this call had its right program
            own_jit = self._own_jit()
            traced_hash = whole_programs.text_and_hash(own_jit.lower(own_jit.trace(args, kwargs)))[1]
            if traced_hash != lowered_hash and not self._is_unchanged(key, code):
                return True
        except Exception:  # it cannot be traced at all: no verdict
            return True
        count_verified(cache, same=traced_hash == lowered_hash)
        if traced_hash == lowered_hash:
            put_note(cache, code.verified)
            return True
        self._drop_code(cache, code)
        return False

    def _drop_code(self, cache: DiskCache, code: ProgramKey) -> None:
        _differed.add((str(cache.path), code.code))
        put_note(cache, refused_key(code.code))
        dropped = drop_programs(cache, prefix_of(code.code))
        self.compiler.clear(self.function)
        warn(
            f"jaxcache: {self.function.name} was served a program, loaded without tracing, that differs from what it "
            f"is traced to now. What was stored of it is dropped ({counted_entries(dropped)}), and it is traced from "
            "here on; results of this process so far may be stale. It depends on something that its code does not "
            "show: pass that as an argument, or leave code_key out",
            StaleProgramWarning,
        )

    # -- a miss

    def _store_program(
        self,
        cache: DiskCache,
        code: ProgramKey,
        key: Key,
        program: Program,
        custom_calls: str,
        lowered_hash: str,
        executable: Executable,
    ) -> None:
        if _has_differed(cache, code):  # this very program, before it was to be served
            self._note(key, _DIFFERED)
            return
        serialized = just_served(cache) if executable.from_disk else None
        if executable.from_disk and serialized is None:
            self._note(key, "the directory has lost it meanwhile")
            return
        content = whole_programs.dump(program.lowered.compile(), custom_calls, serialized)
        if not self._is_unchanged(key, code):
            if key not in self._reasons:
                self._note(key, "tracing it changes what it reaches")
            return
        seconds = executable.seconds - executable.storing_seconds
        put_program(cache, code.entry, encode_program(lowered_hash, executable, content), seconds)

    # -- explanations

    def explain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Explanation:
        """Say whether a call would be a hit or a miss, and why; of a miss, also what has no key."""
        explanation = super().explain(args, kwargs)
        key = self.key_of(args, kwargs) if explanation.miss is not None else None
        if key is None:
            return explanation
        more = self._why_traced(key)
        return dataclasses.replace(explanation, reason=f"{explanation.reason}; {more}")

    def _why_traced(self, key: Key) -> str:
        cache = plugged_cache()
        if cache is None:
            return "it is traced, since no shared directory is in use"
        code = self._code_of(key)
        reason = self._reasons.get(key)
        if code is None or reason is not None:
            return f"it is traced, since {reason}"
        if has_note(cache, code.entry):
            return "it is loaded from the shared directory without tracing"
        return "it is traced, since the shared directory has no program of its code for this call"


class RecordedCodeKeyedDispatcher(CodeKeyedDispatcher, RecordedDispatcher):
    """Server of the calls of such a function whose requests are written down."""


def _description(leaf: Any) -> Any:
    """Return a description of an array from which it is traced alike; any other leaf as it is."""
    aval: Any = abstract_leaf(leaf)
    if not hasattr(leaf, "shape"):
        return leaf
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=placement(leaf), weak_type=aval.weak_type)


def code_keyed_function(
    compiler: Compiler,
    fun: Any,
    max_compiles: int | None,
    verify: float,
    options: dict[str, Any],
    recorder: Recorder | None,
) -> CachedFunction:
    """Return ``fun`` as a function whose programs the shared directory is asked for before anything is traced."""
    if recorder is None:
        dispatcher = CodeKeyedDispatcher(compiler, fun, None, max_compiles, options)
    else:
        dispatcher = RecordedCodeKeyedDispatcher(compiler, fun, None, max_compiles, options, recorder)
    dispatcher.verify = verify
    return CachedFunction(dispatcher, fun) if recorder is None else RecordedFunction(dispatcher, fun)
