"""Identities of values: 16 bytes that are equal for equal values, also in other processes, and for no others.

Signatures are remembered, priced and recorded long after their keys are gone, and across processes. A hash will not do
there (``hash(-1) == hash(-2)``, trees hash alike whatever their static metadata, texts hash anew in each process), nor
will a ``repr``, which may change from call to call and may hide differences. So the parts of a key are read:

* numbers, texts, containers, dataclasses, trees, dtypes, enumerations and types by their contents: the identity is the
  same in every process;
* other objects with an ``__eq__`` of their own by their pickled form, and by comparing with those alive;
* objects that are equal to themselves alone, such as functions, by a label (for a function its name, its code and its
  captured values) and their number among the objects of that label. That is the same in every process in which they
  come in the same order.

A value that cannot be read gets an identity that no other has: equal values may then differ, but different values are
never taken for equal.
"""

import contextlib
import copyreg
import dataclasses
import enum
import functools
import hashlib
import math
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any

import jax
import numpy as np
from jax.core import ShapedArray
from jax.tree_util import PyTreeDef
from numpy.typing import NDArray

_LABELS = 8192  # labels, and groups of equal hashes, that are remembered
_LONG = 256  # elements of a tuple from which on plain ones are read as text, all at once
_PARTS = 4096  # of an object of unknown structure: a larger one has no label of its own
_LARGEST_ARRAY_BYTES = 2**24  # likewise
_CODE = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags")
_NUMBERS = (int.__eq__, float.__eq__, complex.__eq__)
_TEXTS = (str.__eq__, bytes.__eq__)
_SEQUENCES = (tuple.__eq__, list.__eq__)
_SETS = (frozenset.__eq__, set.__eq__)
_AVAL: Any = ShapedArray
_JAX_TYPES: dict[Any, tuple[str, ...]] = {
    _AVAL: ("shape", "dtype", "weak_type", "sharding", "vma", "memory_space"),
    jax.sharding.NamedSharding: ("mesh", "spec", "memory_kind"),
    jax.sharding.PartitionSpec: ("partitions", "unreduced", "reduced"),
    jax.sharding.AbstractMesh: ("axis_names", "axis_sizes", "axis_types", "abstract_device"),
    jax.Device: ("platform", "id", "process_index"),
}
_CONSTANTS = (type(None), type(Ellipsis), type(NotImplemented))


