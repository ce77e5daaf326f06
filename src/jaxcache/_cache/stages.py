"""``trace`` and ``lower`` of a cached function: the stages of JAX, which share their program with the entry.

``jax.jit`` traces, lowers and compiles once for a signature, whether it is called or asked for a stage.
"""

import contextlib
from typing import Any

import jax
import numpy as np

from .._calls.signature import Key, Uncacheable
from .._jax import interfaces
from .compiler import Compilable, Compiler
from .executable import NotLowerable, OwnJit


class _Share:
    """Program that a stage shares with the entry of its signature, before or after that is compiled."""

    __slots__ = ("_args", "_compiler", "_dispatcher", "_key", "_kwargs", "own_jit")

    def __init__(
        self,
        compiler: Compiler,
        dispatcher: Compilable,
        key: Key,
        own_jit: OwnJit,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._compiler, self._dispatcher, self._key, self.own_jit = compiler, dispatcher, key, own_jit
        self._args, self._kwargs = jax.tree.map(_abstract, (args, kwargs))  # arrays are the caller's to free

    def compile(self, lowered: Any) -> None:
        """Have the cache compile, as ahead of a call, unless it has an entry."""
        if self._dispatcher.key_of(self._args, self._kwargs) != self._key:  # another configuration meanwhile
            return
        entry = self._dispatcher.entries.by_key.get(self._key)
        with contextlib.suppress(Uncacheable):
            entry = entry or self._compiler.miss(self._dispatcher, self._key, self._args, self._kwargs, requested=False)
        if entry is not None:
            with contextlib.suppress(Exception):  # then it is compiled apart
                call: Any = entry.jitted
                compiled = jax.stages.Traced.lower(call.trace(*self._args, **self._kwargs))
                interfaces.share_executable(compiled, lowered)


def _abstract(leaf: Any) -> Any:
    """Return the description of an array; any other leaf is static, or no larger, and stays."""
    if not isinstance(leaf, np.ndarray | jax.Array):
        return leaf
    sharding = leaf.sharding if isinstance(leaf, jax.Array) and leaf.committed else None
    aval: Any = jax.typeof(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, aval.dtype, sharding=sharding, weak_type=aval.weak_type)


class SharedTraced(jax.stages.Traced):
    """Result of ``trace`` of a cached function."""

    __slots__ = ()
    _share: _Share

    def lower(self, **options: Any) -> Any:
        """Lower, as that of ``jax.jit``."""
        if any(value is not None for value in options.values()):
            return super().lower(**options)
        try:
            lowered = self._share.own_jit.lower(self)
        except NotLowerable as error:
            raise error.__cause__ or error from None
        lowered = interfaces.own_module(self, lowered)
        if lowered is None:
            return super().lower()
        lowered.__class__, lowered._share = SharedLowered, self._share
        return lowered


class SharedLowered(jax.stages.Lowered):
    """Result of ``lower`` of a cached function."""

    __slots__ = ()
    _share: _Share

    def compile(self, compiler_options: Any = None, **options: Any) -> Any:
        """Compile, as that of ``jax.jit``; without options the entry is made, or its executable shared."""
        if compiler_options is None and not any(value is not None for value in options.values()):
            self._share.compile(self)
        return super().compile(compiler_options, **options)


def shared(
    traced: Any,
    compiler: Compiler,
    dispatcher: Compilable,
    key: Key,
    own_jit: OwnJit,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Return ``traced``, whose later stages share their program with the entry of the call's key."""
    with contextlib.suppress(Exception):  # the stages of another JAX share nothing
        traced.__class__, traced._share = SharedTraced, _Share(compiler, dispatcher, key, own_jit, args, kwargs)
    return traced
