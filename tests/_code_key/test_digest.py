"""A digest changes with all that a program depends on, and with nothing else."""

import functools
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache._code_key.digest import CannotBeKeyed, digest_of

from .program import PACKAGE, changed, digest, imported

OTHER = {  # what must give another digest: the changes of the sources
    "a constant of the function": [("app.py", "each * 3", "each * 4")],
    "the type of a constant": [("app.py", "each * 3", "each * 3.0")],
    "the sign of a zero": [("middle.py", "bias = 0.5", "bias = -0.0")],
    "an operator": [("app.py", "x * math.pi", "x - math.pi")],
    "a constant of a library": [("app.py", "math.pi", "math.e")],
    "another function of a library": [("app.py", "jnp.exp(x)", "jnp.expm1(x)")],
    "another import of the same name": [("deep.py", "import jax.numpy as jnp", "import numpy as jnp")],
    "a helper three modules away": [("deep.py", "* x**power +", "* x**power -")],
    "a default": [("deep.py", "power=2", "power=3")],
    "a default that is given by name alone": [("middle.py", "sign=1)", "sign=2)")],
    "an argument of a partial": [("app.py", "sign=-1", "sign=-2")],
    "a global number": [("deep.py", "SCALE = 2.0", "SCALE = 2.5")],
    "a global array": [("deep.py", "np.arange(4.0)", "np.arange(1.0, 5.0)")],
    "the dtype of a global array": [("deep.py", "np.arange(4.0)", "np.arange(4.0, dtype=np.float32)")],
    "the shape of a global array": [("deep.py", "np.arange(4.0)", "np.arange(4.0)[None]")],
    "a global set": [("deep.py", '"alpha", ', "")],
    "a value in a global dict": [("deep.py", '"gain": 3.0', '"gain": 3.5')],
    "a key of a global dict": [("deep.py", '"gain"', '"gains"')],
    "the order of a global dict": [("deep.py", '"gain": 3.0, "kind": "tanh"', '"kind": "tanh", "gain": 3.0')],
    "a closure's value": [("middle.py", "deep.make(3.0)", "deep.make(4.0)")],
    "a closure's code": [("deep.py", "return factor * x", "return factor + x")],
    "a jitted function within": [("deep.py", "return jnp.sin(x)", "return jnp.cos(x)")],
    "the options of a jitted function within": [("deep.py", "@jax.jit\n", "@jax.jit(inline=True)\n")],
    "a decorator's code": [("deep.py", "function(x) + 1.0", "function(x) + 2.0")],
    "no decorator": [("app.py", "@decorate\n", "")],
    "a method of a captured object": [("middle.py", "self.weight * x)", "self.weight - x)")],
    "an attribute of a captured object": [("middle.py", "Derived(1.5)", "Derived(2.5)")],
    "a list in a captured object": [("middle.py", '["a", "b"]', '["a"]')],
    "a property": [("middle.py", "return 2 * self.weight", "return 3 * self.weight")],
    "a static method": [("middle.py", "jnp.tanh(x)", "jnp.sinh(x)")],
    "an attribute of a base class": [("middle.py", "bias = 0.5", "bias = 0.75")],
    "a method of a base class": [("middle.py", "return x + self.bias", "return x - self.bias")],
    "another base class": [
        ("middle.py", "class Derived(Base)", "class Between(Base):\n    bias = 1.0\n\n\nclass Derived(Between)")
    ],
    "a method that overrides one": [
        ("middle.py", "    @property", "    def shift(self, x):\n        return x\n\n    @property")
    ],
    "the field of a dataclass": [("middle.py", "rate: float = 0.1", "rate: float = 0.2")],
    "a member of an enumeration": [("middle.py", "kind: Kind = Kind.PLAIN", "kind: Kind = Kind.DOUBLE")],
    "the value of a member": [("middle.py", "PLAIN = 1", "PLAIN = 3")],
    "the derivative of a custom rule": [("app.py", "tangents[0] * special", "2 * tangents[0] * special")],
    "the body of a loop": [("app.py", "return carry + x, carry", "return carry - x, carry")],
    "the number of steps of a loop": [("app.py", "jnp.ones(3)", "jnp.ones(4)")],
    "a condition at tracing": [("app.py", "is middle.Kind.DOUBLE", "is not middle.Kind.DOUBLE")],
    "the order of two statements": [
        ("app.py", "lax.scan(body, y, jnp.ones(3))[0] + jitted(x)", "jitted(x) + lax.scan(body, y, jnp.ones(3))[0]")
    ],
    "an assertion": [("app.py", "    y = scaled(x)", "    assert x.ndim == 1\n    y = scaled(x)")],
    "a function of the same name from elsewhere": [
        ("app.py", "NAMES, decorate, jitted", "NAMES, decorate\nfrom .deep import helper as jitted")
    ],
}  # fmt: skip
EQUAL = {
    "a comment": [("app.py", "    y = scaled(x)", "    # why\n    y = scaled(x)")],
    "a comment three modules away": [("deep.py", "SCALE = 2.0", "SCALE = 2.0  # of all")],
    "a docstring": [("app.py", '"""Compute."""', '"""Compute something else."""')],
    "no docstring": [("app.py", '    """Compute."""\n', "")],
    "a docstring of a helper": [("deep.py", '"""Raise and scale."""', '"""Scale."""')],
    "a docstring more": [("middle.py", "    def shift(self, x):", '    def shift(self, x):\n        """Shift."""')],
    "a docstring of a class": [("middle.py", "class Base:", 'class Base:\n    """Base."""\n')],
    "moved lines": [("app.py", "def program(x):", "\n\n\n\ndef program(x):")],
    "a statement over two lines": [("app.py", "y = y + middle.TRIPLE(x) +", "y = (y + middle.TRIPLE(x)) +")],
    "an unused function": [("deep.py", "def decorate", "def unused(x):\n    return x\n\n\ndef decorate")],
    "an unused global": [("deep.py", "SCALE = 2.0", "SCALE = 2.0\nUNUSED = 7")],
    "an unused import": [("deep.py", "import jax\n", "import jax\nimport math\n")],
    "a type annotation": [("deep.py", "def helper(x, power=2):", "def helper(x, power: int = 2) -> object:")],
    "the order of a set": [("deep.py", '"alpha", "beta", "gamma"', '"gamma", "alpha", "beta"')],
    "another way to write a number": [("deep.py", "SCALE = 2.0", "SCALE = 1.0 + 1.0")],
    "the order of two functions": [
        ("app.py", "def body(carry, x):\n    return carry + x, carry\n", ""),
        ("app.py", "def program(x):", "def body(carry, x):\n    return carry + x, carry\n\n\ndef program(x):"),
    ],
    "nothing but the folder": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    with imported(tmp_path_factory.mktemp("base")) as app:
        return digest(app.program)


@pytest.mark.parametrize("change", OTHER)
def test_the_digest_is_another_after_a_change_of(change, base, tmp_path):
    with imported(tmp_path, changed(OTHER[change])) as app:
        assert digest(app.program) != base


@pytest.mark.parametrize("change", EQUAL)
def test_the_digest_is_the_same_after_a_change_of(change, base, tmp_path):
    with imported(tmp_path / "another" / "folder", changed(EQUAL[change])) as app:
        assert digest(app.program) == base


PARTS = {  # statements at the top of the module with a gap, the body of the function, two fillings of the gap
    "a class in a union": (
        "import typing\nclass A:\n    n = {}\nclass B:\n    n = 2.0\nEACH = typing.Union[A, B]",
        "return x * typing.get_args(EACH)[0].n", "2.0", "3.0"),
    "a class that bounds a type variable": (
        "import typing\nclass A:\n    n = {}\nT = typing.TypeVar('T', bound=A)", "return x * T.__bound__.n",
        "2.0", "3.0"),
    "a method of a kind of partial": (
        "import functools\nclass P(functools.partial):\n    def __call__(self, *x):\n"
        "        return super().__call__(*x) * {}\nG = P(abs)", "return G(x)", "2.0", "3.0"),
    "a slot of a kind of partial": (
        "import functools\nclass P(functools.partial):\n    __slots__ = ('n',)\nG = P(abs)\nG.n = {}", "return x * G.n",
        "2.0", "3.0"),
    "a method of a kind of fraction": (
        "import fractions\nclass F(fractions.Fraction):\n    def n(self):\n        return {}\nQ = F(1, 1)",
        "return x * Q.n()", "2.0", "3.0"),
    "an attribute of a jitted function": ("import jax\nG = jax.jit(abs)\nG.n = {}", "return x * G.n", "2.0", "3.0"),
    "an attribute of a cached function": (
        "import jaxcache._cache.code_keyed\nG = jaxcache.JitCache().jit(abs)\nG.n = {}", "return x * G.n",
        "2.0", "3.0"),
    "an attribute of a function that remembers": (
        "import functools\n@functools.cache\ndef g(n):\n    return n\ng.n = {}", "return x * g.n", "2.0", "3.0"),
    "an attribute of a member": (
        "import enum\nclass E(enum.Enum):\n    A = 1\nE.A.n = {}", "return x * E.A.n", "2.0", "3.0"),
    "the attributes that a pattern takes": (
        "class P:\n    __match_args__ = {}\n    a, b = 2.0, 3.0\nEACH = P()",
        "match EACH:\n        case P(n):\n            return x * n", "('a', 'b')", "('b', 'a')"),
    "the type of a field": (
        "import dataclasses\n@dataclasses.dataclass\nclass H:\n    a: {} = 1\nEACH = H()",
        "return x * (dataclasses.fields(EACH)[0].type is int)", "int", "float"),
    "a class that is registered": (
        "import abc\nclass B(abc.ABC):\n    pass\nclass C:\n    pass\n{}\nEACH = C()", "return x * isinstance(EACH, B)",
        "B.register(C)", ""),
    "a member of a protocol": (
        "import typing\n@typing.runtime_checkable\nclass B(typing.Protocol):\n    {}: float\nclass C:\n    a = 1.0\n"
        "EACH = C()", "return x * isinstance(EACH, B)", "a", "b"),
    "an argument of a generic base": (
        "import typing\nT = typing.TypeVar('T')\nclass B(typing.Generic[T]):\n    pass\n"
        "class C(B[typing.Literal[{}]]):\n    pass", "return x * len(typing.get_args(C.__orig_bases__[0]))", "2", "3"),
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_the_digest_counts(part, tmp_path):
    top, body, *fillings = PARTS[part]
    digests = []
    for number, filling in enumerate((*fillings, fillings[0])):
        files = {"__init__.py": "", "app.py": f"{top.format(filling)}\n\n\ndef program(x):\n    {body}\n"}
        with imported(tmp_path / str(number), files) as app:
            digests.append(digest(app.program))
    assert digests[0] == digests[2] != digests[1]


def replace_global(app, deep, middle):
    deep.SCALE = 9.0


def replace_function(app, deep, middle):
    deep.helper = lambda x: x


def replace_method(app, deep, middle):
    middle.Base.shift = lambda self, x: x


def change_captured_object(app, deep, middle):
    middle.MODEL.options.append("c")


def change_array(app, deep, middle):
    deep.TABLE[0] = 5.0


def add_attribute(app, deep, middle):
    app.program.order = 3


@pytest.mark.parametrize(
    "change",
    [replace_global, replace_function, replace_method, change_captured_object, change_array, add_attribute],
)
def test_the_digest_is_another_after_a_change_at_run_time(change, base, tmp_path):
    with imported(tmp_path) as app:
        assert digest(app.program) == base
        change(app, sys.modules[f"{PACKAGE}.deep"], sys.modules[f"{PACKAGE}.middle"])
        assert digest(app.program) != base


REFUSED = {  # a statement at the top of the module, the body of the function, what the message says
    "an environment variable": ("import os", "return x * float(os.environ['HOME'])", "environ"),
    "getenv": ("from os import getenv", "return x * len(getenv('HOME'))", "getenv"),
    "a file": ("", "return x * len(open('data').read())", "read"),
    "whether a file is there": ("from pathlib import Path", "return x * Path('a').exists()", "exists"),
    "the size of a file": ("from pathlib import Path", "return x * Path('a').stat().st_size", "stat"),
    "a file by a path": ("from pathlib import Path", "return x * len(Path('a').read_text())", "read_text"),
    "an array in a file": ("import numpy as np", "return x * np.load('data.npy')", "numpy.load"),
    "the clock": ("import time", "return x * time.time()", "time.time"),
    "the clock by name": ("from time import monotonic as now", "return x * now()", "monotonic"),
    "the date": ("import datetime", "return x * datetime.datetime.now().year", "now"),
    "random numbers": ("import random", "return x * random.random()", "random"),
    "NumPy's random numbers": ("import numpy as np", "return x * np.random.rand()", "numpy.random"),
    "a generator of random numbers": (
        "import numpy as np\nRNG = np.random.default_rng(1)",
        "return x * RNG.normal()",
        "Generator",
    ),
    "a global that it writes": ("COUNT = 0", "global COUNT\n    COUNT += 1\n    return x", "writes COUNT"),
    "a global object that it writes": (
        "class State:\n    pass",
        "State.count = 1\n    return x",
        "writes State.count",
    ),
    "an open file": ("import io\nFILE = io.StringIO('a')", "return x * len(FILE.getvalue())", "StringIO"),
    "a generator": ("EACH = (n for n in range(3))", "return x * next(EACH)", "generator"),
    "a lock": ("import threading\nLOCK = threading.Lock()", "with LOCK:\n        return x", "lock"),
    "a module as a value": ("import sys\nHERE = sys.modules[__name__]", "return x * len(vars(HERE))", "module"),
    "a lookup in a module": ("import sys\nHERE = sys.modules[__name__]", "return x * getattr(HERE, 'N')", "module"),
    "exec": ("", "exec('y = 2')\n    return x", "exec may differ"),
    "eval": ("", "return eval('x + 1')", "eval may differ"),
    "an address": ("", "return x * id(x)", "id may differ"),
    "a hash": ("", "return x * hash('a')", "hash may differ"),
    "a function from exec": ("SPACE = {}\nexec('def g(x): return x', SPACE)\ng = SPACE['g']", "return g(x)", "exec"),
    "a function from text": ("g = eval('lambda x: x')", "return g(x)", "its source is <string>"),
    "an import that is not loaded": ("", "import jaxcache_has_no_such\n    return x", "imports jaxcache_has_no_such"),
    "a weak reference": ("import weakref\nREF = weakref.ref(print)", "return x * bool(REF())", "weakref"),
    "a context variable": (
        "import contextvars\nVAR = contextvars.ContextVar('v', default=1)",
        "return x * VAR.get()",
        "ContextVar",
    ),
    "results remembered before": (
        "import functools\nN = 1\n\n\n@functools.cache\ndef table(n):\n    return N\n\n\ntable(1)",
        "return x * table(1)",
        "remembers results",
    ),
    "what a class knows of its subclasses": ("class A:\n    pass", "return x * len(A.__subclasses__())", "subclasses"),
    "a primitive of the users": (
        "from jax.extend.core import Primitive\nMINE = Primitive('mine')",
        "return MINE.bind(x)",
        "rules of a primitive",
    ),
    "an iterator": ("import itertools\nCOUNT = itertools.count()", "return x * next(COUNT)", "count"),
    "what is left of an iterator": ("import itertools\nLEFT = itertools.repeat(2)", "return x * next(LEFT)", "repeat"),
    "an annotation": (
        "import inspect\ndef unit(x: 2.0):\n    pass",
        "return x * inspect.signature(unit).parameters['x'].annotation",
        "inspect.signature may differ",
    ),
    "a hint": ("import typing\ndef g(x: 2):\n    pass", "return x * len(typing.get_type_hints(g))", "get_type_hints"),
    "an array of objects": ("import numpy as np\nA = np.array([print], object)", "return x * len(A)", "objects"),
    "C code of unknown origin": ("import ctypes\nC = ctypes.CDLL(None).abs", "return x * C(1)", "ctypes|FuncPtr"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_has_no_digest_if_it_depends_on(name, tmp_path):
    top, body, words = REFUSED[name]
    files = {"__init__.py": "", "app.py": f"{top}\n\n\ndef program(x):\n    {body}\n"}
    with imported(tmp_path, files) as app, pytest.raises(CannotBeKeyed, match=words) as error:
        digest(app.program)
    assert str(error.value).startswith("program")


def mine(x, *_, **__):
    return x


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (jnp, "tanh", mine),
        (jax.lax, "while_loop", mine),
        (jax.nn, "logistic_of_nobody", mine),
        (jnp, "cosh", jax.jit(mine)),
        (jnp, "cosh", functools.partial(mine, 1)),
        (jax.custom_jvp, "defjvps", mine),
        (np, "einsum", mine),
    ],
    ids=str,
)
def test_a_function_of_the_users_in_a_library_counts_wherever_it_is_called(owner, name, value, monkeypatch):
    def program(x):
        return jax.nn.softmax(x) + np.float32(1)

    before = digest(program)
    monkeypatch.setattr(owner, name, value, raising=False)
    assert digest(program) != before
    monkeypatch.undo()
    assert digest(program) == before


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4", "datetime64[D]", "complex64", "bool"])
def test_a_captured_array_of_any_dtype_counts_by_its_content(dtype):
    def digest_of_array(*values):
        array = np.array(values).astype(jnp.dtype(dtype))
        return digest(lambda x: x + array.size)

    assert digest_of_array(0, 1) == digest_of_array(0, 1) != digest_of_array(1, 0)
    assert digest_of_array() != digest_of_array(0)


@pytest.mark.parametrize("copy", [np.asfortranarray, lambda table: np.repeat(table, 2, 1)[:, ::2]])
def test_the_layout_of_a_captured_array_counts(copy):
    def digest_of_array(table):
        return digest(lambda x: x * table.ravel("K"))

    table = np.arange(4.0).reshape(2, 2)
    assert digest_of_array(table) == digest_of_array(table.copy()) != digest_of_array(copy(table))


def with_attributes(made, **attributes):
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda **values: type("Weights", (), values),
        lambda **values: types.SimpleNamespace(**values),
        lambda **values: with_attributes(lambda x: x, **values),
        lambda **values: with_attributes(type("Point", (), {"__slots__": tuple(values)})(), **values),
    ],
    ids=["class", "instance", "function", "slots"],
)
def test_the_order_of_attributes_counts(make):
    def digest_of_captured(**values):
        captured = make(**values)
        return digest(lambda x: x * captured.a)

    assert digest_of_captured(a=1.0, b=5.0) == digest_of_captured(a=1.0, b=5.0) != digest_of_captured(b=5.0, a=1.0)


