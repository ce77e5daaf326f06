"""Weights of programs that are modelled when somebody asks for them.

To weigh a program is to print its module, which takes a thirtieth of the warm start of many a program. A module that is
kept for that takes nothing while the program lives, and some 17 KiB for each of its computations afterwards.
"""

import contextlib
from collections import deque
from typing import Any

from .._cache.executable import weigh_outside

_MOST_COMPUTATIONS = 2_000  # of modules that are kept, but for the last one


class _Modules:
    """Stand-in for an executable, which it does not keep alive."""

    def __init__(self, executable: Any) -> None:
        """Take the modules of an executable, as the compiler returns it."""
        self._modules: list[Any] = executable.hlo_modules()
        self.computations = sum(len(module.computations()) for module in self._modules)

    def hlo_modules(self) -> list[Any]:
        """Return the modules."""
        return self._modules


class LateWeight:
    """Weight of one program, which is modelled once, when it is asked for."""

    __slots__ = ("_modules", "_size_bytes")

    def __init__(self, size_bytes: int = 0, modules: _Modules | None = None) -> None:
        """Take the weight itself, or what it is modelled from."""
        self._size_bytes = size_bytes
        self._modules = modules

    @property
    def computations(self) -> int:
        """Number of computations that are kept for it."""
        modules = self._modules
        return 0 if modules is None else modules.computations

    def size_bytes(self) -> int:
        """Return the weight in bytes, and let the modules go."""
        modules = self._modules
        if modules is not None:
            self._size_bytes = weigh_outside(modules).size_bytes
            self._modules = None
        return self._size_bytes

    def __reduce__(self) -> tuple[type["LateWeight"], tuple[int]]:
        return LateWeight, (self.size_bytes(),)


class LateWeights:
    """Weights that nobody has asked for yet; the oldest are modelled once too many modules are kept for them."""

    def __init__(self) -> None:
        """Begin without any."""
        self._kept: deque[LateWeight] = deque()

    def add(self, executable: Any) -> LateWeight:
        """Return the weight of a program that the compiler has returned."""
        try:
            weight = LateWeight(modules=_Modules(executable))
        except Exception:  # a backend that shows no modules
            return LateWeight(weigh_outside(executable).size_bytes)
        self._kept.append(weight)
        while len(self._kept) > 1 and sum(each.computations for each in list(self._kept)) > _MOST_COMPUTATIONS:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._kept.popleft().size_bytes()
        return weight
