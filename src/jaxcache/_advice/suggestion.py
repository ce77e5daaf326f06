"""Suggestion: a change to try, with the numbers that support it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

WORTH_SECONDS = 1.0  # the least that is worth a person's time; below it, a rule gives no suggestion


@dataclass(frozen=True)
class Suggestion:
    """A change to try.

    Attributes:
        rule: The rules that fired, in one or two words each.
        title: The problem, and the remedy.
        evidence: The numbers that support it.
        effect: The gain to expect, at most.
        override: The argument of ``python -m flows.sweep`` that tries it; empty if only the program can be changed.
        python: The same in a program.
        saved_seconds: The seconds of ``effect``, by which suggestions are ranked: an upper bound from what was counted.
    """

    rule: str
    title: str
    evidence: str
    effect: str
    override: str
    python: str
    saved_seconds: float = 0.0


def merge(same: Sequence[Suggestion]) -> Suggestion:
    """Merge suggestions of one remedy: the first of them, with the rules and the evidence of all."""
    rules, evidence = (
        [*dict.fromkeys(texts)] for texts in zip(*((each.rule, each.evidence) for each in same), strict=True)
    )
    return replace(same[0], rule=" · ".join(rules), evidence="; ".join(evidence))


def merge_equal(suggestions: Iterable[Suggestion]) -> list[Suggestion]:
    """Return one suggestion for each remedy, in their order."""
    by_remedy: dict[str, list[Suggestion]] = {}
    for suggestion in suggestions:
        by_remedy.setdefault(suggestion.python, []).append(suggestion)
    return [merge(same) for same in by_remedy.values()]
