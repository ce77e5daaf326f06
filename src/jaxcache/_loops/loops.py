"""Loops that run on the device: one executable per shape, no host round trip per iteration."""

import enum
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import keystr, tree_flatten_with_path, tree_leaves, tree_map, tree_structure

from .._cache.cached_function import CachedFunction, name_of
from .._cache.front import FrontFunction
from .._cache.jit_cache import JitCache, cache_or_new
from .._jax.notices import warn
from .._primitives.checks import check_optional_whole_number, check_positive, check_whole_number

State = Any
_RUNNING = 0


class Ended(enum.Enum):
    """Reason for the end of a loop."""

    CONVERGED = 1
    MAX_STEPS_REACHED = 2
    NOT_FINITE = 3

    @property
    def advice(self) -> str:
        """Advice on what to try next."""
        return {
            Ended.CONVERGED: "nothing",
            Ended.MAX_STEPS_REACHED: "raise max_steps, loosen the tolerance, or begin nearer to the solution",
            Ended.NOT_FINITE: "take smaller steps, begin elsewhere, or compute in a wider dtype; the state is the last "
            "finite one",
        }[self]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LoopResult:
    """Result of a loop, a tree of arrays. The counts are on the device; reading ``steps`` or ``ended`` waits for it.

    Attributes:
        state: The last state; before the one that was not finite, if there was one.
        step_count: An int32 scalar.
        status: An int32 scalar, the value of an :class:`Ended`.
    """

    state: State
    step_count: jax.Array
    status: jax.Array

    @property
    def steps(self) -> int:
        """Number of steps that were done; if one was not finite, its number, counted from 1."""
        return int(self.step_count)

    @property
    def ended(self) -> Ended:
        """Reason for the end of the loop."""
        return Ended(int(self.status))

    @property
    def converged(self) -> bool:
        """True if the loop ended since ``converged`` was true."""
        return self.ended is Ended.CONVERGED

    @property
    def max_steps_reached(self) -> bool:
        """True if the loop ended since ``max_steps`` were done; see ``ended.advice``."""
        return self.ended is Ended.MAX_STEPS_REACHED


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SolveResult(LoopResult):
    """Result of an iterative solver.

    Attributes:
        residual_norm: The 2-norm of the residual of ``state``, computed from it, not carried along.
    """

    residual_norm: jax.Array


class LoopFunction(FrontFunction):
    """Compiled loop; called with its state and the other arguments of its step."""

    def __init__(
        self,
        run: Callable[..., Any],
        cached: CachedFunction,
        arguments: Callable[..., tuple[Any, ...]],
        warm: Sequence[Any] = (),
    ) -> None:
        """Put ``run`` in front of the cached function that it calls.

        Args:
            run: The function of a call.
            cached: The cached function that it calls.
            arguments: Takes the arguments of ``run``; returns those of ``cached``.
            warm: Signatures of calls to compile ahead.
        """
        self.__name__ = self.__qualname__ = cached.__name__
        self._run = run
        self._cached = cached
        self._arguments = arguments
        if warm:
            self.warm(*warm)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def _cached_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self._arguments(*args, **kwargs), {}


def signatures_to_warm(warm: Sequence[Any], precompile: Sequence[Any] | None) -> Sequence[Any]:
    """Return the signatures to compile ahead, given as ``warm`` or under its former name.

    Raises:
        ValueError: If they are given under both names.
    """
    if precompile is None:
        return warm
    if len(warm):
        raise ValueError("precompile is the former name of warm, but both are given; write all signatures in warm=[…]")
    warn("precompile= is now called warm=; write warm=[…] instead", DeprecationWarning)
    return precompile