def combine(kind: str, parts: Iterable[bytes]) -> bytes:
    """Return the identity of a value that consists of these parts, in this order."""
    digest = hashlib.blake2b(kind.encode(), digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


class _TooLarge(Exception):
    """An object has more parts than are read for a label."""


class _Reading(threading.local):
    """State of this thread's reading of objects, whose contents may lead anywhere, and back to themselves."""

    def __init__(self) -> None:
        self.under_way: set[int] = set()
        self.parts_left: int | None = None  # None outside of objects: plain values are read whole
        self.brief = False  # reading for a label alone, which needs no array contents


class Identifier:
    """Thread-safe map from values to their identities. It keeps no value alive."""

    def __init__(self) -> None:
        """Begin without any object."""
        self._lock = threading.RLock()  # a signal handler may compile while this thread holds it
        self._objects: OrderedDict[Hashable, list[tuple[weakref.ref[Any], bytes]]] = OrderedDict()
        self._ordinals: OrderedDict[bytes, int] = OrderedDict()
        self._floor = 0  # the first ordinal of a label that is new, or was forgotten
        self._reading = _Reading()
        self._avals: dict[Any, bytes] = {}
        self._context: tuple[object, bytes] = (None, b"")

    def is_held_here(self) -> bool:
        """Return whether this thread has the lock: a signal handler has interrupted it then."""
        return self._lock._is_owned()  # pyright: ignore[reportAttributeAccessIssue]

    def of(self, value: Any) -> bytes:
        """Return the identity of a value."""
        self._count_part()
        if type(value) is _AVAL:
            return self._of_aval(value)
        parts = self._structure(value)
        if parts is not None:
            return combine(*parts)
        if _is_equal_to_itself_alone(value):
            return self._of_this_object(value)
        return self._of_equal_objects(value)

    def of_key(self, context: Hashable, key: tuple[Hashable, ...]) -> bytes:
        """Return the identity of a call's key, whose first part stands for JAX's configuration, ``context``."""
        token, identity = self._context
        if token is not key[0]:
            identity = self.of(context)
            self._context = (key[0], identity)
        return combine("key", [identity, *map(self.of, key[1:])])

    def label(self, value: Any) -> bytes:
        """Return the label that an object shares with others like it: for a function, its name, code and captures."""
        kind = [type(value).__qualname__.encode()]
        with contextlib.suppress(Exception):  # of the caller's own methods, or too large
            return combine("read", [*kind, *self._content(value, brief=True)])
        if isinstance(value, types.FunctionType):
            return combine("code", [*kind, value.__qualname__.encode(), self.of(value.__code__)])
        return combine("unread", kind)

    def _count_part(self) -> None:
        left = self._reading.parts_left
        if left is None:
            return
        if left == 0:
            raise _TooLarge
        self._reading.parts_left = left - 1

    def next_of(self, label: bytes) -> bytes:
        """Return a new identity: that of the next object with this label."""
        with self._lock:
            ordinal = self._ordinals.pop(label, self._floor)
            self._ordinals[label] = ordinal + 1
            if len(self._ordinals) > _LABELS:
                self._floor = max(self._floor, self._ordinals.popitem(last=False)[1])
        return combine("object", [label, b"%d" % ordinal])

    def _structure(self, value: Any) -> tuple[str, Iterable[bytes]] | None:
        """Return the kind and the parts of a value that its contents determine; None for others."""
        kind: Any = type(value)
        equality = kind.__eq__
        if kind in _CONSTANTS:
            return "constant", [kind.__name__.encode()]
        if issubclass(kind, np.generic):
            return self._scalar(value)
        if equality in _NUMBERS:
            return self._number(value)
        if equality in _TEXTS:
            return "text" if isinstance(value, str) else "bytes", [_encode(value)]
        if equality in _SEQUENCES:
            return self._sequence(value)
        if equality is dict.__eq__:
            return "dict", sorted(combine("item", map(self.of, item)) for item in value.items())
        if equality in _SETS:
            return "set", sorted(map(self.of, value))
        if isinstance(value, enum.Enum) and equality is object.__eq__:
            return "member", [self.of(type(value)), self.of(value.name or value.value)]  # a Flag may have no name
        if isinstance(value, np.dtype):
            return "dtype", [value.str.encode(), value.name.encode(), str(value.descr).encode()]
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return self._array(value)
        if isinstance(value, PyTreeDef):
            return "tree", [self._of_tree(value)]
        if isinstance(value, types.CodeType):
            return "code", self._code(value)
        if isinstance(value, types.MethodType):
            return "method", [self.of(value.__func__), self._of_this_object(value.__self__)]
        if isinstance(value, types.BuiltinFunctionType) and value.__self__ is not None:
            return "built-in", [self._of_this_object(value.__self__), value.__qualname__.encode()]
        if isinstance(value, np.ufunc) and getattr(np, value.__name__, None) is value:
            return "ufunc", [value.__name__.encode()]
        if has_generated_equality(kind):
            return "dataclass", map(self.of, [kind, *(getattr(value, name) for name in compared_fields(kind))])
        return self._of_jax(value)

    def _number(self, value: Any) -> tuple[str, Iterable[bytes]]:
        """Return the parts of a number: those of equal numbers are equal, whatever their types."""
        if value != value:  # NaN, which is equal to nothing, but containers compare the same object by identity
            shared = value is math.nan or value is np.nan
            return "nan", [] if shared else [self.next_of(b"nan")]
        if isinstance(value, complex):
            if value.imag:
                return "complex", [float(part).hex().encode() for part in (value.real, value.imag)]
            value = value.real
        if isinstance(value, float) and not value.is_integer():
            return "float", [float(value).hex().encode()]
        return "int", [b"%x" % int(value)]

    def _scalar(self, value: "np.generic[Any]") -> tuple[str, Iterable[bytes]] | None:
        """Return the parts of a NumPy scalar, which is equal to its Python number or text."""
        if value.dtype.kind in "mMV":  # times are numbers of a unit, records have named fields
            is_no_time = value.dtype.kind != "V" and bool(np.isnat(value))
            return "scalar", [self.next_of(b"NaT") if is_no_time else self.of(value.dtype), value.tobytes()]
        item = value.item()
        return None if isinstance(item, np.generic) else self._structure(item)

    def _sequence(self, value: Any) -> tuple[str, Iterable[bytes]]:
        kind = "tuple" if isinstance(value, tuple) else "list"
        if len(value) > _LONG and set(map(type, value)) in ({int}, {str}):
            with contextlib.suppress(ValueError):  # of a number with more digits than Python writes
                return kind, [repr([*value]).encode(errors="surrogatepass")]
        return kind, map(self.of, value)

    def _array(self, value: NDArray[Any]) -> tuple[str, Iterable[bytes]]:
        kind = [str(value.shape).encode(), self.of(value.dtype)]
        if self._reading.brief:
            return "array", kind
        if self._reading.parts_left is not None and value.nbytes > _LARGEST_ARRAY_BYTES:
            raise _TooLarge
        return "array", [*kind, value.tobytes()]

    def _of_tree(self, tree: Any) -> bytes:
        """Return the identity of a tree, however deep: from its leaves up, without recursion."""
        nodes, children_of = [tree], list[range]()
        for node in nodes:  # which become more meanwhile
            children = node.children()
            children_of.append(range(len(nodes), len(nodes) + len(children)))
            nodes += children
        identities = [combine("leaf", [])] * len(nodes)
        for number in reversed(range(len(nodes))):
            kind_and_metadata = nodes[number].node_data()
            if kind_and_metadata is not None:
                below = (identities[child] for child in children_of[number])
                identities[number] = combine("node", [*map(self.of, kind_and_metadata), *below])
        return identities[0]

    def _code(self, code: types.CodeType) -> Iterable[bytes]:
        """Return the parts of code; its lines in the source are left out, so that edits beside it do no harm."""
        return map(self.of, [*(getattr(code, name) for name in _CODE), *code.co_consts])

    def _of_jax(self, value: Any) -> tuple[str, Iterable[bytes]] | None:
        """Return the parts of JAX's descriptions of arrays and shardings, some of which JAX compares as objects."""
        for kind, names in _JAX_TYPES.items():
            if isinstance(value, kind):
                return kind.__name__, map(self.of, [type(value), *(getattr(value, name, None) for name in names)])
        if isinstance(value, jax.sharding.SingleDeviceSharding):
            return "sharding", map(self.of, [*value.device_set, value.memory_kind])
        if isinstance(value, jax.sharding.Mesh):
            return "mesh", map(self.of, [value.axis_names, value.axis_types, value.devices.shape, *value.devices.flat])
        return None

    def _of_aval(self, aval: Any) -> bytes:
        identity = self._avals.get(aval)
        if identity is None:
            identity = combine(*(self._structure(aval) or ("aval", [])))
            if len(self._avals) >= _LABELS:
                self._avals.clear()
            self._avals[aval] = identity
        return identity

    def _of_this_object(self, value: Any) -> bytes:
        """Return the identity of an object that is equal to itself alone."""
        group = id(value)  # not its label, which may change while it lives
        for other, identity in self._alive(group):
            if other is value:
                return identity
        return self._remember(group, value, self.next_of(self.label(value)))

    def _of_equal_objects(self, value: Any) -> bytes:
        """Return the identity of an object with an equality of its own."""
        kind = type(value)
        try:
            group: Hashable = (kind.__module__, kind.__qualname__, hash(value))
        except Exception:  # not hashable: no group of equals to look in but its type's
            group = (kind.__module__, kind.__qualname__)
        for other, identity in self._alive(group):
            if _are_equal(other, value):
                return identity
        try:
            read = combine("value", [self.of(kind), *self._content(value, brief=False)])
        except Exception:  # cannot be pickled, or too large
            return self._remember(group, value, self.next_of(combine("unread", [self.of(kind)])))
        in_use = bool(self._alive(read))  # by an object that is not equal, though of equal content
        return self._remember(group, value, self._remember(read, value, self.next_of(read) if in_use else read))

    def _alive(self, group: Hashable) -> list[tuple[Any, bytes]]:
        with self._lock:
            values = [(reference(), identity) for reference, identity in self._objects.get(group, ())]
        return [(value, identity) for value, identity in values if value is not None]

    def _remember(self, group: Hashable, value: Any, identity: bytes) -> bytes:
        try:
            reference = weakref.ref(value)
        except TypeError:  # it could not be recognized later
            return identity
        with self._lock:
            others = [(other, name) for other, name in self._objects.pop(group, ()) if other() is not None]
            self._objects[group] = [*others, (reference, identity)]
            if len(self._objects) > _LABELS:
                self._objects.popitem(last=False)
        return identity

    def _content(self, value: Any, *, brief: bool) -> list[bytes]:
        """Return the identities of an object's contents.

        Raises:
            Exception: If it cannot be read, or is too large.
        """
        reading = self._reading
        if id(value) in reading.under_way:
            return [b"itself"]
        before = reading.parts_left, reading.brief
        reading.parts_left = _PARTS if reading.parts_left is None else reading.parts_left
        reading.brief = brief
        reading.under_way.add(id(value))
        try:
            return [self.of(part) for part in _read(value)]
        finally:
            reading.under_way.discard(id(value))
            reading.brief = before[1]
            if before[0] is None:
                reading.parts_left = None


def _read(value: Any) -> Iterable[Any]:
    """Return the contents of an object that tell it from others of its type, in every process."""
    if isinstance(value, type | types.BuiltinFunctionType):
        return value.__module__, value.__qualname__
    if isinstance(value, types.ModuleType):
        return (value.__name__,)
    if isinstance(value, types.FunctionType):
        captured = map(_contents, value.__closure__ or ())
        return value.__module__, value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, *captured
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, jax.Array):
        return value.shape, value.dtype
    attributes = getattr(value, "__dict__", {})
    if "__wrapped__" in attributes:
        return (attributes["__wrapped__"],)
    if _is_equal_to_itself_alone(value):
        plain = (str, int, float, complex, bytes, type(None))
        return [(name, attributes[name]) for name in sorted(attributes) if isinstance(attributes[name], plain)]
    reduce = copyreg.dispatch_table.get(type(value))
    if reduce is not None:
        return reduce(value)
    reduced = value.__reduce_ex__(4)  # refused by types in C that hide their contents
    return _attributes(value) if _is_pickled_as_its_attributes(type(value)) else reduced


