"""Functions that ``jax.jit`` or the cache has wrapped before: their options are taken over.

It is the normal case for code that cannot be changed. Inside of another ``jax.jit`` most options of an inner one mean
nothing, and its static arguments would be tracers.
"""

from collections.abc import Callable
from typing import Any

from .._calls.signature import resolve_statics
from .._jax import interfaces as _jax

_PLACES = ("device", "backend", "in_shardings", "out_shardings")


def take_over(fun: Any, options: dict[str, Any], cached: type[Any]) -> tuple[Any, dict[str, Any]]:
    """Return what is to be wrapped in place of ``fun``, and with which options.

    Without options of one's own that is what ``fun`` wraps, with its options. Otherwise it is ``fun``, as in
    ``jax.jit(jax.jit(f), …)``: what is static or donated in it is so outside too, and other options of its own hold
    unless the caller's take their place.
    """
    if isinstance(fun, cached):
        fun = fun._jaxcache._plain
    taken_apart = _jax.taken_apart(fun) if isinstance(fun, _jax.jitted_type) else None
    if taken_apart is None:
        return fun, options
    wrapped, inner = taken_apart
    if not options:
        return wrapped, inner
    # JAX takes options of the compiler at the top level alone.
    return wrapped if "compiler_options" in inner else fun, _merge(wrapped, inner, options)


def _merge(fun: Callable[..., Any], inner: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    merged = {**inner, **options}
    if any(options.get(name) is not None for name in _PLACES):
        for name in _PLACES:
            if name in inner and name not in options and ("shardings" in name) != _names_shardings(options):
                del merged[name]  # jax.jit refuses a device beside shardings
    if "compiler_options" in inner:
        merged["compiler_options"] = {**inner["compiler_options"], **(options.get("compiler_options") or {})}
    static = _numbers_and_names(fun, "static", inner, options)
    given = [options[name] for name in ("donate_argnums", "donate_argnames") if name in options]
    keeps_all = bool(given) and all(one is None or one == () for one in given)
    donated = _numbers_and_names(fun, "donate", *([] if keeps_all else [inner, options]))
    for kind, mine, others in (("static", static, (set(), set())), ("donate", donated, static)):
        for what, positions, excluded in zip(("argnums", "argnames"), mine, others, strict=True):
            merged.pop(f"{kind}_{what}", None)
            if positions - excluded:
                merged[f"{kind}_{what}"] = tuple(sorted(positions - excluded))
    return merged


def _names_shardings(options: dict[str, Any]) -> bool:
    return options.get("device") is None and options.get("backend") is None


def _numbers_and_names(fun: Callable[..., Any], kind: str, *each: dict[str, Any]) -> tuple[set[Any], set[Any]]:
    """Return the positions and the names that any of the options make static, or donate."""
    numbers: set[Any] = set()
    names: set[Any] = set()
    for options in each:
        resolved = resolve_statics(fun, options.get(f"{kind}_argnums"), options.get(f"{kind}_argnames"))
        if resolved is not None:
            numbers |= set(resolved.positions)
            names |= resolved.names
    return numbers, names
