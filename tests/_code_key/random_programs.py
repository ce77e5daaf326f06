"""Random programs of two modules, in which the parts of a function come from everywhere, and random changes of them.

They compute with whole numbers alone, so that what a program computes is seen without JAX.
"""

import ast
import copy

HEADER = "import functools\nimport math\nimport operator\nfrom collections import namedtuple\nfrom dataclasses import dataclass, field\nfrom enum import Enum\n"  # noqa: E501

PARTS = {
    "default": "def {n}(x, k={a}):\n    return x * k + {b}",
    "default by name": "def {n}(x, *, k={a}):\n    return x - k * {b}",
    "global": "G_{n} = {a}\ndef {n}(x):\n    return x + G_{n} * {b}",
    "closure": "def make_{n}(k):\n    def inner(x):\n        return x * k + {b}\n    return inner\n{n} = make_{n}({a})",
    "closure of a list": (
        "def make_{n}(*ks):\n    held = [k + 1 for k in ks]\n    return lambda x: x * held[0] + len(held)\n"
        "{n} = make_{n}({a}, {b})"
    ),
    "nested function": "def {n}(x):\n    def inner(y, k={a}):\n        return y + k\n    return inner(x) * {b}",
    "lambda": "{n} = lambda x, k={a}: x * k - {b}",
    "class attribute": (
        "class C_{n}:\n    gain = {a}\n    def __call__(self, x):\n        return x * self.gain + {b}\n{n} = C_{n}()"
    ),
    "base class": (
        "class B_{n}:\n    gain = {a}\n    def go(self, x):\n        return x + self.gain\n"
        "class D_{n}(B_{n}):\n    shift = {b}\n    def go(self, x):\n        return super().go(x) * self.shift\n"
        "{n} = D_{n}().go"
    ),
    "attribute": (
        "class C_{n}:\n    def __init__(self, k):\n        self.k, self.more = k, [k, {b}]\n"
        "    @property\n    def total(self):\n        return sum(self.more)\n"
        "    @staticmethod\n    def shift(x):\n        return x + {b}\n"
        "    @classmethod\n    def named(cls, x):\n        return x + len(cls.__name__)\n"
        "C_{n}_made = C_{n}({a})\ndef {n}(x):\n    return C_{n}_made.shift(x) * C_{n}_made.total + C_{n}.named(x)"
    ),
    "attribute by name": (
        "class C_{n}:\n    low, high = {a}, {b}\nC_{n}_made = C_{n}()\n"
        "def {n}(x):\n    return x * getattr(C_{n}_made, 'low') + operator.attrgetter('high')(C_{n})"
    ),
    "dataclass": (
        "@dataclass(frozen=True)\nclass S_{n}:\n    rate: int = {a}\n    kind: str = 'k' * {b}\n"
        "    steps: tuple = field(default_factory=lambda: (1, {b}))\n"
        "S_{n}_made = S_{n}()\ndef {n}(x):\n    return x * S_{n}_made.rate + len(S_{n}_made.kind)"
        " + sum(S_{n}_made.steps)"
    ),
    "dataclass made within": (
        "@dataclass\nclass S_{n}:\n    rate: int = {a}\n    def __post_init__(self):\n        self.rate += {b}\n"
        "def {n}(x):\n    return x * S_{n}().rate"
    ),
    "named tuple": (
        "P_{n} = namedtuple('P_{n}', 'low high', defaults=({b},))\nP_{n}_made = P_{n}({a})\n"
        "def {n}(x):\n    return x * P_{n}_made.low - P_{n}_made.high"
    ),
    "enumeration": (
        "class E_{n}(Enum):\n    LOW = {a}\n    HIGH = {b} + 9\ndef {n}(x, e=E_{n}.LOW):\n"
        "    return x * e.value + E_{n}.HIGH.value + len(E_{n})"
    ),
    "decorator": (
        "def deco_{n}(f):\n    @functools.wraps(f)\n    def wrapped(x):\n        return f(x) + {a}\n"
        "    return wrapped\n"
        "@deco_{n}\ndef {n}(x):\n    return x * {b}"
    ),
    "decorator with arguments": (
        "def deco_{n}(k, plus=0):\n    def decorate(f):\n        return lambda x: f(x) * k + plus\n"
        "    return decorate\n"
        "@deco_{n}({a}, plus={b})\n@deco_{n}(2)\ndef {n}(x):\n    return x + 1"
    ),
    "partial": "def base_{n}(k, x, plus=1):\n    return x * k + plus\n{n} = functools.partial(base_{n}, {a}, plus={b})",
    "comprehension": (
        "T_{n} = [1, {a}, {b}]\ndef {n}(x):\n    return sum(x * k + j for k in range({a}) for j in T_{n} if j != {b})"
    ),
    "comprehensions": (
        "T_{n} = {{'low': {a}, 'high': {b}}}\ndef {n}(x):\n    squares = {{name: k * k for name, k in T_{n}.items()}}\n"
        "    return x * len({{k % 3 for k in squares.values()}}) + sum([k for k in squares.values() if k > {b}])"
    ),
    "match": (
        "M_{n} = [{{'kind': 'a', 'value': {a}}}, [1, 2, {b}], {a}, ({a}, {b})][{b} % 4]\n"
        "def {n}(x):\n    match M_{n}:\n"
        "        case {{'kind': 'a', 'value': v}}:\n            return x + v\n"
        "        case [1, *rest]:\n            return x * len(rest)\n"
        "        case int() as k if k > {b}:\n            return x - k\n"
        "        case (low, high) | {{'low': low, 'high': high}}:\n            return x * low + high\n"
        "        case _:\n            return x + {b}"
    ),
    "containers": (
        "T_{n} = {{'a': (1, {a}), 'b': [{{{b}: frozenset({{{a}, 2}})}}], 'c': {{1, {b}}}}}\n"
        "def {n}(x):\n    (inner,) = T_{n}['b']\n"
        "    return x * T_{n}['a'][1] + sum(inner[{b}]) + sum(T_{n}['c']) + len(T_{n})"
    ),
    "containers of functions": (
        "def low_{n}(x):\n    return x + {a}\ndef high_{n}(x):\n    return x * {b}\n"
        "T_{n} = {{'low': low_{n}, 'high': [high_{n}, abs]}}\n"
        "def {n}(x):\n    for f in (T_{n}['low'], *T_{n}['high']):\n        x = f(x)\n    return x"
    ),
    "branches": (
        "def {n}(x):\n    if x > {a} and not x == {b}:\n        return x - 1\n    elif (y := x + {b}) % 2:\n"
        "        return y\n    return {a} if x else {b}"
    ),
    "exceptions": (
        "def {n}(x):\n    try:\n        return [{a}, {b}][x % 3] + x\n    except (IndexError, KeyError) as error:\n"
        "        return x + len(error.args)\n    finally:\n        x += 1"
    ),
    "star arguments": "def {n}(x, *rest, **named):\n    rest = (*rest, {a}, {b})\n    return max(x, *rest) + math.comb(5, {a}) + len(named)",  # noqa: E501
    "library": "def {n}(x):\n    return functools.reduce(operator.add, [x, {a}], math.gcd(12, {b}))",
}  # fmt: skip
IMPORTS = {
    "from": ("from .parts import {n}", "{n}(x)"),
    "from as": ("from .parts import {n} as other_{n}", "other_{n}(x)"),
    "module": ("from . import parts", "parts.{n}(x)"),
    "module as": ("import shop_of_the_test.parts as of_{n}", "of_{n}.{n}(x)"),
    "within": ("", "imported_{n}(x)"),
    "here": ("", "{n}(x)"),
}


