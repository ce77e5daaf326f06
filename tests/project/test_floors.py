"""Who may import whom: read from the code, so that a wall that falls is seen."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CORE = PROJECT / "src" / "jaxcache"
FLOORS = [  # bottom to top; a package imports from floors below its own, and from its neighbours without a circle
    {"_primitives"},
    {"_jax", "_policies", "_remote"},
    {"_calls", "_disk", "_replay"},
    {"_code_key", "_tiers"},
    {"_cache"},
    {"_loops", "_padding", "_process"},
    {"_advice", "_cli"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
EXTRA = {
    "_cache/settings_file.py": {"yaml"},
    "_disk/key_ring.py": {"cryptography"},
    "_remote/aws_profiles.py": {"boto3", "botocore", "obstore"},
    "_remote/object_store.py": {"obstore"},
    "_replay/trace_files.py": {"pyarrow"},
    "_replay/kernels/compiler.py": {"numba"},
}


LAB_TAKES = {  # beside public names
    "jaxcache._advice.suggestion.Suggestion",
    "jaxcache._advice.suggestion.WORTH_SECONDS",
    "jaxcache._advice.suggestion.merge",
    "jaxcache._advice.suggestions.Thresholds",
    "jaxcache._advice.suggestions.all_suggestions",
    "jaxcache._advice.suggestions.limit_for",
    "jaxcache._cache.cached_function.dispatcher_of",
    "jaxcache._calls.misses.REPEAT_CAUSES",
    "jaxcache._disk.priority.STORED_POLICIES",
    "jaxcache._disk.trust.KEY_FILE_VARIABLE",
    "jaxcache._disk.trust.KEY_VARIABLE",
    "jaxcache._jax.plugins.installed_plugins",
    "jaxcache._jax.versions.OLDEST",
    "jaxcache._padding.varying_lengths.alike",
    "jaxcache._padding.varying_lengths.one_length",
    "jaxcache._padding.varying_lengths.with_n",
    "jaxcache._primitives.counted.counted",
    "jaxcache._primitives.atomic_files.replacing",
    "jaxcache._primitives.atomic_files.write_file",
    "jaxcache._process.variables.DIRECTORY_VARIABLE",
    "jaxcache._process.variables.VARIABLES",
    "jaxcache._process.measured_run.Settings",
    "jaxcache._remote.urls.check_url",
}


def imported(node, package):
    """Absolute names that an import statement names."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if not isinstance(node, ast.ImportFrom):
        return set()
    base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
    module = base if node.level else node.module
    return {module} | {f"{module}.{alias.name}" for alias in node.names}


def package_of(path):
    root = PROJECT / "src" if path.is_relative_to(PROJECT / "src") else PROJECT
    return list(path.relative_to(root).parent.parts)


@cache
def tree_of(path):
    return ast.parse(path.read_text())


@cache
def imports(path):
    """Absolute names of what a file imports, relative ones resolved; also those within functions."""
    package = package_of(path)
    return frozenset(name for node in ast.walk(tree_of(path)) for name in imported(node, package))


def imports_at_once(path):
    """Those of them that are imported when the file is: not within functions, nor for types alone."""
    package, found, pending = package_of(path), set(), [*tree_of(path).body]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        found |= imported(node, package)
        pending += ast.iter_child_nodes(node)
    return found


def core_files():
    return [path for path in CORE.rglob("*.py") if not {"lab", "start"} & set(path.relative_to(CORE).parts)]


def name_of(path):
    return ".".join(["jaxcache", *path.relative_to(CORE).with_suffix("").parts]).removesuffix(".__init__")


def room_of(name):
    return name.split(".")[1] if name.startswith("jaxcache._") else None


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_imports_only_jax_numpy_and_the_standard_library(path):
    outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
    assert outside <= {"jax", "numpy", "jaxcache"} | EXTRA.get(path.relative_to(CORE).as_posix(), set())
    assert not any(name.startswith("jaxcache.lab") for name in imports(path))


def test_the_lab_takes_from_the_core_what_is_public_and_little_else():
    names = {name for path in (CORE / "lab").rglob("*.py") for name in imports(path) if name.startswith("jaxcache._")}
    assert {name for name in names if name.count(".") > 2} == LAB_TAKES


def test_the_flows_take_from_the_library_what_is_public():
    assert not [name for path in (PROJECT / "flows").rglob("*.py") for name in imports(path) if "jaxcache._" in name]


@pytest.mark.parametrize("path", [path for path in core_files() if path.parent != CORE], ids=lambda path: name_of(path))
def test_imports_between_packages_go_down(path):
    own = room_of(name_of(path))
    rooms = {room_of(name) for name in imports(path)} - {None, own}
    assert all(FLOOR[room] <= FLOOR[own] for room in rooms), rooms


def test_packages_import_each_other_without_a_circle():
    graph = {}
    for path in core_files():
        if path.parent != CORE:
            own = room_of(name_of(path))
            graph.setdefault(own, set()).update({room_of(name) for name in imports(path)} - {None, own})
    assert set(graph) == set(FLOOR)
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_files_of_a_package_import_each_other_without_a_circle(room):
    files = {name_of(path): path for path in (CORE / room).rglob("*.py")}
    graph = {name: imports_at_once(path) & files.keys() - {name} for name, path in files.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_importing_the_package_imports_none_of_the_extra_dependencies():
    program = "import sys, jaxcache; print(sorted({'pyarrow', 'numba', 'yaml', 'scipy', 'pandas'} & set(sys.modules)))"
    loaded, plain = (
        set(ast.literal_eval(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True,
                                            timeout=120).stdout))
        for text in (program, program.replace("jaxcache", "jax"))
    )  # fmt: skip
    assert loaded <= plain  # JAX imports some for itself


def test_policies_import_nothing_of_ours():
    for path in (CORE / "_policies").glob("*.py"):
        ours = {name for name in imports(path) if name.startswith("jaxcache")}
        assert all(name.startswith("jaxcache._policies") for name in ours), path.name


def test_private_jax_is_touched_in_one_package_and_at_the_place_of_jaxs_own_cache():
    touching = {path for path in CORE.rglob("*.py") if any(name.startswith("jax._src") for name in imports(path))}
    elsewhere = {path.relative_to(CORE).as_posix() for path in touching if path.parent != CORE / "_jax"}
    assert elsewhere == {"_disk/jax_backend.py"}


def test_the_lab_knows_neither_prefect_nor_hydra():
    for path in (CORE / "lab").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"prefect", "hydra", "omegaconf", "flows"}, path
