"""Who may import whom: read from the code, so that a wall that falls is seen."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CORE = PROJECT / "src" / "jaxcache"
FLOORS = [  # top to bottom; a module imports from its own floor or below
    {"__init__", "__main__"},
    {"_compiled_loops", "_replay_compiled"},
    {"_curves"},
    {"_optimum"},
    {"_replay"},
    {"_commands"},
    {"_use_directory", "_import_entries", "_doctor", "_run_program"},
    {"_disk_plug"},
    {"_disk"},
    {"_disk_verify", "_disk_snapshot"},
    {"_disk_index"},
    {"_disk_runs", "_disk_faults"},
    {"_disk_database", "_disk_flight", "_disk_ranking"},
    {"_benchmark", "_loops", "_gradient_steps", "_least_squares", "_monte_carlo"},
    {"_buckets", "_memory", "_function", "_jitted", "_stages", "_recorded_function", "_warm", "_suggest"},
    {"_ledger"},
    {"_recorder"},
    {"_variants", "_prepared", "_statistics", "_misses", "_describe", "_dynamic_arguments", "_padding_check"},
    {
        "_executable",
        "_from_file",
        "_residents",
        "_signature",
        "_policies",
        "_costs",
        "_trace_files",
        "_replay_kernels",
        "_disk_files",
    },
    {
        "_range_lock",
        "_trace",
        "_disk_entry",
        "_disk_schema",
        "_disk_priority",
        "_disk_stats",
        "_disk_location",
        "_trust",
        "_same_program",
        "_fingerprint",
    },
    {"_jax", "_jax_tracing", "_bytesize", "_bucket_choice", "_trimming"},
]
LATE = {  # what is imported when it is used, since it needs what is above, or one of the extra dependencies
    ("_trace", "_trace_files"),
    ("_replay", "_replay_compiled"),
    ("_optimum", "_compiled_loops"),
    ("_curves", "_compiled_loops"),
}
EXTRA = {
    "_from_file.py": {"yaml"},
    "_trace_files.py": {"pyarrow"},
    "_replay_compiled.py": {"numba"},
    **{f"_replay_kernels/{name}.py": {"numba"} for name in ("queues", "heaps", "learning", "urns", "compiler")},
}
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def imports(path: Path) -> set[str]:
    """Absolute names of what a file imports, relative ones resolved against ``jaxcache``."""
    package = ["jaxcache", *path.relative_to(CORE).parent.parts] if path.is_relative_to(CORE) else ["flows"]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            module = base if node.level else node.module
            found.update({module} | {f"{module}.{alias.name}" for alias in node.names})
    return found


def core_files() -> list[Path]:
    return [path for path in CORE.rglob("*.py") if "lab" not in path.relative_to(CORE).parts]


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_imports_only_jax_numpy_and_the_standard_library(path):
    outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
    assert outside <= {"jax", "numpy", "jaxcache"} | EXTRA.get(path.relative_to(CORE).as_posix(), set())
    assert not any(name.startswith("jaxcache.lab") for name in imports(path))


@pytest.mark.parametrize("path", [p for p in core_files() if p.parent == CORE], ids=lambda path: path.name)
def test_imports_go_down_only(path):
    below = {name.split(".")[1] for name in imports(path) if name.startswith("jaxcache._")}
    below -= {name for importer, name in LATE if importer == path.stem}
    assert all(FLOOR[name] >= FLOOR[path.stem] for name in below), (path.name, below)


def test_importing_the_package_imports_none_of_the_extra_dependencies():
    told = "import sys, jaxcache; print(sorted({'pyarrow', 'numba', 'yaml', 'scipy', 'pandas'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(ast.literal_eval(ran.stdout))
    plain = subprocess.run(
        [sys.executable, "-c", told.replace("jaxcache", "jax")], capture_output=True, text=True, check=True, timeout=120
    )
    assert loaded <= set(ast.literal_eval(plain.stdout))  # JAX imports some for itself


def test_every_room_has_a_floor():
    rooms = {path.stem for path in CORE.glob("*.py")} | {"_policies", "_replay_kernels"}
    assert rooms == set(FLOOR)


def test_policies_import_nothing_of_ours():
    for path in (CORE / "_policies").glob("*.py"):
        ours = {name for name in imports(path) if name.startswith("jaxcache")}
        assert all(name.startswith("jaxcache._policies") for name in ours), path.name


def test_private_jax_is_touched_in_four_rooms():
    touching = [p.name for p in CORE.rglob("*.py") if any(name.startswith("jax._src") for name in imports(p))]
    assert sorted(touching) == ["_disk_plug.py", "_jax.py", "_jax_tracing.py", "_same_program.py"]


def test_the_lab_knows_neither_prefect_nor_hydra():
    for path in (CORE / "lab").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"prefect", "hydra", "omegaconf", "flows"}, path