def _attributes(value: Any) -> Iterable[Any]:
    """Return the attributes of an object, without those that it has computed from others and keeps."""
    attributes = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            attribute = f"_{kind.__name__.lstrip('_')}{name}" if private else name
            if hasattr(value, attribute) and attribute not in ("__dict__", "__weakref__"):
                attributes[attribute] = getattr(value, attribute)
    cached = {name for name in attributes if isinstance(getattr(type(value), name, None), functools.cached_property)}
    return [(name, attributes[name]) for name in sorted(attributes.keys() - cached)]


def _is_pickled_as_its_attributes(kind: type) -> bool:
    names = ("__reduce_ex__", "__reduce__", "__getstate__")
    standard = all(getattr(kind, name) is getattr(object, name) for name in names)
    return standard and not any(hasattr(kind, name) for name in ("__getnewargs__", "__getnewargs_ex__"))


def _is_equal_to_itself_alone(value: Any) -> bool:
    """Return whether a value is equal to no other object; ``==`` of arrays compares their elements."""
    return type(value).__eq__ is object.__eq__ or isinstance(value, type | jax.Array)


def has_generated_equality(kind: type) -> bool:
    """Return whether values of a type are equal if their dataclass fields are."""
    return dataclasses.is_dataclass(kind) and is_generated(kind.__eq__)


def compared_fields(kind: Any) -> list[str]:
    """Return the fields that a dataclass compares its values by."""
    return [field.name for field in dataclasses.fields(kind) if field.compare]


def is_generated(method: Any) -> bool:
    """Return whether a method of a dataclass was generated by ``dataclasses``, from text."""
    return getattr(getattr(method, "__code__", None), "co_filename", "") == "<string>"


def _are_equal(other: Any, value: Any) -> bool:
    if other is value:
        return True
    try:
        return bool(type(other) is type(value) and other == value)
    except Exception:  # of the caller's own comparison
        return False


def _encode(value: Any) -> bytes:
    return str.encode(value, errors="surrogatepass") if isinstance(value, str) else bytes(value)


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None
