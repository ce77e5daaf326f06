"""Names under which ``jax.jit`` is reached: that of ``jax``, and those that modules have bound themselves.

``jax.jit`` is public, and its replacement is what any program may do. JAX's own modules keep theirs: what they jit is
a part of JAX, and some of it runs before a program could be asked.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from .interfaces import jitted_type

_SPARED = ("jax", "jaxlib", "jaxcache")


class BoundName(NamedTuple):
    """An attribute of a module that is ``jax.jit`` itself, or a partial of it.

    Attributes:
        module: Its name in ``sys.modules``.
        attribute: The name in the module.
        value: What it was bound to.
    """

    module: str
    attribute: str
    value: Any

    @property
    def text(self) -> str:
        """How a warning names it: ``solver.jit``."""
        return f"{self.module}.{self.attribute}"

    def rebind(self, value: Any, instead_of: Any) -> bool:
        """Bind the name anew where it is still bound to ``instead_of``; say whether it was."""
        module = sys.modules.get(self.module)
        try:
            if module is None or vars(module).get(self.attribute) is not instead_of:
                return False
            setattr(module, self.attribute, value)
        except Exception:  # a module that refuses goes on with what it has
            return False
        return True


def replace_jit(replacement: Callable[..., Any], instead_of: Callable[..., Any]) -> bool:
    """Bind ``jax.jit`` anew where it is still ``instead_of``; say whether it was."""
    if jax.jit is not instead_of:
        return False
    jax.jit = replacement
    return True


def bound_names(function: Callable[..., Any]) -> list[BoundName]:
    """Return the attributes of imported modules that are ``function``, or a partial of it; JAX's own left out."""
    return [bound for bound in _attributes() if _is_of(bound.value, function)]


def jitted_names() -> list[BoundName]:
    """Return the attributes of imported modules that ``jax.jit`` has made; JAX's own left out."""
    return [bound for bound in _attributes() if isinstance(bound.value, jitted_type)]


def with_function(value: Any, function: Callable[..., Any]) -> Any:
    """Return ``function``, or the same partial of it as ``value`` is of another."""
    if not isinstance(value, functools.partial):
        return function
    return type(value)(function, *value.args, **value.keywords)


def _is_of(value: Any, function: Callable[..., Any]) -> bool:
    return value is function or (type(value) is functools.partial and value.func is function)


def _attributes() -> Iterator[BoundName]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _SPARED:
            continue
        attributes = getattr(module, "__dict__", None)
        if not isinstance(attributes, dict):  # a stand-in that imports when it is asked for something
            continue
        for attribute, value in list(attributes.items()):
            yield BoundName(name, str(attribute), value)
