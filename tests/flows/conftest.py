"""A Prefect server of the tests' own: started as a sweep starts it, ended afterwards."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

PROJECT = Path(__file__).resolve().parents[2]
PROGRAMS = ("eviction=lru,gdsf", "workload=monte_carlo,iterative_solver")
SMALL = ("workload.requests=8", "shapes.distinct=4", "shapes.largest=24", "memory_limit=8MiB")


@pytest.fixture(scope="session")
def make_home(request, tmp_path_factory):
    """Make a directory for a server of its own, whose database has Prefect's tables already.

    Those of an empty database come by some hundred migrations, which take twice as long as the rest of a server's
    start: they are done once for all sessions. A server of ``test_idle_server`` starts from nothing.
    """
    database = Path(request.config.cache.mkdir("prefect")) / f"{importlib.metadata.version('prefect')}.db"
    with FileLock(f"{database}.lock"):
        if not database.exists():
            made = tmp_path_factory.mktemp("migrated")
            upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
            subprocess.run(upgrade, env=environment(made), capture_output=True, timeout=240, check=True)
            os.replace(shutil.copy(made / "prefect.db", f"{database}.part"), database)

    def make(name: str) -> Path:
        home = tmp_path_factory.mktemp(name)
        shutil.copy(database, home / "prefect.db")
        return home

    return make


@pytest.fixture(scope="session")
def prefect_home(make_home):
    home = make_home("prefect")
    yield home
    started = (home / "server.json").exists()
    assert command(home, "server", "stop").stdout == (
        "stopped\n" if started else "no server of this project is running\n"
    )
    assert command(home, "server", "status").returncode == 1


@pytest.fixture(scope="session")
def server(prefect_home):
    """The address of the API of a server that is up."""
    import json

    done = command(prefect_home, "server", "start")
    assert done.returncode == 0, done.stdout + done.stderr
    return f"http://127.0.0.1:{json.loads((prefect_home / 'server.json').read_text())['port']}/api"


@pytest.fixture(scope="session")
def first_sweep(server, prefect_home, tmp_path_factory):
    """A sweep that has ended: what it printed, the directory for sweeps, and its own in there."""
    outputs = tmp_path_factory.mktemp("outputs")
    done = run_sweep(prefect_home, outputs, *PROGRAMS, *SMALL)
    return done, outputs, newest(outputs)


def environment(home, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(home), **more}


def command(home, module, *words, **more):
    """Run ``python -m flows.<module>`` as a user would, from the repository's root."""
    return subprocess.run(
        [sys.executable, "-m", f"flows.{module}", *words], cwd=PROJECT, env=environment(home, **more),
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def run_sweep(home, outputs, *words):
    return command(home, "sweep", *words, f"sweep.directory={outputs}", *persistent(words, outputs))


def persistent(words, outputs):
    return () if any(w.startswith("persistent=") for w in words) else (f"persistent.directory={outputs / 'cache'}",)


def newest(outputs) -> Path:
    return max((path for path in outputs.iterdir() if path.name.startswith("20")), key=lambda path: path.name)
