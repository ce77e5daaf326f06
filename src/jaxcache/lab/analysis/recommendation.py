"""An aggregate -> the answer: which policy, which limit, which buckets, what it saves, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

from ... import format_size, parse_size
from ..buckets import Buckets
from .answer import describe_cells, notes_of, nothing_shared, sentence_of
from .choice import choose
from .paired_tests import Comparison
from .ranking import Block, find_blocks
from .sweep import Group, Setting


@dataclass(frozen=True)
class Decision:
    """Setting to choose, as far as measured trials carry it.

    Attributes:
        sentence: The answer, with what was compared if that is not all.
        notes: How sure, and what would settle what is open; a sentence each.
        chosen: The groups of the recommended setting, one a program, with the trials that were compared alone; empty if
            nothing can be recommended.
        policies: Every pair of policies, held against each other over the cells that were compared.
        buckets: Every pair of bucket choices likewise.
        claimed: Whether the choice of the policy rests on a difference that was shown.
        scope: The cells that were compared, where these are not all of the sweep.
    """

    sentence: str
    notes: tuple[str, ...] = ()
    chosen: tuple[Group, ...] = ()
    policies: tuple[Comparison, ...] = ()
    buckets: tuple[Comparison, ...] = ()
    claimed: bool = False
    scope: str = ""

    @property
    def setting(self) -> Setting | None:
        """The recommended setting."""
        return self.chosen[0].setting if self.chosen else None

    @property
    def override(self) -> str:
        """The words that make ``python -m flows.sweep`` run the recommended setting."""
        return "" if self.setting is None else override_of(self.setting, self.chosen[0].results[0].config.buckets)

    @property
    def python(self) -> str:
        """The same in a program."""
        return "" if self.setting is None else python_of(self.setting, self.chosen)


def override_of(setting: Setting, buckets: Buckets) -> str:
    """Return the words that make ``python -m flows.sweep`` run a setting."""
    limit = "null" if setting.memory_limit is None else typed_size(setting.memory_limit)
    fields = buckets.model_dump(mode="json")
    name = fields.pop("name")
    parts = [f"buckets.{key}={'null' if value is None else value}" for key, value in fields.items()]
    padding = [] if name == "none" else [f"buckets={name}", *parts]
    return " ".join([f"eviction={setting.eviction.partition(' ')[0]}", f"memory_limit={limit}", *padding])


def python_of(setting: Setting, groups: Sequence[Group]) -> str:
    """Return the setting in a program; the lengths of its buckets are read off groups that ran with them."""
    cache = f'jaxcache.JitCache({python_size(setting.memory_limit)}, eviction="{setting.eviction.partition(" ")[0]}")'
    courses = [(group, result.course) for group in groups for result in group.results]
    lengths = {course.buckets: group for group, course in reversed(courses) if course is not None}
    lengths.pop((), None)
    if not lengths:
        return cache
    first, group = [*lengths.items()][-1]
    whose = "" if len(lengths) == 1 else f"  # of {group.program.label}, seed {group.seeds[0]}"
    return f"jaxcache.bucketed(f, cache={cache}, buckets={first}){whose}"


def typed_size(size_bytes: int) -> str:
    """Return a size as it is typed: with a unit where that loses nothing."""
    text = format_size(size_bytes).replace(" ", "")
    return text if parse_size(text, "memory_limit") == size_bytes else str(size_bytes)


def python_size(limit_bytes: int | None) -> str:
    """Return a limit as it is written in Python, where text has a unit."""
    text = "None" if limit_bytes is None else typed_size(limit_bytes)
    return text if text == "None" or text.isdigit() else f'"{text}"'


def decide(groups: Sequence[Group], failed: Sequence[Setting] = ()) -> Decision:
    """Return what the sweep says; ``failed`` are the settings that have no successful trial."""
    if not groups:
        return Decision("No trial succeeded, so there is nothing to choose from.")
    settings = dict.fromkeys(group.setting for group in groups)
    blocks = find_blocks(groups) if len(settings) > 1 else [Block(tuple(groups))]
    tried = [*settings, *failed]
    if not blocks:
        return Decision(nothing_shared(groups))
    choices = [choose(block) for block in blocks]
    main = choices[0]
    compared = sum(len(group.results) for group in main.block.groups)
    is_all = compared == sum(len(group.results) for group in groups)
    return Decision(
        sentence=sentence_of(main, tried, is_all),
        notes=tuple(notes_of(choices, tried, failed)),
        chosen=main.groups,
        policies=main.policies,
        buckets=main.buckets,
        claimed=main.claimed,
        scope="" if is_all else describe_cells(main.block.cells),
    )
