"""lnc_ra: the rate of requests times cost by size, for what stays and for what comes in."""

from collections import deque
from collections.abc import Sequence

from .structures import CANDIDATES, History, RandomKeySet

K = 4  # references that a rate is taken from


def request_rate(references: int, oldest: int, time: int) -> float:
    """Return λ of a key with so many references since request ``oldest``, at request ``time``."""
    return references / (time - oldest)


def profit(rate: float, size: int, cost: float) -> float:
    """Return what a byte saves in a unit of time: λ * c / s."""
    return rate * cost / size


class LncRa:
    """Least-Normalized-Cost replacement with admission.

    The entry with the lowest profit goes, where ::

        profit = λ * c / s        λ = K / (t - t_K)

    with c its cost, s its size, t the number of the request under way and t_K that of the K-th last request for the
    key, K = 4, or as many as there are of it. Equal profits go least recently used first.

    A newcomer is admitted if its profit is more than that of the victims together, Σ λ * c / Σ s; one without
    earlier requests, which has no λ, if its c / s is more than their Σ c / Σ s. Victims are taken from the lowest
    up until they cover ``size``: all that would go if there were no free byte. The requests of keys that are not
    held are remembered in a :class:`History`; the paper forgets them once their profit is below all that is held.

    Since profits fall with time, at rates of their own, their order changes without hits. So not all entries are
    compared but 64, drawn anew at each request that evicts: exact as long as no more are held, and bounded
    (``benchmarks/policies.py`` shows how near to exact). Choose it where popularity, sizes and costs all differ
    much and change slowly.

    Source: P. Scheuermann, J. Shim, R. Vingralek, WATCHMAN: A Data Warehouse Intelligent Cache Manager, VLDB 1996.
    """

    def __init__(self, seed: int = 0, candidates: int = CANDIDATES) -> None:
        self._candidates = candidates
        self._time = 0
        self._references: dict[int, deque[int]] = {}
        self._size_cost: dict[int, tuple[int, float]] = {}
        self._past: History[deque[int]] = History()  # references of keys not held
        self._held = RandomKeySet(seed)
        self._ranked: list[int] = []  # the candidates of the request under way, lowest profit first

    def add(self, key: int, size: int, cost: float) -> None:
        self._references[key] = self._past.pop(key, deque(maxlen=K))
        self._size_cost[key] = (size, cost)
        self._held.add(key)
        self._refer(self._references[key])

    def hit(self, key: int) -> None:
        self._refer(self._references[key])

    def victim(self) -> int:
        return self._victims()[0]

    def remove(self, key: int) -> None:
        self._held.remove(key)
        self._past.note(key, self._references.pop(key))
        del self._size_cost[key]
        if key in self._ranked:
            self._ranked.remove(key)

    def admit(self, key: int, size: int, cost: float) -> bool:
        covered, their_cost, their_cost_rate = 0, 0.0, 0.0
        for victim in self._victims():
            s, c = self._size_cost[victim]
            covered += s
            their_cost += c
            their_cost_rate += self._rate(self._references[victim]) * c
            if covered >= size:
                break
        past = self._past.get(key, deque(maxlen=K))
        if past:
            rate = self._rate([*past, self._time + 1][-K:])
            admitted = profit(rate, size, cost) > their_cost_rate / covered
        else:
            admitted = cost / size > their_cost / covered
        if not admitted:
            self._refer(past)
            self._past.note(key, past)
        return admitted

    def _refer(self, references: deque[int]) -> None:
        self._time += 1
        references.append(self._time)
        self._ranked = []

    def _rate(self, references: Sequence[int]) -> float:
        """Return λ at the request under way, which is counted once it is answered."""
        return request_rate(len(references), references[0], self._time + 1)

    def _victims(self) -> list[int]:
        """Return keys, lowest profit first."""
        if not self._ranked:
            self._ranked = sorted(self._held.draw(self._candidates), key=self._profit)
        return self._ranked

    def _profit(self, key: int) -> tuple[float, int]:
        references = self._references[key]
        return profit(self._rate(references), *self._size_cost[key]), references[-1]
