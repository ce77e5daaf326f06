"""adaptive: a learnt rate of requests times cost by size, for what stays and for what comes in."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from typing import Any

from .hazard import KEPT, Hazard
from .structures import CANDIDATES, History, RandomKeySet

BRIEF, RECENT = 100.0, 1000.0  # requests; memories of the rate, beside one that keeps everything
STILL_BRIEF, STILL_RECENT = exp(-1 / BRIEF), exp(-1 / RECENT)
LEARNING = 0.01  # share of its weight that a memory gains or loses at a request, at most
LEAST = 1e-3  # weight that a memory keeps, so that it can come back
RENEWAL = 256  # requests between renewals of the hazard, at least
CARRIED = 16  # candidates that are compared again the next time

# The functions below are compiled by numba too, for the replay.


def foresee(
    passed: int, still_brief: float, still_recent: float, brief: float, recent: float, requests: int,
    weights: Any, all_brief: float, all_recent: float, time: int,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Return w_m * n_m / N_m of the three memories at the request under way, ``passed`` after the last, and u."""
    from_brief = weights[0] * brief / all_brief
    from_recent = weights[1] * recent / all_recent
    from_ever = weights[2] * requests / time
    expected = from_brief * BRIEF * (1 - still_brief) + from_recent * RECENT * (1 - still_recent) + from_ever * passed
    return from_brief * still_brief, from_recent * still_recent, from_ever, expected


def foresee_once_asked(
    still_brief: float, still_recent: float, brief: float, recent: float, requests: int,
    weights: Any, all_brief: float, all_recent: float, time: int,
) -> float:  # fmt: skip
    """Return the rate of a key once the request under way is counted, with ``requests`` before it."""
    of_brief = (brief * still_brief + 1.0) / (all_brief * STILL_BRIEF + 1.0)
    of_recent = (recent * still_recent + 1.0) / (all_recent * STILL_RECENT + 1.0)
    return weights[0] * of_brief + weights[1] * of_recent + weights[2] * (requests + 1) / (time + 1)


def learn_weights(
    weights: Any, from_brief: float, from_recent: float, from_ever: float, time: int
) -> tuple[float, float, float]:
    """Return the weights of the memories, moved towards their shares in what was foreseen of a request that came."""
    foreseen = from_brief + from_recent + from_ever
    step = max(LEARNING, 1 / (time + 10))
    brief = max(LEAST, weights[0] + step * (from_brief / foreseen - weights[0]))
    recent = max(LEAST, weights[1] + step * (from_recent / foreseen - weights[1]))
    ever = max(LEAST, weights[2] + step * (from_ever / foreseen - weights[2]))
    total = brief + recent + ever
    return brief / total, recent / total, ever / total


@dataclass(slots=True)
class _Record:
    """Requests of a key, as of the last one: in all, and with those long ago forgotten."""

    size: int
    density: float  # cost / size
    requests: int = 0
    brief: float = 0.0
    recent: float = 0.0
    last: int = 0


