"""Whole executables as bytes, with what it takes to call them, and calls of such executables without any tracing.

``jax.experimental.serialize_executable`` pickles an executable with the descriptions of its arguments; its ``Compiled``
takes no static arguments and no keywords in other places, and is slower to call. So its pickler is used, and what is
loaded is put behind JAX's own C++ dispatch, as ``fast_dispatch`` does for programs that were traced. Bytes are
unpickled: only those of a directory that is trusted may come here.
"""

import dataclasses
import hashlib
import io
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from jax.tree_util import tree_unflatten

from . import interfaces

try:  # at once: a module of JAX that comes later has all of them looked through again for functions of the user's
    from jax.experimental import serialize_executable
except ImportError:  # programs are traced as ever then
    serialize_executable: Any = None

# Custom calls that XLA itself or LAPACK serves; those of others are registered by code that need not run at a hit.
_SERVED_BY_XLA = frozenset({"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "mhlo.topk", "chlo.top_k"})
_LAPACK = "lapack_"
_CUSTOM_CALL = re.compile(r"custom_call @\"?([\w.$:]+)")


class Unstorable(Exception):
    """A program cannot be kept as a whole; the message says why."""


class WholeProgram(NamedTuple):
    """An executable with what it takes to call it.

    Attributes:
        executable: JAX's ``MeshExecutable``.
        out_tree: Tree of its results.
    """

    executable: Any
    out_tree: Any


def text_and_hash(lowered: Any) -> tuple[str, str]:
    """Return a lowered program's custom calls, joined by commas, and a hash of all that decides what it computes.

    Places in source files are left out of the hash.

    Raises:
        Exception: If this JAX does not show the program.
    """
    module = lowered._lowering._hlo
    text = module.operation.get_asm(enable_debug_info=False, large_elements_limit=16)
    targets = sorted(set(_CUSTOM_CALL.findall(text)))
    digest = hashlib.blake2b(_bytecode(module), digest_size=16)
    digest.update(str(lowered.out_tree).encode())
    digest.update(repr(lowered._lowering.compile_args.get("donated_invars")).encode())
    return ",".join(targets), digest.hexdigest()


def _bytecode(module: Any) -> bytes:
    """Return a module as bytes without the places in source files."""
    import jax._src.lib.mlir as mlir

    content = io.BytesIO()
    with module.context:
        clone: Any = module.operation.clone()
        passes = getattr(mlir, "passmanager").PassManager  # noqa: B009  # no name that it exports
        passes.parse("builtin.module(strip-debuginfo)").run(clone.operation)
        clone.operation.write_bytecode(file=content)
    return content.getvalue()


def dump(compiled: Any, custom_calls: str, serialized: bytes | None = None) -> bytes:
    """Return a compiled program as bytes.

    Args:
        compiled: JAX's ``Compiled``.
        custom_calls: Of :func:`text_and_hash`.
        serialized: The executable as XLA has serialized it before; None to have that done.

    Raises:
        Unstorable: If it could not be called in another process.
        Exception: If this JAX or the backend does not allow it.
    """
    unloaded = compiled._executable._unloaded_executable
    call = compiled._executable.unsafe_call
    if unloaded.host_callbacks or unloaded.keepalive or call.has_host_callbacks:
        raise Unstorable("it calls back into Python")
    if unloaded.ordered_effects or unloaded.unordered_effects:
        raise Unstorable("it has side effects")
    if unloaded.mut is not None:
        raise Unstorable("it changes references")
    if unloaded.pgle_profiler is not None:
        raise Unstorable("JAX profiles it")
    if compiled._params.const_args:
        raise Unstorable("it takes captured arrays as arguments")
    unknown = [name for name in custom_calls.split(",") if name and not _is_served(name)]
    if unknown:
        raise Unstorable(f"it calls {', '.join(unknown)}, which other code has to register")
    content = io.BytesIO()
    parts = (dataclasses.replace(unloaded, all_args_info=None), compiled.out_tree, custom_calls)
    try:
        _pickler(content, unloaded.device_list, serialized).dump(parts)
        is_the_same = _is_the_same(parts, content.getvalue())
    except Exception as error:
        raise Unstorable(f"it cannot be pickled ({type(error).__name__}: {error})") from error
    if not is_the_same:
        raise Unstorable("what describes its results does not survive pickling")
    return content.getvalue()


def _pickler(file: io.BytesIO, devices: Iterable[Any], serialized: bytes | None) -> Any:
    """Return a pickler to ``file`` that writes what lives in this process alone, such as devices, by name.

    Args:
        file: Where the pickle goes.
        devices: Those of the executable.
        serialized: The executable, if it has been serialized before.
    """
    lone = _lone_objects()

    class Pickler(serialize_executable._JaxPjrtPickler):
        def persistent_id(self, obj: Any) -> Any:
            for name, value in lone.items():
                if obj is value:
                    return "lone", name
            if type(obj).__name__ not in ("LoadedExecutable", "Executable"):
                return super().persistent_id(obj)
            named: Any = ("exec", serialized) if serialized else super().persistent_id(obj)
            return (*named, [device.id for device in devices])

    return Pickler(file)


def _unpickle(content: bytes, *, executable: bool = True, imports: bool = True) -> tuple[Any, Any, str]:
    """Return the parts of :func:`dump`; without ``executable``, None is in its place."""
    lone, devices = _lone_objects(), jax.devices()
    client = devices[0].client

    class Unpickler(serialize_executable._JaxPjrtUnpickler):
        def find_class(self, module_name: str, global_name: str, /) -> Any:
            if not imports and not _is_imported(module_name):
                raise ImportError(f"{module_name} is not imported yet")
            return super().find_class(module_name, global_name)

        def persistent_load(self, pid: Any) -> Any:
            if pid[0] == "lone":
                return lone[pid[1]]
            if pid[0] != "exec":
                return super().persistent_load(pid)
            return _deserialize(client, pid[1], [by_id[number] for number in pid[2]]) if executable else None

    by_id = {device.id: device for device in devices}
    return Unpickler(io.BytesIO(content), client, devices).load()


def _is_imported(module: str) -> bool:
    """Return whether a module was imported to its end, or is JAX's own, which may be at any time."""
    if module.partition(".")[0] in ("jax", "jaxlib", "numpy", "builtins"):
        return True
    imported = sys.modules.get(module)
    return imported is not None and not getattr(imported.__spec__, "_initializing", False)


def _deserialize(client: Any, serialized: bytes, devices: list[Any]) -> Any:
    import jax._src.lib as lib

    device_list = getattr(lib, "xla_client").DeviceList(tuple(devices))  # noqa: B009  # no name that it exports
    return client.deserialize_executable(serialized, executable_devices=device_list)


def _lone_objects() -> dict[str, Any]:
    """Return the objects that JAX compares by identity and that pickle would copy, by name."""
    from jax._src import layout

    automatic = getattr(layout, "AutoLayout", None)
    return {} if automatic is None or isinstance(automatic, type) else {"AutoLayout": automatic}


def _is_the_same(parts: tuple[Any, Any, str], content: bytes) -> bool:
    """Return whether what describes a program's arguments and results is equal to itself after pickling."""
    unloaded, out_tree, _ = parts
    again, tree_again, _ = _unpickle(content, executable=False)
    names = ("input_avals", "output_avals", "input_shardings", "output_shardings", "kept_var_idx", "committed")
    return tree_again == out_tree and all(getattr(again, name) == getattr(unloaded, name) for name in names)


def _is_served(name: str) -> bool:
    return name in _SERVED_BY_XLA or name.startswith(_LAPACK)


def load(content: bytes, *, imports: bool = True) -> WholeProgram:
    """Return the program of :func:`dump`.

    Args:
        content: The bytes.
        imports: Whether modules may be imported for it that the process has not imported yet.

    Raises:
        Exception: If it cannot be loaded here.
    """
    unloaded, out_tree, custom_calls = _unpickle(content, imports=imports)
    if _LAPACK in custom_calls:
        import jax._src.lib as lib

        getattr(lib, "lapack")._lapack.initialize()  # noqa: B009  # else its functions are null, and the process dies
    return WholeProgram(unloaded.load(), out_tree)


def caller(
    program: WholeProgram, flatten: Callable[[tuple[Any, ...], dict[str, Any]], list[Any]]
) -> Callable[..., tuple[Any, Any, bool]]:
    """Return a function that calls a program as ``jax.jit`` does when C++ asks it.

    Args:
        program: The program.
        flatten: Returns the leaves of a call's arguments without static ones, in JAX's order.

    Returns:
        A function that returns the result, the data of JAX's fast path or None, and that the call need not be
        forgotten.
    """
    executable, out_tree = program

    def call(*args: Any, **kwargs: Any) -> tuple[Any, Any, bool]:
        leaves = flatten(args, kwargs)
        results = executable.unsafe_call(*leaves)
        return tree_unflatten(out_tree, results), _fast_path(program, results, len(leaves)), False

    return call


def _fast_path(program: WholeProgram, results: list[Any], leaves: int) -> Any:
    """Return the data with which C++ calls the program alone, as JAX makes them of a program that it has traced."""
    try:
        from jax._src import core, dtypes, sharding_impls
        from jax._src.interpreters import pxla

        executable, out_tree = program
        arrays, dispatch_tree = pxla.reflatten_outputs_for_dispatch(out_tree, results)
        if not all(type(array) in interfaces.array_types for array in arrays):
            return None

        def physical(aval: Any, sharding: Any) -> Any:
            extended = aval is not core.abstract_token and dtypes.issubdtype(aval.dtype, dtypes.extended)
            return sharding_impls.physical_sharding(aval, sharding) if extended else sharding

        return pxla.MeshExecutableFastpathData(
            executable.xla_executable,
            dispatch_tree,
            list(map(physical, executable.in_avals, executable._in_shardings)),
            list(map(physical, executable.out_avals, executable._out_shardings)),
            [array.aval for array in arrays],
            [interfaces.is_committed(array) for array in arrays],
            [number in executable._kept_var_idx for number in range(leaves)],
            executable._dispatch_in_layouts,
            (),
        )
    except Exception:  # a JAX that calls programs otherwise: each call goes through Python
        return None
