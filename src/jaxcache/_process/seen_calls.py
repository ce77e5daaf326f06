"""SeenCalls: calls that programs of the process were compiled for, to say why later ones are compiled.

What may change once a call goes on is taken at once: the abstract arguments, JAX's configuration, what the function
captures, and the texts of static values and static data. To describe and compare takes longer, and can wait.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jax.tree_util import tree_map

from .._cache.entries import FunctionEntries, FunctionRecord, FunctionRegistry, GhostEntry, explain_new
from .._cache.sources import Recreation, SourceRegistry, origin_of, weakly
from .._cache.stats import Counts
from .._calls.description import Context, Description, describe_call, present_context
from .._calls.identity import Identifier
from .._calls.misses import Miss
from .._calls.signature import Key, Statics, Uncacheable, abstract_tracer, arguments_of, call_key, is_lasting
from .._replay.costs import Cost


@dataclass(slots=True, eq=False)
class SeenCall:
    """Call that a program is compiled for. It keeps nothing of the caller's alive but classes of named tuples.

    Attributes:
        entries: Of the function.
        recreation: How the function compares with earlier ones of its source, if it is new.
        describe: Returns the description, once.
        description: What it has returned.
    """

    entries: FunctionEntries
    recreation: Recreation | None
    describe: Callable[[], Description] | None
    description: Description | None = None


class SeenCalls:
    """Calls by function and source. The methods are called with the lock, but for :meth:`begin`.

    Attributes:
        lock: Guards all of it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a finaliser or a signal handler may compile while this thread holds it
        self._registry = FunctionRegistry()
        self._sources = SourceRegistry()
        self._identifier = Identifier()

    def begin(
        self,
        function: Any,
        name: str,
        parameter: Callable[[int], str],
        static: tuple[tuple[int, ...], tuple[str, ...]],
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> SeenCall:
        """Return a call that is under way.

        Args:
            function: What is called.
            name: Its name.
            parameter: Returns the name of a positional argument.
            static: Positions and names of its static arguments.
            arguments: Positional and named ones.

        Raises:
            Exception: Of the caller's values, such as a static one that cannot be compared.
        """
        with self.lock:
            entries = self._entries_of(function, name, static)
            recreation = self._sources.recreated(entries.function)
        statics = Statics(static[0], frozenset(static[1])) if any(static) else None
        try:
            key = call_key(statics, *arguments)
        except Uncacheable:  # if a tracer makes it so: the call is itself traced
            arguments = tree_map(abstract_tracer, arguments)
            key = call_key(statics, *arguments)
        describe = partial(describe_call, name, parameter, statics, key)
        context = present_context()
        if is_lasting(key):
            return SeenCall(entries, recreation, partial(self._describe, describe, key, context))
        return SeenCall(entries, recreation, None, describe(*arguments, context, self._identifier))

    def _describe(self, describe: Callable[..., Description], key: Key, context: Context) -> Description:
        return describe(*arguments_of(key), context, self._identifier)

    def _entries_of(self, function: Any, name: str, options: Any) -> FunctionEntries:
        known = self._registry.find(function, options)
        if known is not None:
            return known
        origin = origin_of(function)
        self._sources.counted_as(origin, name)
        entries = FunctionEntries(FunctionRecord(name, origin, Counts(), weakly(function)))
        self._registry.add(function, options, entries)
        return entries

    def add_function(self, call: SeenCall) -> None:
        """Remember what the function of a call captures, now that it is compiled."""
        self._sources.add_function(call.entries.function)

    def explain(self, call: SeenCall) -> Miss:
        """Say why a program is compiled for a call; after all earlier ones were explained and remembered."""
        function = call.entries.function
        description = self._description_of(call)
        if description.identity in function.ghosts:
            return Miss(description.text, "cleared", "compiled before, and forgotten by JAX since")
        return explain_new(function, description, call.recreation, own_key=False)

    def remember(self, call: SeenCall) -> None:
        """Remember a call that a program was compiled for."""
        function, description = call.entries.function, self._description_of(call)
        self._sources.add_call(function, description)
        function.remember(GhostEntry(0, description, Cost(0, 0.0), "cleared", 0, 0.0))

    def _description_of(self, call: SeenCall) -> Description:
        if call.describe is not None:
            call.description, call.describe = call.describe(), None
        assert call.description is not None
        return call.description