def optimization_loop(
    step: Callable[..., State],
    converged: Callable[..., Any],
    *,
    max_steps: int = 1000,
    check_every: int | None = None,
    warm: Sequence[Any] = (),
    cache: JitCache | None = None,
    precompile: Sequence[Any] | None = None,
) -> LoopFunction:
    """Return a function that repeats ``step`` until ``converged``, in one executable for each shape.

    The loop ends when ``converged`` is true (of the first state: after 0 steps), when ``max_steps`` are done, or when
    a step gives NaN or infinity: then the steps before it are done once more, for their state.

    Args:
        step: Takes the state and what else the loop was called with; returns a state of the same structure, shapes and
            dtypes.
        converged: Takes the same; returns a boolean scalar. Traced by JAX, unless ``check_every`` is given.
        max_steps: At most so many steps.
        check_every: If given, ``converged`` is a function of the host, called with the state as NumPy arrays at first
            and after each so many steps.
        warm: Signatures to compile ahead: each a tuple of the state and what else the loop will be called with, as
            arrays or ``jax.ShapeDtypeStruct``.
        cache: The cache that compiles it; a new one without a limit if None.
        precompile: The former name of ``warm``; deprecated.

    Returns:
        ``loop(state, *others) -> LoopResult``.

    Raises:
        ValueError: If ``max_steps`` or ``check_every`` is below 1, or ``warm`` is given under both names.
        TypeError: When called, if ``step`` returns another structure than it takes.
    """
    warm = signatures_to_warm(warm, precompile)
    max_steps = check_whole_number(max_steps, "max_steps")
    check_every = check_optional_whole_number(check_every, "check_every")
    on_device = converged if check_every is None else lambda *_: jnp.asarray(False)

    def repeat(state: State, limit: Any, *others: Any) -> tuple[State, Any, Any]:
        return _repeat(lambda s: step(s, *others), lambda s: on_device(s, *others), state, limit)

    cached = cache_or_new(cache).jit(_named(repeat, step))
    all_steps = jnp.int32(max_steps)  # made once: handing over a number at each call takes longer than a small loop

    def loop(state: State, *others: Any) -> LoopResult:
        if check_every is None:
            return LoopResult(*cached(state, all_steps, *others))
        if bool(converged(jax.device_get(state), *others)):
            return LoopResult(jax.tree.map(jnp.asarray, state), jnp.int32(0), jnp.int32(Ended.CONVERGED.value))
        done = 0
        while True:
            state, steps, status = cached(state, np.int32(min(check_every, max_steps - done)), *others)
            done += int(steps)
            ended = Ended(int(status))
            if ended is Ended.MAX_STEPS_REACHED and bool(converged(jax.device_get(state), *others)):
                ended = Ended.CONVERGED
            if ended is not Ended.MAX_STEPS_REACHED or done >= max_steps:
                return LoopResult(state, jnp.int32(done), jnp.int32(ended.value))

    return LoopFunction(loop, cached, lambda state, *others: (state, all_steps, *others), warm)


def _power_of_two_below(sizes: Sequence[jax.Array]) -> jax.Array:
    """Return a power of two about as large as the largest size: that size without its mantissa.

    Numbers are divided by it without rounding, and their squares then neither overflow nor vanish. XLA may multiply by
    its inverse instead, so both are kept to what is a normal number.
    """
    largest = functools.reduce(jnp.maximum, sizes, jnp.zeros(()))
    limits = jnp.finfo(largest.dtype)
    word = jnp.uint32 if limits.bits == 32 else jnp.uint64
    exponent = word((1 << (limits.bits - 1)) - (1 << limits.nmant))
    power = lax.bitcast_convert_type(lax.bitcast_convert_type(largest, word) & exponent, largest.dtype)
    most = 2.0 ** (-int(limits.minexp) - 1)
    return jnp.clip(power, 1 / most, most)


def _as_divisor(scale: jax.Array, leaf: jax.Array) -> jax.Array:
    """Return the scale in the leaf's precision, where it may be too small to be told from zero."""
    real = jnp.finfo(leaf.dtype)
    return scale if scale.dtype == real.dtype else jnp.maximum(scale.astype(real.dtype), real.tiny)


