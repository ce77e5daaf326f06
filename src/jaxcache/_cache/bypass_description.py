"""Description of the programs that calls past the cache have compiled, and of what brings them into it."""

from collections.abc import Mapping

from .._primitives.counted import counted

MANY_PROGRAMS = 10  # worth a word


def describe_bypasses(name: str, programs: Mapping[str, int], seconds: float) -> str:
    """Say how many programs calls of a function have compiled past the cache; empty if none."""
    if not programs:
        return ""
    called = most_called(programs)
    calls = f"calls of {called}" if called != name else f"calls of {name} that no executable can be looked up for"
    compiled = counted(sum(programs.values()), "program")
    return (
        f"{calls} have gone to jax.jit itself, which has compiled {compiled} for them "
        f"in {seconds:.1f} s; this cache holds none of them, and its limit bounds none: {remedy(name, called)}"
    )


def most_called(programs: Mapping[str, int]) -> str:
    """Return the expression for which most of the programs were compiled."""
    return max(programs, key=lambda called: programs[called])


def remedy(name: str, called: str) -> str:
    """Say how the programs of such calls come into the cache."""
    if called == name:
        return "pass arrays only, by which executables are looked up"
    return f"wrap the transformation, as in {in_cache(name, called)}"


def in_cache(name: str, called: str) -> str:
    """Return the call that takes a transformation of a function into the cache."""
    return f"cache.jit({called.replace('transformation(', 'jax.grad(')})"
