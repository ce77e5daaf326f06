"""SeenCalls: calls that programs of the process were compiled for, to say why later ones are compiled.

What may change once a call goes on is taken at once: the abstract arguments, JAX's configuration, what the function
captures, and the texts of static values and static data. To describe and compare takes longer, and can wait.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jax.core import Tracer
from jax.tree_util import tree_leaves, tree_map

from .._cache.entries import FunctionRecord, FunctionRegistry, GhostEntry, explain_new
from .._cache.sources import Recreation, SourceRegistry, origin_of, weakly
from .._cache.stats import Counts
from .._calls.description import Description, describe_call, parameter_names
from .._calls.identity import Identifier
from .._calls.misses import Miss
from .._calls.signature import Key, Statics, abstract_tracer, arguments_of, call_key, is_lasting
from .._jax.calls_under_way import CallUnderWay, is_of_jax
from .._replay.costs import Cost

TRANSFORMED = "called within a transformation, such as jax.vmap or jax.grad, for another size or derivative"


@dataclass(slots=True, eq=False)
class SeenFunction:
    """Function that is called, under the same static arguments.

    Attributes:
        record: What is known of its calls.
        parameter: Returns the name of a positional argument.
        statics: Its static arguments, if it has any.
        is_operation: Whether it is one of JAX's operations.
        is_of_jax: Whether it is one of those, or another of JAX's own functions.
        is_new: Whether nothing was compiled for it yet.
    """

    record: FunctionRecord
    parameter: Callable[[int], str]
    statics: Statics | None
    is_operation: bool
    is_of_jax: bool
    is_new: bool = True


@dataclass(slots=True, eq=False)
class SeenCall:
    """Call that a program is compiled for. It keeps nothing of the caller's alive but classes of named tuples.

    Attributes:
        function: What is called.
        recreation: How the function compares with earlier ones of its source, if it is new.
        describe: Returns the description, once.
        description: What it has returned.
        is_transformed: Whether a transformation calls it, whose own sizes and values are not in the description.
    """

    function: SeenFunction
    recreation: Recreation | None
    describe: Callable[[], Description] | None
    description: Description | None = None
    is_transformed: bool = False


class SeenCalls:
    """Calls by function and source. The methods are called with the lock, but for :meth:`begin`.

    Attributes:
        lock: Guards all of it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a finaliser or a signal handler may compile while this thread holds it
        self._registry: FunctionRegistry[SeenFunction] = FunctionRegistry()
        self._sources = SourceRegistry()
        self._identifier = Identifier()

    def is_describing_here(self) -> bool:
        """Return whether a signal handler has interrupted this thread where whoever has the lock may wait for it."""
        return self._identifier.is_held_here()

    def begin(self, call: CallUnderWay, known_as: Any, name: Callable[[Any], str]) -> SeenCall:
        """Return a call that is under way.

        Args:
            call: The call.
            known_as: What is called, or what stands for that.
            name: Returns the name of it.

        Raises:
            Exception: Of the caller's values, such as a static one that cannot be compared.
        """
        args, kwargs = call.args, call.kwargs
        is_transformed = any(isinstance(leaf, Tracer) for leaf in tree_leaves((args, kwargs)))
        with self.lock:
            options = (call.static_argnums, call.static_argnames, is_transformed)
            function = self._registry.find(known_as, options) or self._add(call, known_as, options, name(known_as))
            recreation = self._sources.recreated(function.record) if function.is_new and not is_transformed else None
        if is_transformed:  # the call is itself traced
            args, kwargs = tree_map(abstract_tracer, (args, kwargs))
        key = call_key(function.statics, args, kwargs)
        later = partial(self._describe_later, function, key) if is_lasting(key) else None
        description = None if later is not None else self._describe(function, key, args, kwargs)
        return SeenCall(function, recreation, later, description, is_transformed)

    def _add(self, call: CallUnderWay, known_as: Any, options: Any, name: str) -> SeenFunction:
        origin = origin_of(known_as)
        self._sources.counted_as(origin, name)
        function = SeenFunction(
            FunctionRecord(name, origin, Counts(), weakly(known_as)),
            parameter_names(call.function),
            Statics(call.static_argnums, frozenset(call.static_argnames)) if any(options[:2]) else None,
            call.is_operation,
            call.is_operation or is_of_jax(call.function),
        )
        self._registry.add(known_as, options, function)
        return function

    def _describe_later(self, function: SeenFunction, key: Key) -> Description:
        return self._describe(function, key, *arguments_of(key))

    def _describe(self, function: SeenFunction, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
        name, parameter, statics = function.record.name, function.parameter, function.statics
        return describe_call(name, parameter, statics, key, args, kwargs, self._identifier)

    def add_function(self, call: SeenCall) -> None:
        """Remember what the function of a call captures, now that it is compiled."""
        call.function.is_new = False
        self._sources.add_function(call.function.record)

    def explain(self, call: SeenCall) -> Miss:
        """Say why a program is compiled for a call; after all earlier ones were explained and remembered."""
        function, description = call.function.record, self._description_of(call)
        if description.identity in function.ghosts and call.is_transformed:
            return Miss(description.text, "cleared", TRANSFORMED)
        if description.identity in function.ghosts:
            return Miss(description.text, "cleared", "compiled before, and forgotten by JAX since")
        return explain_new(function, description, call.recreation, own_key=False)

    def remember(self, call: SeenCall) -> None:
        """Remember a call that a program was compiled for."""
        function, description = call.function.record, self._description_of(call)
        self._sources.add_call(function, description)
        function.remember(GhostEntry(0, description, Cost(0, 0.0), "cleared", 0, 0.0))

    def _description_of(self, call: SeenCall) -> Description:
        if call.describe is not None:
            call.description, call.describe = call.describe(), None
        assert call.description is not None
        return call.description
