"""The keys ``program.*``: what they make of a trial, and what is refused before anything starts."""

import shlex
import sys
from pathlib import Path

import pytest

from flows.planning.errors import UsageError
from flows.planning.plan import _make_plan, make_plan
from flows.planning.programs import _hash_of
from flows.tuning.program import describe_program

from .._support.stranger import write_program


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script of a stranger, in the directory that the command is called from."""
    monkeypatch.chdir(tmp_path)
    _hash_of.cache_clear()
    return write_program(tmp_path)


def trials(*overrides):
    return [planned.trial for planned in make_plan(("workload=program", *overrides)).trials]


def test_a_script_its_arguments_and_the_cache_s_settings_are_swept_alike(script):
    plan = make_plan((
        "workload=program", "program.script=train.py", "program.args=--epochs 1,--epochs 2", "eviction=lru,gdsf",
        "memory_limit=64MiB,256MiB",
    ))  # fmt: skip
    assert len(plan.trials) == 8
    assert len({planned.program_id for planned in plan.trials}) == 2
    assert {tuple(planned.trial.program.words) for planned in plan.trials} == {("--epochs", "1"), ("--epochs", "2")}
    (first, *_) = [planned.trial.program for planned in plan.trials]
    assert (first.script, first.directory, first.python) == (script, script.parent, Path(sys.executable))
    assert {planned.name for planned in plan.trials} == {
        f"program.args=--epochs {epochs} eviction={policy} memory_limit={limit}"
        for epochs in (1, 2) for policy in ("lru", "gdsf") for limit in ("64MiB", "256MiB")
    }  # fmt: skip


def test_arguments_are_quoted_as_for_a_shell_and_interpolated_by_hydra(script):
    for args, words in [
        ("--seed ${seed} --name ${eviction.name}", ["--seed", "3", "--name", "lru"]),
        ("'--lr=0.1 --title \"two words\"'", ["--lr=0.1", "--title", "two words"]),
        ("3", ["3"]),
    ]:
        (trial,) = trials("program.script=train.py", "eviction=lru", "seed=3", f"program.args={args}")
        assert trial.program.words == words


def test_variables_are_given_one_by_one_or_together(script):
    (one,) = trials("program.script=train.py", "eviction=lru", "program.environment.A=1")
    (both,) = trials("program.script=train.py", "eviction=lru", "program.environment={A: 1, B: two}")
    assert (one.program.environment, both.program.environment) == ({"A": "1"}, {"A": "1", "B": "two"})


def test_a_module_is_found_where_the_program_runs(script, tmp_path):
    (tmp_path / "elsewhere" / "package").mkdir(parents=True)
    (tmp_path / "elsewhere" / "package" / "__init__.py").write_text("raise ImportError('nothing is imported to look')")
    (tmp_path / "elsewhere" / "package" / "__main__.py").write_text("")
    (trial,) = trials("program.module=package", "program.directory=elsewhere", "eviction=lru")
    assert (trial.program.kind, trial.program.what) == ("module", "package")


def test_results_of_another_version_of_the_program_are_not_its_own(script):
    (before,) = trials("program.script=train.py", "eviction=lru")
    _make_plan.cache_clear()
    _hash_of.cache_clear()
    library = script.parent / "strangers_library.py"
    library.write_text(library.read_text().replace("0.1", "0.2"))
    (after,) = trials("program.script=train.py", "eviction=lru")
    assert before.id != after.id
    assert before.program_id != after.program_id


def test_a_tuned_program_is_described_so_that_it_is_planned_again_from_anywhere(script, tmp_path, monkeypatch):
    words = (
        "program.script=train.py",
        "program.args='--title \"two words\" --lr=0.1'",
        "program.check.stdout=true",
        "program.environment={A: 1, B: 'two, c={d}'}",
        "eviction=lru",
    )
    (trial,) = trials(*words)
    described = describe_program(("workload=program", *words))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (again,) = make_plan((*(f"{key}={value}" for key, value in described.items()), "eviction=lru")).trials
    assert again.trial.program_id == trial.program_id


REFUSED = [
    ("", "program.script or program.module must be given, one of them, but neither is given"),
    ("program.script=no.py", "program.script must be a Python file that is there, such as train.py, but is "),
    ("program.script=broken.py", "program.script=.*broken.py cannot be run: "),
    ("program.script=train.py program.module=train", "program.script or program.module .* but both are given"),
    ("program.module=package", "program.module=package is a package without __main__"),
    ("program.module=package.nothing", "program.module=package.nothing is not in .* set program.directory"),
    ("program.script=train.py program.python=/no/python", "program.python must be an interpreter, such as "),
    ("program.script=train.py program.python=/bin/true", "program.python=/bin/true does not answer as Python does"),
    ("program.script=train.py program.environment.PYTHONPATH=old", "program.python=.* has JAX 0.4.30, but jaxcache ne"),
    ("program.script=train.py program.environment.JAXCACHE_DIR=d", "program.environment.JAXCACHE_DIR is set by each "),
    ("program.script=train.py \"program.args=--name 'it\"", "program.args must be quoted as for a shell, but is "),
    ("program.script=train.py \"program.args='--name \\\"it'\"", "program.args must be quoted as for a shell, but is "),
    ("program.script=train.py program.args=--a=1", "program.args=--a=1 cannot be read: Hydra needs quotes of its own"),
    ("program.script=train.py program.directory=nowhere", "program.directory must be a directory that is there, such"),
    ("program.script=train.py program.timeout=0", "program.timeout must be greater than 0, but is 0"),
    ("program.script=train.py program.repeat=0", "program.repeat must be greater than 0, but is 0"),
    ("program.script=train.py program.scrip=a", "program.scrip=a: there is no setting program.scrip; did you mean"),
    ("program.script=train.py shapes=zipf", "shapes=zipf is for the lab's own workloads, but workload is program"),
    ("program.script=train.py buckets=pow2", "buckets=pow2 is for the lab's own workloads, but workload is program"),
    ("program.script=train.py profiling=true", "profiling=true is for the lab's own workloads, but workload is progr"),
    ("program.script=train.py program.check.stdout=true program.check.command=make", "program.check takes one of fil"),
    ("program.script=train.py program.check.tolerance=0.1", "program.check.tolerance=0.1 is for numbers in a file"),
    ("program.script=train.py program.check.file=a.json", "program.check.file looks at what each run leaves .* one r"),
    ("workload=monte_carlo program.script=train.py", "program.script=train.py is for workload=program, but workload i"),
    ("workload=monte_carlo shapes=own", "shapes=own is for workload=program, but workload is monte_carlo; choose one"),
    ("workload=callable", "program.target is missing; name a function, such as program.target=mypkg.bench:run"),
    ("workload=callable program.target=train", "program.target must be module:function, such as mypkg.bench:run, but"),
    ("workload=callable program.target=no:run", "program.target=no:run names a module that is not in .* set program"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_what_cannot_be_run_is_one_line_that_names_the_key(script, tmp_path, words, message):
    (tmp_path / "broken.py").write_text("def")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "old" / "jax-0.4.30.dist-info").mkdir(parents=True)
    (tmp_path / "old" / "jax-0.4.30.dist-info" / "METADATA").write_text("Name: jax\nVersion: 0.4.30\n")
    overrides = shlex.split(words)
    if not any(word.startswith("workload=") for word in overrides):
        overrides.insert(0, "workload=program")
    with pytest.raises(UsageError, match=message) as refused:
        make_plan((*overrides, "eviction=lru"))
    assert "\n" not in str(refused.value)
