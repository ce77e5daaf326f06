"""A program of several modules, imported anew for each digest, and what is changed in it."""

import contextlib
import importlib
import sys
from pathlib import Path

from jaxcache._code_key.digest import digest_of

PACKAGE = "shop_of_the_test"
FILES = {
    "__init__.py": "",
    "deep.py": '''
import jax
import jax.numpy as jnp
import numpy as np

SCALE = 2.0
TABLE = np.arange(4.0)
NAMES = frozenset({"alpha", "beta", "gamma"})
CHOICES = {"gain": 3.0, "kind": "tanh"}


def helper(x, power=2):
    """Raise and scale."""
    return SCALE * x**power + TABLE.sum()


@jax.jit
def jitted(x):
    return jnp.sin(x)


def make(factor):
    def inner(x):
        return factor * x

    return inner


def decorate(function):
    def wrapper(x):
        return function(x) + 1.0

    return wrapper
''',
    "middle.py": """
from dataclasses import dataclass
from enum import Enum

import jax.numpy as jnp

from . import deep


class Kind(Enum):
    PLAIN = 1
    DOUBLE = 2


class Base:
    bias = 0.5

    def shift(self, x):
        return x + self.bias


class Derived(Base):
    def __init__(self, weight):
        self.weight = weight
        self.options = ["a", "b"]

    def apply(self, x):
        return self.shift(self.weight * x)

    @property
    def doubled(self):
        return 2 * self.weight

    @staticmethod
    def squash(x):
        return jnp.tanh(x)


@dataclass(frozen=True)
class Settings:
    rate: float = 0.1
    kind: Kind = Kind.PLAIN


MODEL = Derived(1.5)
SETTINGS = Settings()
TRIPLE = deep.make(3.0)


def through(x, *, sign=1):
    for name in deep.CHOICES:
        x = x + len(name)
    return sign * deep.helper(x)
""",
    "app.py": '''
import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from . import middle
from .deep import NAMES, decorate, jitted


@jax.custom_jvp
def special(x):
    return jnp.exp(x)


@special.defjvp
def special_jvp(primals, tangents):
    return special(primals[0]), tangents[0] * special(primals[0])


def body(carry, x):
    return carry + x, carry


scaled = functools.partial(middle.through, sign=-1)


@decorate
def wrapped(x):
    return x * math.pi


def program(x):
    """Compute."""
    y = scaled(x) + middle.MODEL.apply(x) + middle.MODEL.doubled + middle.SETTINGS.rate
    y = lax.scan(body, y, jnp.ones(3))[0] + jitted(x) + wrapped(x) + special(x)
    y = y + middle.TRIPLE(x) + middle.MODEL.squash(x) + len(NAMES)
    if middle.SETTINGS.kind is middle.Kind.DOUBLE:
        y = 2 * y
    return jax.vmap(lambda each: each * 3)(y[None])[0]
''',
}


@contextlib.contextmanager
def imported(folder: Path, files=FILES):
    """Give the program's main module; modules of a former one are gone."""
    package = folder / PACKAGE
    package.mkdir(parents=True)
    for name, text in files.items():
        (package / name).write_text(text)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    forget()
    try:
        yield importlib.import_module(f"{PACKAGE}.app")
    finally:
        sys.path.remove(str(folder))
        forget()


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def changed(changes):
    """Return the program's files with texts replaced; each must be there once."""
    files = dict(FILES)
    for name, old, new in changes:
        assert files[name].count(old) == 1, (name, old)
        files[name] = files[name].replace(old, new)
    return files


def digest(function) -> bytes:
    return digest_of([("program", function)], frozenset({"jax"})).value