def library(folder, version="1.0", body="return x + 1", record=None):
    """Install a library of one module, as pip would."""
    site = folder / "site-packages"
    info = site / f"shop_library-{version}.dist-info"
    info.mkdir(parents=True)
    (site / "shop_library.py").write_text(f"def shift(x):\n    {body}\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: shop-library\nVersion: {version}\n")
    (info / "RECORD").write_text(record or f"shop_library.py,sha256=abc,10\n{info.name}/RECORD,,\n")
    os.utime(site / "shop_library.py", (1, 1))
    return site


def digest_with_library(site, folder):
    sys.path.insert(0, str(site))
    try:
        files = {
            "__init__.py": "",
            "app.py": "from shop_library import shift\n\n\ndef program(x):\n    return shift(x)\n",
        }
        with imported(folder, files) as app:
            return digest(app.program)
    finally:
        sys.path.remove(str(site))
        sys.modules.pop("shop_library", None)


def test_a_library_counts_by_its_version_and_the_hashes_of_its_files(tmp_path):
    def digest_of_library(number, **options):
        return digest_with_library(library(tmp_path / f"l{number}", **options), tmp_path / f"p{number}")

    first = digest_of_library(1)
    assert digest_of_library(2) == first  # in another folder
    assert digest_of_library(3, version="1.1") != first
    assert digest_of_library(4, record="shop_library.py,sha256=abd,10\n") != first


