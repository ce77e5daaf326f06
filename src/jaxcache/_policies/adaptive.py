"""adaptive: a learnt rate of requests times cost by size, for what stays and for what comes in."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp

from .hazard import KEPT, Hazard
from .history import History
from .urn import RandomKeySet

BRIEF, RECENT = 100.0, 1000.0  # requests; memories of the rate, beside one that keeps everything
STILL_BRIEF, STILL_RECENT = exp(-1 / BRIEF), exp(-1 / RECENT)
LEARNING = 0.01  # share of its weight that a memory gains or loses at a request, at most
LEAST = 1e-3  # weight that a memory keeps, so that it can come back
RENEWAL = 256  # requests between renewals of the hazard, at least
CARRIED = 16


@dataclass(slots=True)
class _Record:
    """What is known of a key: requests in all, and with those long ago forgotten, as of the last one."""

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

    def __init__(self, seed: int = 0, candidates: int = 64) -> None:
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
        if self._priority_if_asked(record) > theirs / covered:
            return True
        self._refer(record)
        self._past.note(key, record)
        return False

    def _refer(self, record: _Record) -> None:
        """Count a request, after learning from whether it was foreseen. All that a hit costs: so in one piece."""
        passed = self._time + 1 - record.last
        still_brief, still_recent = exp(-passed / BRIEF), exp(-passed / RECENT)
        if record.requests:
            self._learn(record, passed, still_brief, still_recent)
        self._time += 1
        record.requests += 1
        record.brief = record.brief * still_brief + 1.0
        record.recent = record.recent * still_recent + 1.0
        record.last = self._time
        self._all_brief = self._all_brief * STILL_BRIEF + 1.0
        self._all_recent = self._all_recent * STILL_RECENT + 1.0
        self._ranked = []

    def _learn(self, record: _Record, passed: int, still_brief: float, still_recent: float) -> None:
        a, b, c = self._weights
        brief = a * record.brief / self._all_brief
        recent = b * record.recent / self._all_recent
        ever = c * record.requests / self._time
        expected = brief * BRIEF * (1 - still_brief) + recent * RECENT * (1 - still_recent) + ever * passed
        self._hazard.note(record.requests, expected)
        brief, recent = brief * still_brief, recent * still_recent
        foreseen = brief + recent + ever
        step = max(LEARNING, 1 / (self._time + 10))
        a = max(LEAST, a + step * (brief / foreseen - a))
        b = max(LEAST, b + step * (recent / foreseen - b))
        c = max(LEAST, c + step * (ever / foreseen - c))
        total = a + b + c
        self._weights = (a / total, b / total, c / total)

    def _foresight(self, record: _Record) -> tuple[float, float, float, float]:
        """Return w_m * n_m / N_m of the three memories at the request under way, and u."""
        passed = self._time + 1 - record.last
        brief = self._weights[0] * record.brief / self._all_brief
        recent = self._weights[1] * record.recent / self._all_recent
        ever = self._weights[2] * record.requests / self._time
        still_brief, still_recent = exp(-passed / BRIEF), exp(-passed / RECENT)
        expected = brief * BRIEF * (1 - still_brief) + recent * RECENT * (1 - still_recent) + ever * passed
        return brief * still_brief, recent * still_recent, ever, expected

    def _priority(self, record: _Record) -> float:
        brief, recent, ever, expected = self._foresight(record)
        return self._hazard.factor(record.requests, expected) * (brief + recent + ever) * record.density

    def _priority_if_asked(self, record: _Record) -> float:
        """Return the priority of a key that is not held, once the request under way is counted."""
        passed, requests = self._time + 1 - record.last, record.requests + 1
        brief = (record.brief * exp(-passed / BRIEF) + 1.0) / (self._all_brief * STILL_BRIEF + 1.0)
        recent = (record.recent * exp(-passed / RECENT) + 1.0) / (self._all_recent * STILL_RECENT + 1.0)
        a, b, c = self._weights
        rate = a * brief + b * recent + c * requests / (self._time + 1)
        return self._hazard.factor(requests, 0.0) * rate * record.density

    def _victims(self) -> list[int]:
        """Return keys, lowest priority first."""
        if not self._ranked:
            self._renew_if_due()
            known = self._records
            drawn = self._held.draw(self._candidates)
            if len(drawn) < len(known):
                again = [key for key in self._carried if key in known]
                drawn = list(dict.fromkeys([*again, *drawn]))[: self._candidates]
            self._ranked = sorted(drawn, key=lambda key: (self._priority(known[key]), known[key].last))
            self._carried = self._ranked[:CARRIED]
        return self._ranked

    def _renew_if_due(self) -> None:
        """Renew the hazard; here, so that no hit waits for it."""
        known = len(self._records) + len(self._past)
        if self._time >= self._renewed + max(RENEWAL, known):
            self._renewed = self._time
            self._hazard.renew(self._waiting(max(RENEWAL, known) / (1 - KEPT)))

    def _waiting(self, span: float) -> Iterator[tuple[int, float, float]]:
        for records in (self._records, self._past):
            for record in records.values():
                expected = self._foresight(record)[3]
                yield record.requests, expected, exp((record.last - self._time) / span)
