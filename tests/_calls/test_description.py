"""Descriptions of calls name arguments as Python does."""

import functools
import inspect

import jax
import numpy as np
import pytest

from jaxcache._calls.description import parameter_names


def plain(a, b=1):
    return a


def of_all_kinds(a, /, b, *rest, c, d=2, **more):
    return a


def named_alone(*, c):
    return c


@functools.wraps(of_all_kinds)
def wrapped(*args, **kwargs):
    return of_all_kinds(*args, **kwargs)


def of_another_signature(*args):
    return args


of_another_signature.__signature__ = inspect.signature(plain)


class Callable:
    def __call__(self, x, *others):
        return x

    def method(self, y, z):
        return y


FUNCTIONS = {
    "plain": plain,
    "of_all_kinds": of_all_kinds,
    "named_alone": named_alone,
    "wrapped": wrapped,
    "of_another_signature": of_another_signature,
    "lambda": lambda *xs, k: xs,
    "partial": functools.partial(plain, 1),
    "callable": Callable(),
    "method": Callable().method,
    "jitted": jax.jit(of_all_kinds),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_positional_arguments_have_the_names_that_python_binds_them_to(kind):
    function = FUNCTIONS[kind]
    signature, name = inspect.signature(function), parameter_names(function)
    for count in range(5):
        try:
            bound = signature.bind_partial(*range(count)).arguments
        except TypeError:  # it does not take so many
            continue
        names = {}
        for parameter, value in bound.items():
            several = signature.parameters[parameter].kind is inspect.Parameter.VAR_POSITIONAL
            names |= {v: f"{parameter}[{n}]" for n, v in enumerate(value)} if several else {value: parameter}
        assert [name(position) for position in range(count)] == [names[position] for position in range(count)]


def test_what_has_no_signature_has_numbered_arguments():
    assert [parameter_names(np.ufunc)(position) for position in range(2)] == ["args[0]", "args[1]"]