def test_a_file_of_a_library_that_was_edited_counts(tmp_path):
    site = library(tmp_path / "l")
    first = digest_with_library(site, tmp_path / "p1")
    edited = shutil.copytree(site, tmp_path / "edited" / "site-packages")
    (edited / "shop_library.py").write_text("def shift(x):\n    return x + 2\n")
    os.utime(edited / "shop_library.py", (4e9, 4e9))
    assert digest_with_library(edited, tmp_path / "p2") != first


def test_a_library_that_a_library_needs_counts(tmp_path, monkeypatch):
    """By its version and by the variables that it may read, where the function reaches it by the first alone."""

    def digest_of_libraries(number, version="1.0", variable=None):
        site = library(tmp_path / f"l{number}", body="import other_library\n    return other_library.shift(x)")
        with (site / "shop_library-1.0.dist-info" / "METADATA").open("a") as metadata:
            metadata.write("Requires-Dist: other.Library>=1.0\nRequires-Dist: nowhere; extra == 'all'\n\nA text.\n")
        info = site / f"other_library-{version}.dist-info"
        info.mkdir()
        (site / "other_library.py").write_text("def shift(x):\n    return x + 1\n")
        (info / "RECORD").write_text("other_library.py,sha256=abc,10\n")
        if variable is not None:
            monkeypatch.setenv("OTHER_LIBRARY_MODE", variable)
        return digest_with_library(site, tmp_path / f"p{number}")

    first = digest_of_libraries(1)
    assert digest_of_libraries(2) == first
    assert digest_of_libraries(3, version="1.1") != first
    assert digest_of_libraries(4, variable="fast") != first