def iterative_solver(
    step: Callable[..., State],
    *,
    residual: Callable[..., Any],
    tolerance: float = 1e-6,
    relative: bool = True,
    max_steps: int = 1000,
    check_every: int = 1,
    warm: Sequence[Any] = (),
    cache: JitCache | None = None,
) -> LoopFunction:
    """Return a function that repeats ``step`` until the true residual is small, in one executable for each shape.

    Args:
        step: Takes the state and the problem; returns a state of the same structure, shapes and dtypes.
        residual: Takes the same; returns the residual, computed from the solution in the state, as arrays. What a
            method such as conjugate gradients carries along as its residual drifts away from it.
        tolerance: The 2-norm of the residual at which the solver stops.
        relative: Whether that is a multiple of the first state's residual.
        max_steps: At most so many steps, rounded up to a multiple of ``check_every``.
        check_every: The residual is computed after each so many steps, which are also what is counted.
        warm: Signatures to compile ahead: each a tuple of the state and the problem.
        cache: The cache that compiles it; a new one without a limit if None.

    Returns:
        ``solver(state, *problem) -> SolveResult``.

    Raises:
        ValueError: If a number is out of range.
        TypeError: When called, if ``step`` returns another structure than it takes.
    """
    max_steps = check_whole_number(max_steps, "max_steps")
    check_every = check_whole_number(check_every, "check_every")
    tolerance = check_positive(tolerance, "tolerance", "1e-6")

    def solve(state: State, goal: Any, limit: Any, *problem: Any) -> tuple[State, Any, Any, Any]:
        def remainder(s: State) -> list[jax.Array]:
            leaves = [jnp.asarray(leaf) for leaf in tree_leaves(residual(s, *problem))]
            return [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves]  # 256² is no float16

        def norm(leaves: list[jax.Array]) -> jax.Array:
            squares = [jnp.sum(jnp.abs(leaf / _as_divisor(scale, leaf)) ** 2) for leaf in leaves]
            return scale * jnp.sqrt(sum(squares, start=jnp.zeros(())))

        initial = remainder(state)
        scale = _power_of_two_below([jnp.max(jnp.abs(leaf), initial=0) for leaf in initial])

        def several(s: State) -> State:
            checked = _checked(lambda old: step(old, *problem), s)
            return lax.fori_loop(0, check_every, lambda _, old: checked(old), s)

        def one_by_one(s: State) -> State:
            """Stop before what is not finite: past an exact solution, many methods divide nothing by nothing."""
            return _repeat(lambda old: step(old, *problem), lambda _: False, s, jnp.int32(check_every))[0]

        def forward(pair: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            new = several(pair[0])
            return new, norm(remainder(new))

        def within() -> tuple[tuple[State, jax.Array], Any]:
            """Look for an end within the steps that were not finite together."""
            last = one_by_one(pair[0])
            size = norm(remainder(last))
            converged = (last, size), jnp.int32(Ended.CONVERGED.value)
            return lax.cond(size <= enough, lambda: converged, lambda: (pair, status))

        first = norm(initial)
        enough = goal * (jnp.where(jnp.isfinite(first), first, 0) if relative else 1.0)
        pair, count, status = _repeat(forward, lambda pair: pair[1] <= enough, (state, first), limit)
        if check_every > 1:
            pair, status = lax.cond(status == Ended.NOT_FINITE.value, within, lambda: (pair, status))
        return pair[0], count * check_every, status, pair[1]

    cached = cache_or_new(cache).jit(_named(solve, step))
    goal, limit = jnp.float32(tolerance), jnp.int32(-(-max_steps // check_every))

    def solver(state: State, *problem: Any) -> SolveResult:
        return SolveResult(*cached(state, goal, limit, *problem))

    return LoopFunction(solver, cached, lambda state, *problem: (state, goal, limit, *problem), warm)


def _is_finite(state: State) -> jax.Array:
    """Return whether every number is finite: zero times any other is NaN, which a sum passes on.

    A sum takes up to a third less time than a flag for each number, and one sum of leaves of one shape less than one of
    each: a loop over few numbers lasts as long as the kernels of its body.
    """
    zeros: dict[Any, jax.Array] = {}  # or NaN, by shape and dtype
    for leaf in tree_leaves(state):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            kind = leaf.shape, leaf.dtype
            zeros[kind] = zeros[kind] + leaf * 0 if kind in zeros else leaf * 0
    finite = jnp.asarray(True)
    for leaf in zeros.values():
        finite &= jnp.sum(leaf) == 0
    return finite


def _repeat(
    step: Callable[[State], State],
    converged: Callable[[State], Any],
    state: State,
    limit: Any,
) -> tuple[State, Any, Any]:
    """Trace the loop; return the state, the number of steps and how it ended.

    No step selects between its state and the one before, which would cost a copy of both. When one is not finite, the
    steps before it are done again, by the same code: they give the same states.
    """
    state = tree_map(jnp.asarray, state)
    checked = _checked(step, state)
    first = jnp.where(_scalar(converged(state)), Ended.CONVERGED.value, _RUNNING).astype(jnp.int32)

    def attempt(limit: Any) -> tuple[State, Any, Any]:
        def is_running(carry: Any) -> Any:
            _, count, status = carry
            return (status == _RUNNING) & (count < limit)

        def body(carry: Any) -> Any:
            new = checked(carry[0])
            done = jnp.where(_scalar(converged(new)), Ended.CONVERGED.value, _RUNNING)
            return new, carry[1] + 1, jnp.where(_is_finite(new), done, Ended.NOT_FINITE.value).astype(jnp.int32)

        return lax.while_loop(is_running, body, (state, jnp.int32(0), first))

    def again(carry: Any) -> Any:
        *_, limit, failed_at, _ = carry
        end, count, status = attempt(limit)
        failed = status == Ended.NOT_FINITE.value
        return end, count, status, count - 1, jnp.where(failed & (failed_at == 0), count, failed_at), failed

    begin = (state, jnp.int32(0), first, jnp.asarray(limit, jnp.int32), jnp.int32(0), jnp.asarray(True))
    end, count, status, _, failed_at, _ = lax.while_loop(lambda carry: carry[-1], again, begin)
    has_failed = failed_at > 0
    ended = jnp.where(status == _RUNNING, Ended.MAX_STEPS_REACHED.value, status)
    ended = jnp.where(has_failed, Ended.NOT_FINITE.value, ended).astype(jnp.int32)
    return end, jnp.where(has_failed, failed_at, count), ended


def _scalar(value: Any) -> jax.Array:
    array = jnp.asarray(value)
    if array.shape != () or array.dtype != jnp.bool_:
        raise TypeError(
            f"converged must return a boolean scalar, such as jnp.max(jnp.abs(x)) < 1e-6, but returns "
            f"{array.dtype}{list(array.shape)}"
        )
    return array


def _checked(step: Callable[[State], State], state: State) -> Callable[[State], State]:
    """Return ``step`` with its result in the state's own dtypes; refuse one that returns another structure."""
    wanted = tree_map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)

    def checked(old: State) -> State:
        new = tree_map(jnp.asarray, step(old))
        if tree_structure(new) != tree_structure(wanted):
            raise TypeError(
                "step must return a state of the structure that it takes: it takes "
                f"{tree_structure(wanted)}, but returns {tree_structure(new)}"
            )
        for (path, a), b in zip(tree_flatten_with_path(wanted)[0], tree_leaves(new), strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                raise TypeError(
                    f"step must return a state like the one that it takes: state{keystr(path)} is "
                    f"{a.dtype}{list(a.shape)}, but it returns {b.dtype}{list(b.shape)}"
                )
        return new

    return checked


def _named(function: Callable[..., Any], step: Callable[..., Any]) -> Callable[..., Any]:
    """Name a loop after its step, for statistics, and return it."""
    function.__qualname__ = function.__name__ = name_of(step)
    return function