def program_of(parts):
    """Return the files of a program, given a kind, an import and two numbers for each of its parts."""
    texts, app, terms = [HEADER], [HEADER], []
    for number, (kind, how, a, b) in enumerate(parts):
        names = {"n": f"p{number}", "a": a, "b": b}
        line, term = (text.format(**names) for text in IMPORTS[how])
        (app if how == "here" else texts).append(PARTS[kind].format(**names))
        if how == "within":
            line = f"def imported_p{number}(x):\n    from .parts import p{number} as inner\n    return inner(x)"
        app.append(line)
        terms.append(f"{number + 1} * {term}")
    app.append(f"def program(x):\n    return {' + '.join(terms)}\n")
    return {"__init__.py": "", "parts.py": "\n".join(texts), "app.py": "\n".join(app)}


def mutate(files, where, which):
    """Return the files with one node of a syntax tree changed, chosen by two numbers; None if that one cannot be."""
    trees = {name: ast.parse(text) for name, text in files.items() if text}
    nodes = [(name, node) for name, tree in sorted(trees.items()) for node in ast.walk(tree)
             if not isinstance(node, ast.Import | ast.expr_context | ast.operator | ast.cmpop)]  # fmt: skip
    name, node = nodes[where % len(nodes)]
    before = ast.dump(trees[name])
    _change(node, trees[name], which)
    if ast.dump(trees[name]) == before:
        return None
    try:
        return {**files, name: ast.unparse(ast.fix_missing_locations(trees[name])) + "\n"}
    except (ValueError, AttributeError, TypeError):  # no program any more
        return None


def _change(node, tree, which):
    match node:
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() as value):
            node.value = [value + 1, -value, float(value), value == 1][which % 4]
        case ast.Constant(value=str() as value):
            others = [
                each.value for each in ast.walk(tree) if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
            node.value = [value + "z", *others][which % (len(others) + 1)]
        case ast.BinOp():
            node.op = [ast.Add, ast.Sub, ast.Mult, ast.Mod][which % 4]()
        case ast.Compare():
            node.ops[0] = [ast.Eq, ast.NotEq, ast.Lt, ast.Gt, ast.GtE][which % 5]()
        case ast.BoolOp():
            node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        case ast.Name(ctx=ast.Load()):
            names = sorted({each.id for each in ast.walk(tree) if isinstance(each, ast.Name)})
            node.id = names[which % len(names)]
        case ast.Attribute():
            names = sorted({each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)})
            node.attr = names[which % len(names)]
        case ast.arguments(defaults=[_, *_]) if which % 2:
            node.defaults.reverse()
        case ast.ImportFrom(names=[alias]):
            alias.asname, alias.name = alias.asname or alias.name, f"p{which % 6}"
        case ast.IfExp() | ast.If():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case _:
            _change_list(node, which)


def _change_list(node, which):
    """Leave out one of a node's children, or exchange two."""
    lists = [value for _, value in ast.iter_fields(node) if isinstance(value, list) and value]
    if not lists:
        return
    children = lists[which % len(lists)]
    if which % 3 == 0 and len(children) > 1:
        children[0], children[-1] = children[-1], children[0]
        return
    at = (which // 3) % len(children)
    if isinstance(children[at], ast.stmt):
        children[at] = copy.deepcopy(children[at - 1]) if which % 2 else ast.Pass()
    else:
        del children[at]


def outcome(program):
    """Return what a program computes, or which error it raises."""
    values = []
    for x in (0, 2, 3, 7):
        try:
            values.append(repr(program(x)))
        except Exception as error:
            values.append(type(error).__name__)
    return values