def test_the_digest_is_the_same_in_every_process_with_and_without_compiled_files(base, tmp_path):
    with imported(tmp_path):
        pass
    shutil.rmtree(tmp_path / PACKAGE / "__pycache__", ignore_errors=True)
    script = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        f"from {PACKAGE} import app\n"
        "from tests._code_key.program import digest\n"
        "print(digest(app.program).hex())"
    )
    root = str(Path(__file__).parents[2])
    for seed, options in (("1", []), ("2", ["-X", "pycache_prefix=" + str(tmp_path / "c")]), ("random", ["-B"])):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, *options, "-c", script, str(tmp_path), root]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=120)
        assert done.stdout.strip() == base.hex()


def test_objects_that_lead_back_to_themselves_have_a_digest():
    def program(x):
        return x * len(ring)

    ring = [1]
    ring.append(ring)
    first = digest(program)
    assert digest(program) == first
    ring[0] = 2
    assert digest(program) != first


def test_what_an_object_has_computed_and_keeps_counts_but_not_as_a_change(tmp_path):
    class Model:
        def __init__(self, weight):
            self.weight = weight

        @functools.cached_property
        def doubled(self):
            return 2 * self.weight

    model = Model(1.0)

    def program(x):
        return x * model.doubled

    before = digest_of([("program", program)])
    assert model.doubled == 2.0
    after = digest_of([("program", program)])
    assert after.value != before.value
    assert after.stable == before.stable
    model.weight = 3.0
    assert digest_of([("program", program)]).stable != before.stable


