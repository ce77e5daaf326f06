"""``trace`` and ``lower`` of a cached function: the stages of JAX, which share with the entry what they make.

``jax.jit`` traces, lowers and compiles once for a signature, whether it is called or asked for a stage.
"""

import contextlib
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._calls.signature import Key, Uncacheable
from .._jax import interfaces as _jax
from .executable import NotLowerable, OwnJit

if TYPE_CHECKING:
    from .cached_function import Dispatcher


class _Share:
    """What a stage shares with the entry of its signature, made or to be made."""

    __slots__ = ("_args", "_dispatcher", "_key", "_kwargs", "own")

    def __init__(
        self, dispatcher: "Dispatcher", key: Key, own: OwnJit, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._dispatcher, self._key, self.own = dispatcher, key, own
        self._args, self._kwargs = jax.tree.map(_abstract, (args, kwargs))  # arrays are the caller's to free

    def compile(self, lowered: Any) -> None:
        """Compile by the cache, unless it has; as it does ahead of a call."""
        if self._dispatcher._key_of(self._args, self._kwargs) != self._key:  # another configuration meanwhile
            return
        entry = self._dispatcher._programs.entries.get(self._key)
        with contextlib.suppress(Uncacheable):
            entry = entry or self._dispatcher._cache._miss(
                self._dispatcher, self._key, self._args, self._kwargs, requested=False
            )
        if entry is not None:
            with contextlib.suppress(Exception):  # then it is compiled apart
                call: Any = entry.jitted
                compiled = jax.stages.Traced.lower(call.trace(*self._args, **self._kwargs))
                _jax.share_executable(compiled, lowered)


def _abstract(leaf: Any) -> Any:
    """Return what stands for an array; what else there may be is static, or no larger."""
    if not isinstance(leaf, np.ndarray | jax.Array):
        return leaf
    sharding = leaf.sharding if isinstance(leaf, jax.Array) and leaf.committed else None
    aval: Any = jax.typeof(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, aval.dtype, sharding=sharding, weak_type=aval.weak_type)


class SharedTraced(jax.stages.Traced):
    """What ``trace`` of a cached function returns."""

    __slots__ = ()
    _share: _Share

    def lower(self, **options: Any) -> Any:
        """Lower, as that of ``jax.jit``."""
        if any(value is not None for value in options.values()):
            return super().lower(**options)
        try:
            lowered = self._share.own.lower(self)
        except NotLowerable as error:
            raise error.__cause__ or error from None
        lowered = _jax.own_module(self, lowered)
        if lowered is None:
            return super().lower()
        lowered.__class__, lowered._share = SharedLowered, self._share
        return lowered


class SharedLowered(jax.stages.Lowered):
    """What ``lower`` of a cached function returns."""

    __slots__ = ()
    _share: _Share

    def compile(self, compiler_options: Any = None, **options: Any) -> Any:
        """Compile, as that of ``jax.jit``; without options it makes the entry, or has what that has."""
        if compiler_options is None and not any(value is not None for value in options.values()):
            self._share.compile(self)
        return super().compile(compiler_options, **options)


def shared(
    traced: Any, dispatcher: "Dispatcher", key: Key, own: OwnJit, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return what was traced for a call, sharing what comes of it with the entry of the call's key."""
    with contextlib.suppress(Exception):  # the stages of another JAX share nothing
        traced.__class__, traced._share = SharedTraced, _Share(dispatcher, key, own, args, kwargs)
    return traced
