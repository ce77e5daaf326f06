"""Walk over all that a function reaches, which gives one digest of its code and of the values that it sees.

The digest is the same in every process in which the program would be traced alike: no address, hash, file name or line
is in it. What has no content that can be read, or may change from run to run, raises :class:`CannotBeKeyed`.

Objects are numbered as they are met, so that the walk ends where they lead back to themselves. Plain values are not:
whether two equal constants are one object depends on how the code was loaded.
"""

import builtins
import hashlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from . import purity
from .bytecode import Import, Load, Reading, read
from .origins import Origin, module_of, origin_of_module, origin_of_package
from .plain import joined, plain

DOCUMENTATION = frozenset({"__doc__", "__annotations__", "__annotate__"})  # attributes that compute nothing
_STEADY = frozenset({"jax", "numpy"})  # packages whose own objects are what their names say
_MOST_PARTS = 1_000_000


class CannotBeKeyed(Exception):
    """A function or value has no digest.

    Attributes:
        name: What has none, as the user's code reaches it: ``f.helper.TABLE``.
        because: Why.
    """

    def __init__(self, name: str, because: str) -> None:
        super().__init__(f"{name} cannot be keyed: {because}")
        self.name = name
        self.because = because


Handler = Callable[["Walk", Any], None]
_HANDLERS: dict[type, Handler] = {}  # by exact type
_KINDS: list[tuple[type, Handler]] = []  # by isinstance, in this order, after those


def handles(*kinds: type, exact: bool = True) -> Callable[[Handler], Handler]:
    """Return a decorator of the function that reads values of these types."""

    def register(handler: Handler) -> Handler:
        for kind in kinds:
            if exact:
                _HANDLERS[kind] = handler
            else:
                _KINDS.append((kind, handler))
        return handler

    return register


