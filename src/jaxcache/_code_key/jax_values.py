"""Values of JAX and NumPy, for the walk: arrays by content, and all that describes arrays."""

import hashlib
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.experimental.layout import Format, Layout
from jax.tree_util import PyTreeDef
from numpy.typing import NDArray

from .._jax import interfaces
from .._jax.trees import preorder
from .walk import Walk, handles

_contents: dict[int, tuple["weakref.ref[Any]", bytes]] = {}  # of immutable arrays, by id
_MOST_CONTENTS = 1024
_OF_JITTED = frozenset(vars(jax.jit(lambda: None)))  # attributes that jax.jit itself gives to what it returns
_Primitive = type(jax.lax.add_p)  # jax.extend.core, which names it, takes a while to import


@handles(np.dtype, exact=False)
def _dtype(walk: Walk, value: "np.dtype[Any]") -> None:
    if value.hasobject:
        raise walk.fault("its dtype holds Python objects")
    walk.put("dtype", value.str, value.name, str(value.descr))


@handles(np.generic, exact=False)
def _scalar(walk: Walk, value: "np.generic[Any]") -> None:
    walk.put("scalar")
    walk.value(value.dtype)
    walk.put(value.tobytes())


@handles(np.ndarray)
def _array(walk: Walk, value: NDArray[Any]) -> None:
    if walk.is_known(value):
        return
    walk.put("array", str(value.shape))
    if not value.flags.c_contiguous:
        walk.put("strides", str(value.strides))  # which ravel("K") and flags show
    walk.value(value.dtype)
    walk.put(_digest(value))


def _digest(value: NDArray[Any]) -> bytes:
    content = np.ascontiguousarray(value).reshape(-1).view(np.uint8)  # any dtype, where a buffer has those of C alone
    return hashlib.blake2b(content, digest_size=16).digest()


@handles(np.ufunc)
def _ufunc(walk: Walk, value: np.ufunc) -> None:
    if getattr(np, value.__name__, None) is not value:
        raise walk.fault("it is a ufunc that NumPy does not have under its name")
    walk.put("ufunc", value.__name__, np.__version__)


@handles(Tracer, exact=False)
def _tracer(walk: Walk, value: Any) -> None:
    raise walk.fault("it is an array that is being traced")


@handles(jax.Array, exact=False)
def _jax_array(walk: Walk, value: Any) -> None:
    if walk.is_known(value):
        return
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        walk.put("keys", str(jax.random.key_impl(value)))
        walk.value(jax.random.key_data(value))
        return
    if type(value) not in interfaces.array_types:
        raise walk.fault(f"{type(value).__qualname__} objects have no content that can be read")
    if not value.is_fully_addressable:
        raise walk.fault("parts of the array are on other machines")
    walk.put("jax array")
    walk.value(value.aval)
    walk.value(value.sharding if interfaces.is_committed(value) else None)
    walk.put(_content(value))


def _content(value: Any) -> bytes:
    known = _contents.get(id(value))
    if known is not None and known[0]() is value:
        return known[1]
    content = _digest(np.asarray(value))
    if len(_contents) >= _MOST_CONTENTS:
        _contents.clear()
    _contents[id(value)] = (weakref.ref(value), content)
    return content


@handles(ShapedArray, exact=False)
def _aval(walk: Walk, value: Any) -> None:
    walk.put("aval", str(value.shape), str(value.weak_type))
    if isinstance(value.dtype, np.dtype):
        walk.value(value.dtype)
    else:
        walk.put("extended", repr(value.dtype))
    walk.value(getattr(value, "sharding", None))
    walk.put(repr(getattr(value, "memory_space", None)))
    vma = getattr(value, "vma", None)
    walk.put(repr(sorted(map(str, vma))) if vma else "")


@handles(jax.ShapeDtypeStruct, exact=False)
def _struct(walk: Walk, value: Any) -> None:
    walk.put("struct", str(value.shape), str(value.dtype), str(getattr(value, "weak_type", False)))
    walk.value(value.sharding)


@handles(jax.Device, exact=False)
def _device(walk: Walk, value: Any) -> None:
    walk.put("device", value.platform, value.device_kind, f"{value.id} {value.process_index}")


@handles(jax.sharding.PartitionSpec, exact=False)
def _spec(walk: Walk, value: Any) -> None:
    walk.put("spec", repr(tuple(value)))
    for name in ("unreduced", "reduced"):
        walk.put(repr(sorted(map(str, getattr(value, name, ())))))


@handles(jax.sharding.Mesh, exact=False)
def _mesh(walk: Walk, value: Any) -> None:
    walk.put("mesh", repr(value.axis_names), repr(value.axis_types), str(value.devices.shape))
    walk.all_of("devices", value.devices.flat)


@handles(jax.sharding.AbstractMesh, exact=False)
def _abstract_mesh(walk: Walk, value: Any) -> None:
    walk.put("abstract mesh", repr(value.axis_names), repr(value.axis_sizes), repr(value.axis_types))
    walk.put(repr(getattr(value, "abstract_device", None)))


@handles(jax.sharding.NamedSharding, exact=False)
def _named_sharding(walk: Walk, value: Any) -> None:
    walk.put("named sharding", str(value.memory_kind))
    walk.value(value.mesh)
    walk.value(value.spec)


@handles(jax.sharding.SingleDeviceSharding, exact=False)
def _single_device(walk: Walk, value: Any) -> None:
    walk.put("device sharding", str(value.memory_kind))
    walk.all_of("devices", value.device_set)


@handles(jax.sharding.Sharding, exact=False)
def _other_sharding(walk: Walk, value: Any) -> None:
    raise walk.fault(f"shardings of type {type(value).__qualname__} have no content that can be read")


@handles(Format, exact=False)
def _format(walk: Walk, value: Any) -> None:
    walk.put("format")
    walk.value(value.layout)
    walk.value(value.sharding)


@handles(Layout, exact=False)
def _layout(walk: Walk, value: Any) -> None:
    walk.put("layout", repr(value))


@handles(PyTreeDef)
def _tree(walk: Walk, value: Any) -> None:
    walk.put("tree")
    for kind_and_metadata, arity in preorder(value):
        walk.put(b"%d" % arity)
        if kind_and_metadata is None:
            walk.put("leaf")
        else:
            walk.all_of("node", kind_and_metadata)


@handles(_Primitive, exact=False)
def _primitive(walk: Walk, value: Any) -> None:
    if getattr(jax.lax, f"{value.name}_p", None) is not value:
        raise walk.fault("the rules of a primitive cannot be read")
    walk.put("primitive", value.name)


@handles(interfaces.jitted_type, exact=False)
def _jitted(walk: Walk, value: Any) -> None:
    if walk.is_known(value):
        return
    taken_apart = interfaces.taken_apart(value)
    if taken_apart is None or taken_apart[0] is value:
        raise walk.fault("JAX does not tell what this jitted function was made of")
    function, options = taken_apart
    walk.put("jitted")
    walk.value(function)
    for name in sorted(options):
        walk.named(name, options[name])
    walk.attributes(value, _OF_JITTED)
