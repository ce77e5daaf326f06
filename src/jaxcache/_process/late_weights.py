"""Weights of programs that are modelled when somebody asks for them.

To weigh a program is to print its module, which takes a thirtieth of the warm start of many a program. A module that is
kept for that takes nothing while the program lives, and some 17 KiB for each of its computations afterwards.
"""

import threading
from collections import deque
from typing import Any

from .._cache.executable import weigh_outside

_MOST_COMPUTATIONS = 2_000  # of modules that are kept, but for the last one


class _Modules:
    """Stand-in for an executable, which it does not keep alive."""

    def __init__(self, modules: list[Any]) -> None:
        self._modules = modules

    def hlo_modules(self) -> list[Any]:
        """Return the modules."""
        return self._modules


class LateWeight:
    """Weight of one program, which is modelled once, when it is asked for."""

    __slots__ = ("_modules", "_size_bytes", "computations")

    def __init__(self, size_bytes: int = 0, modules: list[Any] | None = None) -> None:
        """Take the weight itself, or the modules of the program to model it from."""
        self._size_bytes = size_bytes
        self._modules = modules
        self.computations = sum(len(module.computations()) for module in modules or ())  # that are kept for it

    def size_bytes(self) -> int:
        """Return the weight in bytes, and let the modules go."""
        modules = self._modules
        if modules is not None:
            self._size_bytes = weigh_outside(_Modules(modules)).size_bytes
            self._modules, self.computations = None, 0
        return self._size_bytes

    def __reduce__(self) -> tuple[type["LateWeight"], tuple[int]]:
        return LateWeight, (self.size_bytes(),)


class LateWeights:
    """Weights that nobody has asked for yet; the oldest are modelled once too many modules are kept for them."""

    def __init__(self) -> None:
        """Begin without any."""
        self._lock = threading.RLock()
        self._kept: deque[tuple[LateWeight, int]] = deque()  # and the computations of each, until somebody asks
        self._computations = 0

    def add(self, executable: Any) -> LateWeight:
        """Return the weight of a program that the compiler has returned."""
        try:
            weight = LateWeight(modules=executable.hlo_modules())
        except Exception:  # a backend that shows no modules
            return LateWeight(weigh_outside(executable).size_bytes)
        too_many: list[LateWeight] = []
        with self._lock:
            self._kept.append((weight, weight.computations))
            self._computations += weight.computations
            while len(self._kept) > 1 and self._computations > _MOST_COMPUTATIONS:
                oldest, computations = self._kept.popleft()
                self._computations -= computations
                too_many.append(oldest)
        for oldest in too_many:
            oldest.size_bytes()
        return weight