class Walk:
    """One walk.

    Attributes:
        files: Files of the user's modules that were reached.
        packages: Top-level names of others' packages that were.
    """

    def __init__(self, name: str) -> None:
        """Begin; ``name`` is what messages call the first value."""
        self.files: set[str] = set()
        self.packages: set[str] = set()
        self._hash = hashlib.blake2b(digest_size=16)
        self._path = [name]
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []  # numbered by id, which must stay theirs
        self._parts = 0
        self._computed: list[bytes] = []
        self._generated = False  # within a class, whose decorator may have made methods from text

    def stable(self) -> bytes:
        """Return the digest of what was read so far, without what objects have computed from it and keep."""
        return self._hash.digest()

    def digest(self) -> bytes:
        """Return the digest of all that was read so far."""
        if not self._computed:
            return self.stable()
        return hashlib.blake2b(joined(self.stable(), self._computed), digest_size=16).digest()

    def put(self, *parts: bytes | str) -> None:
        """Add parts to the digest."""
        self._parts += len(parts)
        if self._parts > _MOST_PARTS:
            raise self.fault("it reaches too much")
        for part in parts:
            content = part.encode(errors="surrogatepass") if isinstance(part, str) else part
            self._hash.update(len(content).to_bytes(8, "little") + content)

    def owned(self, origin: Origin) -> str:
        """Return what stands for code of Python or of a distribution, which is remembered as reached."""
        self.packages.add(origin.package)
        return origin.identity

    def fault(self, because: str) -> CannotBeKeyed:
        """Return the error that says why what is being read has no digest."""
        path = self._path if len(self._path) <= 6 else [self._path[0], "…", *self._path[-4:]]
        return CannotBeKeyed(".".join(path), because)

    def is_known(self, value: object) -> bool:
        """Return whether an object was met before, and add its number if so; number it otherwise."""
        number = self._numbers.get(id(value))
        if number is not None:
            self.put("again", b"%d" % number)
            return True
        self._numbers[id(value)] = len(self._numbers)
        self._kept.append(value)
        return False

    def named(self, name: str, value: object) -> None:
        """Add a value that the user's code reaches by a name."""
        self._path.append(name)
        self.put(name)
        self.value(value)
        self._path.pop()

    def computed(self, name: str, value: object) -> None:
        """Add what an object has computed from its other attributes, and keeps."""
        self._path.append(name)
        self._computed.append(joined(b"%d" % len(self._numbers), [name.encode(errors="replace"), self.apart(value)]))
        self._path.pop()

    def attributes(self, value: object, own: Iterable[str] = ()) -> None:
        """Add what code has put into the dictionary of a function, or of what stands for one and has its ``own``."""
        left_out, held = DOCUMENTATION | {*own}, vars(value)
        for name in held:  # in their order, which vars shows
            if name not in left_out:
                self.named(name, held[name])

    def all_of(self, kind: str, values: Iterable[object]) -> None:
        """Add values in their order."""
        each = list(values)
        self.put(kind, b"%d" % len(each))
        for value in each:
            self.value(value)

    def value(self, value: object) -> None:
        """Add any value.

        Raises:
            CannotBeKeyed: If it has no content that can be read.
        """
        content = plain(value)
        if content is not None:
            self.put(content)
            return
        handler = _HANDLERS.get(type(value))
        if handler is None:
            handler = next((each for kind, each in _KINDS if isinstance(value, kind)), None)
        if handler is None:
            raise self.fault(f"{type(value).__qualname__} objects have no content that can be read")
        handler(self, value)

    def apart(self, value: object) -> bytes:
        """Return the digest of a value by itself: elements of a set have no order to number objects in."""
        other = Walk(".".join(self._path))
        other.files, other.packages = self.files, self.packages
        other.value(value)
        self._computed += other._computed
        self._parts += other._parts
        return other.stable()

    # -- functions

    def function(self, function: types.FunctionType) -> None:
        """Add a function of Python code."""
        if self.is_known(function):
            return
        module = module_of(function)
        origin = None if module is None else origin_of_module(module)
        if origin is not None and module is not None:
            self._function_of(origin, module, function)
            return
        generated, self._generated = self._generated, False
        try:
            if not generated:
                self._check_source(function, module)
            self._function_of_user(function, module)
        finally:
            self._generated = generated

    def _check_source(self, function: types.FunctionType, module: str | None) -> None:
        source = function.__code__.co_filename
        if module is None:
            raise self.fault("it was made by exec, or its module is gone")
        if source.startswith("<"):
            raise self.fault(f"its source is {source}, not a file")

    def _function_of(self, origin: Origin, module: str, function: types.FunctionType) -> None:
        """Add a function of Python or of a distribution, whose code is known by its version."""
        name = function.__qualname__
        fault = purity.fault_of(origin, module, function.__code__.co_qualname)
        if fault is not None:
            raise self.fault(fault)
        self.put("function of", self.owned(origin), module, name)
        if self._is_held(origin, function):
            return
        # Made by a function of theirs, such as a decorator: which one, and over what?
        self.put(read(function.__code__, self._constant).digest)
        self.value(function.__defaults__)
        self.value(function.__kwdefaults__)
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self.named(variable, _contents(cell))

    def _is_held(self, origin: Origin, function: types.FunctionType) -> bool:
        """Return whether a module of the same distribution has a function, or a wrapper, under its own name."""
        named = origin_of_module(function.__module__ or "")
        same = named is not None and (named.kind, named.package) == (origin.kind, origin.package)
        return same and _attribute_at(function.__module__, function.__qualname__) is function

    def _function_of_user(self, function: types.FunctionType, module: str | None) -> None:
        code = function.__code__
        reading = read(code, self._constant)
        if reading.writes is not None:
            raise self.fault(f"it writes {reading.writes} while it is traced")
        fault = purity.fault_of_attribute(reading.attributes)
        if fault is not None:
            raise self.fault(fault)
        if module is not None:
            self._note_file(module)
        self.put("function", reading.digest)
        self.value(function.__defaults__)
        self.value(function.__kwdefaults__)
        self.attributes(function)
        self._loads(function, reading)
        for each in reading.imports:
            self._import(each, function)

    def _constant(self, value: object) -> bytes:
        content = plain(value)
        if content is None:
            raise self.fault(f"its code has a constant of type {type(value).__qualname__}")
        return content

    def _note_file(self, module: str) -> None:
        file = getattr(sys.modules.get(module), "__file__", None)
        if isinstance(file, str):
            self.files.add(file)

    def _loads(self, function: types.FunctionType, reading: Reading) -> None:
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        for load in reading.loads:
            if load.kind == "free":
                self._loaded(load, _contents(cells[load.name]))
            elif load.name in function.__globals__:
                self._loaded(load, function.__globals__[load.name])
            else:
                self._builtin(load.name, function.__builtins__)  # pyright: ignore[reportAttributeAccessIssue]

    def _builtin(self, name: str, namespace: Any) -> None:
        if name not in namespace:
            self.put("no such variable", name)
            return
        value = namespace[name]
        fault = purity.fault_of_builtin(name)
        if fault is not None:
            raise self.fault(fault)
        if getattr(builtins, name, None) is value and isinstance(value, type | types.BuiltinFunctionType):
            self.put("built-in", name)
            return
        self.named(name, value)

    def _loaded(self, load: Load, value: object) -> None:
        """Add the value of a variable; of a module, only what is taken from it."""
        attributes = [*load.attributes]
        self._path.append(load.name)
        self.put("load", load.name)
        depth, holder = 1, None
        while isinstance(value, types.ModuleType) and attributes:
            name = attributes.pop(0)
            holder, value = (value, name), self._attribute(value, name)
            self._path.append(name)
            depth += 1
        if holder is None:
            self.value(value)
        else:
            self._held(*holder, value)
        del self._path[-depth:]

    def _attribute(self, module: types.ModuleType, name: str) -> object:
        """Return an attribute of a module that code takes from it."""
        origin = origin_of_module(module.__name__)
        self.put("attribute", name)
        if origin is None:
            self._note_file(module.__name__)
            if name not in vars(module):
                raise self.fault(f"{module.__name__} has no {name} of its own")
            return vars(module)[name]
        try:
            value = getattr(module, name)
        except AttributeError as error:
            raise self.fault(f"{module.__name__} has no {name}") from error
        is_module = isinstance(value, types.ModuleType)
        fault = purity.fault_of(origin, module.__name__, name, is_module=is_module)
        if fault is not None:
            raise self.fault(fault)
        return value

    def _held(self, module: types.ModuleType, name: str, value: object) -> None:
        """Add a value that a module holds under a name."""
        origin = origin_of_module(module.__name__)
        if origin is None or isinstance(value, types.FunctionType | types.ModuleType | type):
            self.value(value)
            return
        try:
            content = self.apart(value)
        except CannotBeKeyed:
            if origin.package not in _STEADY or not _is_of_a_distribution(value):
                raise
            content = b"by its name"
        self.put("held by", self.owned(origin), module.__name__, name, content)

    def _import(self, statement: Import, function: types.FunctionType) -> None:
        """Add what an import statement within a function brings."""
        name = statement.module
        if statement.level:
            package = function.__globals__.get("__package__") or ""
            try:
                name = importlib.util.resolve_name("." * statement.level + statement.module, package)
            except ImportError as error:
                raise self.fault(f"it imports {statement.module} while it is traced ({error})") from error
        module = sys.modules.get(name)
        if module is None:
            origin = origin_of_package(name)
            if origin is None or purity.fault_of(origin, name, ""):
                raise self.fault(f"it imports {name} while it is traced; import it at the top of the file")
            self.put("import", self.owned(origin), name, *statement.names)
            return
        if not statement.names and origin_of_module(name) is None:
            raise self.fault(f"it imports {name} while it is traced; import it at the top of the file")
        if not statement.names:
            self.named(name, module)
        for attribute in statement.names:
            self._loaded(Load("global", name, (attribute,)), module)


def _is_of_a_distribution(value: object) -> bool:
    """Return whether the type of a value is defined in an installed distribution."""
    origin = origin_of_module(type(value).__module__)
    return origin is not None and origin.kind == "distribution"


def _attribute_at(module: str, qualified_name: str) -> object:
    value: object = sys.modules.get(module)
    for name in qualified_name.split("."):
        value = getattr(value, name, None)
    return value


def _contents(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None
