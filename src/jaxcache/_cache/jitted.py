"""Functions that ``jax.jit`` or the cache has wrapped before: their options are taken over.

It is the normal case for code that cannot be changed. Inside of another ``jax.jit`` most options of an inner one mean
nothing, and its static arguments would be tracers.
"""

from collections.abc import Callable
from typing import Any

from .._calls.signature import resolve_statics
from .._jax import interfaces

_PLACEMENT = ("device", "backend", "in_shardings", "out_shardings")


def take_over(fun: Any, options: dict[str, Any], cached: type[Any]) -> tuple[Any, dict[str, Any]]:
    """Return the function to wrap in place of ``fun``, and its options.

    Without options of the caller that is the function that ``fun`` wraps, with its options. Otherwise it is ``fun``, as
    in ``jax.jit(jax.jit(f), …)``: its static and donated arguments are so outside too, and its other options hold
    unless the caller's override them.
    """
    if isinstance(fun, cached):
        fun = fun._jaxcache.plain
    taken_apart = interfaces.taken_apart(fun) if isinstance(fun, interfaces.jitted_type) else None
    if taken_apart is None:
        return fun, options
    wrapped, inner = taken_apart
    if not options:
        return wrapped, inner
    # JAX takes options of the compiler at the top level alone.
    return wrapped if "compiler_options" in inner else fun, _merge(wrapped, inner, options)


def _merge(fun: Callable[..., Any], inner: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    merged = {**inner, **options}
    if any(options.get(name) is not None for name in _PLACEMENT):
        for name in _PLACEMENT:
            if name in inner and name not in options and ("shardings" in name) != _names_shardings(options):
                del merged[name]  # jax.jit refuses a device beside shardings
    if "compiler_options" in inner:
        merged["compiler_options"] = {**inner["compiler_options"], **(options.get("compiler_options") or {})}
    static = _numbers_and_names(fun, "static", inner, options)
    donation = [options[name] for name in ("donate_argnums", "donate_argnames") if name in options]
    keeps_all = bool(donation) and all(value is None or value == () for value in donation)
    donated = _numbers_and_names(fun, "donate", *([] if keeps_all else [inner, options]))
    for kind, chosen, others in (("static", static, (set(), set())), ("donate", donated, static)):
        for suffix, arguments, excluded in zip(("argnums", "argnames"), chosen, others, strict=True):
            merged.pop(f"{kind}_{suffix}", None)
            if arguments - excluded:
                merged[f"{kind}_{suffix}"] = tuple(sorted(arguments - excluded))
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
