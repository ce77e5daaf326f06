"""Findings of a sweep, worked out once and read by every form of its report.

The answer is the map's wherever all measured trials equal their prediction, and that of the measured trials alone
everywhere else.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from . import map_words
from .answer import describe_programs
from .map_choice import MapChoice, choose_from_map
from .map_suggestions import LEAST_SHARE, advise_from_map
from .policy_map import ProgramMap, draw_maps
from .recommendation import Decision, decide, override_of, python_of
from .suggestions import Advice, advise
from .sweep import Group, Program, Setting, Sweep

_LEVERS = ("memory_limit=", "eviction=")  # of these the map knows the effect to the last digit


@dataclass(frozen=True)
class Findings:
    """Answer, map and suggestions of one sweep, each worked out when it is first asked for.

    Attributes:
        read: The sweep as its files tell it.
    """

    read: Sweep

    @cached_property
    def sweep(self) -> Sweep:
        """The sweep, without baselines and bounds of programs whose trials have not made the recorded requests."""
        untrusted = [program_map for program_map in self.maps if not program_map.is_trusted]
        varying = {check.result.program_id for program_map in untrusted for check in program_map.checks}
        return self.read.without_baselines(varying) if varying else self.read

    @cached_property
    def decision(self) -> Decision:
        """The answer of the measured trials alone."""
        return decide(self.sweep.groups, self.sweep.failed_settings)

    @cached_property
    def maps(self) -> tuple[ProgramMap, ...]:
        """The map of each program that has recorded requests."""
        return draw_maps(self.read)

    @cached_property
    def choice(self) -> MapChoice | None:
        """The setting that the map speaks for; None where the measured trials have to do."""
        return choose_from_map(self.sweep, self.maps)

    @property
    def agreement(self) -> str:
        """How many measured trials equal their prediction; empty without a map."""
        return map_words.agreement_of(self.maps)

    @property
    def left_out(self) -> str:
        """Policies that were not replayed; empty if all were."""
        return map_words.left_out_of(self.maps)

    @property
    def is_contradicted(self) -> bool:
        """Whether a measured trial differs from its prediction."""
        return not all(program_map.is_trusted for program_map in self.maps)

    @property
    def sentence(self) -> str:
        """The answer, in a sentence."""
        return self.decision.sentence if self.choice is None else map_words.sentence_of(self.choice)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """How the answer is known and how sure it is, a sentence each."""
        if self.choice is None:
            warning = (self.agreement,) if self.is_contradicted else ()
            return (*warning, *self.decision.notes, *self._failed_programs)
        lever = self._largest_lever
        priced = map_words.priced_note(self.choice)
        first, *others = map_words.notes_of(self.choice)
        return tuple(note for note in (first, *self._failed_programs, lever, *others, priced) if note)

    @property
    def _failed_programs(self) -> tuple[str, ...]:
        """What is said of programs without a successful trial; empty if there are none."""
        failed = self.sweep.failed_programs if self.sweep.groups else []
        in_answer = {each.program for each in self.choice.joint.maps} if self.choice is not None else set[Program]()
        notes: list[str] = []
        for what, programs in (
            ("only the reference speaks for", [program for program in failed if program in in_answer]),
            ("nothing is said of", [program for program in failed if program not in in_answer]),
        ):
            have, them = ("has", "it") if len(programs) == 1 else ("have", "them")
            if programs:
                notes.append(f"{describe_programs(programs)} {have} no successful trial, so {what} {them}.")
        return tuple(notes)

    @property
    def _largest_lever(self) -> str:
        """The suggestion that saves more than the setting to take does; empty if none does."""
        choice, first = self.choice, next(iter(self.advice), None)
        if choice is None or first is None or choice.best_run_seconds is None:
            return ""
        saved = choice.best_run_seconds - choice.point.seconds
        if first.basis == "counted" or first.saved_seconds <= saved:
            return ""
        title = first.suggestion.title
        return f"One change alone does more: {title[:1].lower()}{title[1:]}, {first.expected}."

    @property
    def setting(self) -> Setting | None:
        """The recommended setting."""
        return self.decision.setting if self.choice is None else self.choice.setting

    @property
    def override(self) -> str:
        """The words that make ``python -m flows.sweep`` run the recommended setting."""
        if self.choice is None or not self._padded_alike:
            return self.decision.override
        return override_of(self.choice.setting, self._padded_alike[0].results[0].config.buckets)

    @property
    def python(self) -> str:
        """The same in a program."""
        if self.choice is None:
            return self.decision.python
        return python_of(self.choice.setting, self._padded_alike)

    @property
    def _padded_alike(self) -> list[Group]:
        """The groups that ran with the buckets of the recommended setting."""
        return [group for group in self.sweep.groups if self.setting and group.setting.buckets == self.setting.buckets]

    @property
    def nearest_run(self) -> Setting | None:
        """The setting that ran and is most like the recommended one: of it, details of a run are shown."""
        if self.choice is None:
            return self.decision.setting
        run = [group.setting for group in self._padded_alike]
        wanted, best_run = self.choice.setting, self.choice.best_run
        return min(
            dict.fromkeys(run),
            default=None,
            key=lambda setting: _distance(setting, wanted, best_run),
        )

    @cached_property
    def advice(self) -> list[Advice]:
        """What to change, most seconds first; nothing twice, and nothing that gains less than is worth it."""
        predicted = [] if self.choice is None else advise_from_map(self.sweep, self.choice)
        levers = () if self.choice is None else _LEVERS
        has_buckets = any(advice.suggestion.rule == "buckets" for advice in predicted)
        kept = [
            advice for advice in advise(self.sweep.groups)
            if not advice.suggestion.override.startswith(levers)
            and advice.saved_seconds >= LEAST_SHARE * self._best_seconds
            and not (has_buckets and "buckets" in advice.suggestion.rule)
        ]  # fmt: skip
        return [*predicted, *kept]

    @property
    def _best_seconds(self) -> float:
        """Compile seconds of the best setting that was run; 0 where none is known."""
        if self.choice is not None:
            return self.choice.best_run_seconds or 0.0
        chosen = self.decision.chosen
        return fmean(group.mean("cost_seconds") for group in chosen) if chosen else 0.0


def _distance(setting: Setting, wanted: Setting, best_run: Setting | None) -> tuple[bool, bool, bool, str]:
    """Return a key that sorts settings by how unlike a wanted one they are, of equals the best that was run first."""
    return (setting != wanted, setting.memory_limit != wanted.memory_limit, setting != best_run, setting.label)