class Adaptive:
    """Cost times a learnt rate of requests by size, with admission.

    The entry with the lowest priority goes, where ::

        priority = factor(u) * rate * c / s
        rate     = Σ_m w_m * n_m / N_m          u = the rate summed over the requests since the key's last

    with c its cost, s its size, n_m its requests and N_m those of all keys as memory m has them: one forgets with
    exp(-t / 100), one with exp(-t / 1000), one nothing. So n_m / N_m is what memory m takes for the probability
    that the next request is for the key. The weights w_m follow the memory that foresaw the requests that came: each
    moves towards its share in the rate of what was asked for, a step of stochastic EM. Then :class:`Hazard` puts
    right what no such rate can know, from how the requests came: loops, scans, phases. Equal priorities go least
    recently used first.

    A newcomer is admitted if its priority is more than that of the victims together, Σ factor * rate * c / Σ s.
    Victims are taken from the lowest up until they cover ``size``: all that would go if there were no free byte. The
    records of keys that are not held are kept in a :class:`History`.

    As priorities fall with time, at rates of their own, not all entries are compared but 64: the lowest 16 of the
    last time and others drawn anew. A hit is O(1), anything else O(1) with those 64, and now and then a renewal of
    the hazard, O(1) amortised: at most once in as many requests as there are records. Choose it where little is
    known of the requests to come (docs/adaptive.md has the numbers).

    Sources: LNC-RA (Scheuermann et al., VLDB 1996) for the profit and admission; memories as kernels of a point
    process whose weights are learnt, A. G. Hawkes, Biometrika 1971; EM online, O. Cappé, E. Moulines, JRSS B 2009;
    several exponential memories of a key, LRB (Z. Song et al., NSDI 2020).
    """

    def __init__(self, seed: int = 0, candidates: int = CANDIDATES) -> None:
        self._candidates = candidates
        self._time = 0
        self._renewed = 0
        self._all_brief = self._all_recent = 0.0  # N_m; what forgets nothing has as many as there were requests
        self._weights = (1 / 3, 1 / 3, 1 / 3)
        self._hazard = Hazard()
        self._records: dict[int, _Record] = {}
        self._past: History[_Record] = History()  # of keys not held
        self._held = RandomKeySet(seed)
        self._ranked: list[int] = []  # the candidates of the request under way, lowest priority first
        self._carried: list[int] = []

    def add(self, key: int, size: int, cost: float) -> None:
        self._records[key] = record = self._past.pop(key, None) or _Record(size, cost / size)
        self._held.add(key)
        self._refer(record)

    def hit(self, key: int) -> None:
        self._refer(self._records[key])

    def victim(self) -> int:
        return self._victims()[0]

    def remove(self, key: int) -> None:
        self._held.remove(key)
        self._past.note(key, self._records.pop(key))
        if key in self._ranked:
            self._ranked.remove(key)

    def admit(self, key: int, size: int, cost: float) -> bool:
        covered, theirs = 0, 0.0
        for victim in self._victims():
            record = self._records[victim]
            covered += record.size
            theirs += self._priority(record) * record.size
            if covered >= size:
                break
        record = self._past.get(key) or _Record(size, cost / size)
        if self._priority_once_asked(record) > theirs / covered:
            return True
        self._refer(record)
        self._past.note(key, record)
        return False

    def _refer(self, record: _Record) -> None:
        """Count a request, after learning from whether it was foreseen. All that a hit costs: so in one piece."""
        passed = self._time + 1 - record.last
        still_brief, still_recent = exp(-passed / BRIEF), exp(-passed / RECENT)
        if record.requests:
            brief, recent, ever, expected = self._foresee(record, passed, still_brief, still_recent)
            self._hazard.note(record.requests, expected)
            self._weights = learn_weights(self._weights, brief, recent, ever, self._time)
        self._time += 1
        record.requests += 1
        record.brief = record.brief * still_brief + 1.0
        record.recent = record.recent * still_recent + 1.0
        record.last = self._time
        self._all_brief = self._all_brief * STILL_BRIEF + 1.0
        self._all_recent = self._all_recent * STILL_RECENT + 1.0
        self._ranked = []

    def _foresee(
        self, record: _Record, passed: int, still_brief: float, still_recent: float
    ) -> tuple[float, float, float, float]:
        return foresee(
            passed, still_brief, still_recent, record.brief, record.recent, record.requests,
            self._weights, self._all_brief, self._all_recent, self._time,
        )  # fmt: skip

    def _foresee_now(self, record: _Record) -> tuple[float, float, float, float]:
        passed = self._time + 1 - record.last
        return self._foresee(record, passed, exp(-passed / BRIEF), exp(-passed / RECENT))

    def _priority(self, record: _Record) -> float:
        brief, recent, ever, expected = self._foresee_now(record)
        return self._hazard.factor(record.requests, expected) * (brief + recent + ever) * record.density

    def _priority_once_asked(self, record: _Record) -> float:
        """Return the priority of a key that is not held, once the request under way is counted."""
        passed = self._time + 1 - record.last
        rate = foresee_once_asked(
            exp(-passed / BRIEF), exp(-passed / RECENT), record.brief, record.recent, record.requests,
            self._weights, self._all_brief, self._all_recent, self._time,
        )  # fmt: skip
        return self._hazard.factor(record.requests + 1, 0.0) * rate * record.density

    def _victims(self) -> list[int]:
        """Return keys, lowest priority first."""
        if not self._ranked:
            self._renew_if_due()
            records = self._records
            candidates = self._held.draw(self._candidates)
            if len(candidates) < len(records):
                carried = [key for key in self._carried if key in records]
                candidates = list(dict.fromkeys([*carried, *candidates]))[: self._candidates]
            self._ranked = sorted(candidates, key=lambda key: (self._priority(records[key]), records[key].last))
            self._carried = self._ranked[:CARRIED]
        return self._ranked

    def _renew_if_due(self) -> None:
        """Renew the hazard; here, so that no hit waits for it."""
        records = len(self._records) + len(self._past)
        if self._time >= self._renewed + max(RENEWAL, records):
            self._renewed = self._time
            self._hazard.renew(self._waiting(max(RENEWAL, records) / (1 - KEPT)))

    def _waiting(self, span: float) -> Iterator[tuple[int, float, float]]:
        for records in (self._records, self._past):
            for record in records.values():
                expected = self._foresee_now(record)[3]
                yield record.requests, expected, exp((record.last - self._time) / span)
