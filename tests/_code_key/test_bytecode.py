"""Reading of bytecode, with Python's own disassembler as the oracle."""

import dis
import inspect
import json
import textwrap
import types

import jax
import pytest

from jaxcache._code_key import bytecode
from jaxcache._code_key.plain import plain


def codes_of(module):
    pending = [
        inspect.unwrap(value).__code__ for value in vars(module).values() if isinstance(value, types.FunctionType)
    ]
    while pending:
        code = pending.pop()
        yield code
        pending += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


@pytest.mark.parametrize(
    "module", [textwrap, inspect, json.decoder, jax.lax, jax.numpy.linalg], ids=lambda m: m.__name__
)
def test_instructions_and_their_names_are_those_that_python_disassembles(module):
    for code in codes_of(module):
        shown = [each for each in dis.get_instructions(code) if each.opname not in ("EXTENDED_ARG", "CACHE")]
        assert list(bytecode.instructions(code)) == [(each.opcode, each.arg or 0) for each in shown]
        for each in shown:
            if each.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_ATTR", "LOAD_METHOD", "STORE_GLOBAL", "IMPORT_NAME"):
                name = code.co_names[bytecode.name_index(each.opname, each.arg)]
                assert name == str(each.argval)


def reading(function):
    return bytecode.read(function.__code__, lambda constant: plain(constant) or b"")


def test_names_come_with_the_attributes_that_are_taken_from_them():
    outer = jax

    def function(x):
        def inner(y):
            return outer.numpy.sin(y) + jax.lax.scan(y) + x

        from json import dumps

        return inner, dumps, [jax.nn for _ in x]

    read = reading(function)
    assert ("free", "outer", ("numpy", "sin")) in read.loads
    assert ("global", "jax", ("lax", "scan")) in read.loads
    assert ("global", "jax", ("nn",)) in read.loads
    assert read.imports == (("json", 0, ("dumps",)),)
    assert read.writes is None


def test_writes_outside_of_the_function_are_found():
    kept = 0

    def captured():
        nonlocal kept
        kept += 1

    def attribute():
        jax.config.mine = 1

    def local():
        mine = {}
        mine["a"] = 1

        def within():
            nonlocal mine
            mine = {}

        return within

    assert reading(captured).writes == "kept"
    assert reading(attribute).writes == "jax.config.mine"
    assert reading(local).writes is None
