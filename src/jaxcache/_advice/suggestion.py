"""Suggestion: something to try, with the numbers that it rests on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

WORTH_SECONDS = 1.0  # what counts as worth a person's time; below it, a rule stays silent


@dataclass(frozen=True)
class Suggestion:
    """Something to try.

    Attributes:
        rule: Which rules fired, in one or two words each.
        title: What is the matter, and what to do.
        evidence: The numbers that it rests on.
        effect: What to expect, at most.
        override: What to add to ``python -m flows.sweep`` to try it; empty if only the program can be changed.
        python: The same in a program.
        saved_seconds: The seconds of ``effect``, by which suggestions are ranked: what was counted, and at most saved.
    """

    rule: str
    title: str
    evidence: str
    effect: str
    override: str
    python: str
    saved_seconds: float = 0.0


def merge(same: Sequence[Suggestion]) -> Suggestion:
    """Return suggestions of one remedy as one: the first of them, with the rules and the evidence of all."""
    rules, evidence = (
        [*dict.fromkeys(texts)] for texts in zip(*((one.rule, one.evidence) for one in same), strict=True)
    )
    return replace(same[0], rule=" · ".join(rules), evidence="; ".join(evidence))


def merge_equal(suggestions: Iterable[Suggestion]) -> list[Suggestion]:
    """Return one suggestion for each remedy, in their order."""
    by_remedy: dict[str, list[Suggestion]] = {}
    for suggestion in suggestions:
        by_remedy.setdefault(suggestion.python, []).append(suggestion)
    return [merge(same) for same in by_remedy.values()]