def test_slots_containers_and_named_tuples_count_by_their_content():
    def of(value):
        def program(x):
            return x, value

        return digest(program)

    class Slotted:
        __slots__ = ("__private", "weight")

        def __init__(self, weight, private=0):
            self.weight, self.__private = weight, private

    class Numbers(list):
        pass

    values = [
        Slotted(1), Slotted(2), Slotted(1, 1), Numbers([1]), Numbers([2]), [1], (1,), {1}, frozenset({1}), {1: 1},
        {1: 2}, 1, 1.0, True, "1", b"1", 1j, None, range(3), slice(3), np.float32(1), np.float64(1), np.ones(1),
        jnp.ones(1), jnp.ones(1, jnp.int32), jax.device_put(jnp.ones(1), jax.devices()[0]),
        types.SimpleNamespace(a=1), types.SimpleNamespace(a=2), functools.partial(mine, 1), functools.partial(mine, 2),
        np.dtype("i4"), jnp.float32,
        jax.random.key(0), jax.random.key(1), jax.sharding.PartitionSpec("a"), jax.sharding.PartitionSpec("b"),
    ]  # fmt: skip
    digests = [of(value) for value in values]
    assert len(set(digests)) == len(values)
    assert [of(value) for value in values] == digests


def test_the_fields_that_a_class_is_registered_with_count(tmp_path):
    source = """
import jax
from dataclasses import dataclass


@dataclass
class State:
    a: object
    b: object


jax.tree_util.register_dataclass(State, data_fields=["a"{}], meta_fields=[{}])


def program(x):
    return State(x, 1)
"""
    digests = []
    for number, fields in enumerate([("", '"b"'), (', "b"', ""), ("", '"b"')]):
        files = {"__init__.py": "", "app.py": source.format(*fields)}
        with imported(tmp_path / str(number), files) as app:
            digests.append(digest(app.program))
    assert digests[0] == digests[2] != digests[1]
