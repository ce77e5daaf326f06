"""The tuning as a user runs it, and what it refuses before anything starts."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from flows.planning.errors import UsageError
from flows.planning.plan import make_plan
from flows.tune import main
from flows.tuning.program import describe_program
from flows.tuning.settings import read_settings
from jaxcache import JitCache, Trace, replay

from .conftest import command

SMALL = ("workload=gradient_optimization", "workload.requests=16", "shapes.distinct=5", "shapes.largest=40",
         "present.memory_limit=6MiB", "persistent=off", "tune.buckets=none,optimal", "tune.verify=1")  # fmt: skip


def test_a_program_is_recorded_replayed_verified_and_given_a_setting(prefect_home, tmp_path, capsys):
    outputs = tmp_path / "outputs"
    done = command(prefect_home, "tune", *SMALL, f"sweep.directory={outputs}")
    assert done.returncode == 0, done.stderr
    (place,) = outputs.glob("tune_*")
    assert f"Setting: {place / 'best.yaml'}" in done.stdout
    cache = JitCache.from_file(place / "best.yaml")
    assert cache.limit_bytes is not None
    for words, workload in ((("experiment=best", "workload=monte_carlo"), "monte_carlo"), (("experiment=best",), None)):
        (planned,) = make_plan(words, "sweep", str(place)).trials
        assert planned.trial.memory_limit == cache.limit_bytes
        assert planned.trial.workload.name == (workload or "gradient_optimization")
    verified = [json.loads(path.read_text())["config"] for path in place.glob("verified/trials/*/result.json")]
    assert planned.trial.model_dump(mode="json") in verified  # the very trial, with its requests and its shapes
    text = (place / "tune.md").read_text()
    rows = [line.split("|")[1:-1] for line in text.split("## Predicted and run")[1].splitlines() if "eviction=" in line]
    assert len(rows) == 2
    assert len(list(place.glob("verified/trials/*/result.json"))) == 2  # one sweep for all
    assert not (place / "recorded/trials").exists()  # what is recorded is not run once more
    for _, predicted, run, predicted_seconds, _, seconds, *_ in rows:
        assert int(predicted) == int(run)
        assert float(predicted_seconds) == pytest.approx(float(seconds), abs=0.011)
    trace = next(place.glob("recorded/references/*/trace.parquet"))
    assert main([f"trace={trace}", f"sweep.directory={outputs}"]) == 0
    assert "For the trace" in capsys.readouterr().out
    assert len(list(outputs.glob("tune_*/best.yaml"))) == 2


@pytest.mark.in_turns
def test_the_present_setting_is_run_once_where_it_is_the_recommended_one_and_seeds_reach_the_replay(
    prefect_home, tmp_path
):
    words = ["workload=gradient_optimization", "workload.requests=30", "shapes.distinct=10", "shapes.largest=40"]
    done = command(prefect_home, "tune", *words, "persistent=off", "seed=3", "present.eviction=random",
                   "present.memory_limit=4MiB", "tune.policies=random", "memory_limit=4MiB", "tune.buckets=none",
                   f"sweep.directory={tmp_path}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (place,) = tmp_path.glob("tune_*")
    assert len(list(place.glob("verified/trials/*/result.json"))) == 1
    checked = (place / "tune.md").read_text().split("## Predicted and run")[1].splitlines()
    rows = [line.split("|")[1:-1] for line in checked if line.startswith("| eviction=")]
    assert len(rows) == 2
    assert all(int(predicted) == int(run) for _, predicted, run, *_ in rows)
    trace = Trace.load(next(place.glob("recorded/references/*/trace.parquet")))
    by_seed = [replay(trace, "random", "4MiB", seed=seed).misses for seed in (3, 0)]
    assert int(rows[0][1]) == by_seed[0] != by_seed[1]


@pytest.fixture
def heavy(tmp_path):
    keys = [3, 0, 1, 2] * 5
    seconds = [0.25 * (key + 1) for key in keys]
    path = tmp_path / "heavy.parquet"
    Trace.from_arrays(keys=keys, size_bytes=[4 * 1024**2] * 20, compile_seconds=seconds).save(path)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["tune.memory_limit=1MiB"],
            "tune.memory_limit must be at least 4 MiB, what the smallest program of",
        ),
        (["tune.limits=2MiB,8MiB"], "tune.limits must be at least 4 MiB, .*, but is 2 MiB"),
        (["tune.buckets=pow2,optimal"], "tune.buckets=pow2,optimal: the trace has no lengths; .* tune.buckets=none"),
        (["tune.buckets_named=true"], "there is no setting tune.buckets_named"),
        (["workload=monte_carlo"], "workload=monte_carlo says what to run, and trace= runs nothing"),
        (["eviction=lru,gdsf"], "trace= takes one present setting"),
    ],
)
def test_what_a_trace_cannot_answer_is_refused(heavy, words, message, tmp_path, capsys):
    assert main([f"trace={heavy}", f"sweep.directory={tmp_path}", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not list(tmp_path.glob("tune_*"))


def test_a_trace_is_held_against_the_present_setting_where_one_is_named(heavy, tmp_path, capsys):
    assert main([f"trace={heavy}", f"sweep.directory={tmp_path}", "present.eviction=lru",
                 "present.memory_limit=8MiB", "memory_limit=12MiB"]) == 0  # fmt: skip
    assert "less than with eviction=lru, memory_limit=8 MiB" in " ".join(capsys.readouterr().out.split())
    assert "| not run |" in next(tmp_path.glob("tune_*/tune.md")).read_text()


def test_a_trace_is_held_against_the_setting_that_it_was_recorded_with(heavy, tmp_path, capsys):
    recorded = replace(Trace.load(heavy), setting={"eviction": "lru", "limit_bytes": 8 * 1024**2})
    recorded.save(heavy)
    assert main([f"trace={heavy}", f"sweep.directory={tmp_path}", "tune.memory_limit=12MiB"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "less than with eviction=lru, memory_limit=8 MiB" in said
    assert "jax.jit alone would compile for 2.5 s and hold 16 MiB without a limit" in said


def test_a_present_limit_above_the_recommended_one_is_told_with_what_it_holds(heavy, tmp_path, capsys):
    assert main([f"trace={heavy}", f"sweep.directory={tmp_path}", "present.memory_limit=16MiB",
                 "tune.memory_limit=8MiB"]) == 0  # fmt: skip
    assert re.search(
        r"memory_limit=16 MiB takes \d+\.\d s less, and holds \d+(\.\d)? MiB more",
        " ".join(capsys.readouterr().out.split()),
    )


def test_programs_that_came_from_a_directory_are_said_to_be_priced_so(heavy, tmp_path, capsys):
    tiers = np.array(["disk"] * 4 + ["memory"] * 16, object)
    loaded = Trace.load(heavy)
    replace(loaded, columns={**loaded.columns, "tier": tiers}).save(heavy)
    assert main([f"trace={heavy}", f"sweep.directory={tmp_path}"]) == 0
    assert "100% of the programs were first loaded from a directory" in capsys.readouterr().out


def test_buckets_are_weighed_for_a_trace_that_says_how_long_calls_take(tmp_path, capsys):
    lengths = np.random.default_rng(0).integers(1, 200, 400)
    trace = Trace.from_lengths(lengths, size_bytes=2**20, compile_seconds=1.0, call_seconds=lambda n: 1e-4 * n)
    trace.save(tmp_path / "t.parquet")
    words = [f"trace={tmp_path / 't.parquet'}", f"sweep.directory={tmp_path}", "tune.memory_limit=16MiB"]
    assert main(words) == 0
    place = next(tmp_path.glob("tune_*"))
    table = (place / "tune.md").read_text().split("## The best policy")[1].split("##")[0]
    assert {line.split()[1] for line in table.splitlines()[4:] if line} == {"none", "pow2", "linear", "optimal"}
    (planned,) = make_plan(("experiment=best", "workload=monte_carlo"), "sweep", str(place)).trials
    assert planned.trial.buckets.name == "optimal"
    assert "Nothing is said of buckets" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("workload=monte_carlo tune.policies=lruu", "tune.policies must be among adaptive, .*, but is 'lruu'"),
        ("workload=monte_carlo tune.policies=lru,lru", "tune.policies must name each value once"),
        ("workload=monte_carlo tune.limits=1MiB,1", "tune.limits must be at least 256 KiB, .*, but is 1 B"),
        ("workload=monte_carlo tune.memory_limit=-3", "tune.memory_limit must be positive, such as 64MiB, but is -3"),
        ("workload=monte_carlo tune.buckets=some", "tune.buckets must be among linear, .*, but is 'some'"),
        ("workload=monte_carlo tune.verify=-1", "tune.verify must be greater than or equal to 0, but is '-1'"),
        ("workload=monte_carlo tune.limits=1MiB tune.memory_limit=1MiB", "tune.memory_limit and tune.limits both say"),
        ("workload=monte_carlo memory_limit=1MiB,1", "tune.limits must be at least 256 KiB, .*, but is 1 B"),
        (
            "workload=monte_carlo memory_limit=1MiB tune.memory_limit=2MiB",
            "memory_limit=1MiB and tune.memory_limit=2MiB both say .*; give one, and what the program has today",
        ),
        ("trace=t present.limit=1MiB", "there is no setting present.limit; did you mean present.memory_limit"),
        ("trace=t present.speed", "there is no setting present.speed; there are: present.memory_limit, present.evi"),
        ("workload=monte_carlo buckets=linear buckets.count=4", "buckets.count=4: sets of buckets are compared as"),
        ("workload=monte_carlo costs=c.json", "costs=c.json: tuning measures what programs cost"),
        ("workload=monte_carlo tune.nope=1", "tune.nope=1: there is no setting tune.nope; there are: trace, tune.pol"),
    ],
)
def test_bad_settings_are_one_line(words, message):
    with pytest.raises(UsageError, match=message):
        read_settings(words.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("memory_limit=1x", "memory_limit must be a size such as 64MiB (units: B, KB, KiB, MB, MiB, GB, GiB)"),
        ("memory_limit=1KiB,2MiB", "memory_limit must be at least 256 KiB"),
        ("tune.limits=1KiB", "tune.limits must be at least 256 KiB"),
        ("memory_limit=4MiB present.memory_limit=1x", "present.memory_limit must be a size"),
        ("present.eviction=lruu", "present.eviction must be one of adaptive"),
        ("limits=1MiB,2MiB", "limits=1MiB,2MiB: there is no setting limits; did you mean tune.limits?"),
    ],
)
def test_a_mistake_is_named_by_the_key_that_was_typed(words, message, capsys):
    assert main(["workload=monte_carlo", *words.split()]) == 2
    assert capsys.readouterr().err.startswith(f"tune: {message}")


def test_the_limit_to_keep_to_is_apart_from_the_one_that_the_program_has():
    settings, program = read_settings(["workload=monte_carlo", "memory_limit=8MiB", "present.memory_limit=32MiB"])
    assert settings.memory_limit == 8 * 1024**2
    assert make_plan(tuple(program)).trials[0].trial.memory_limit == 32 * 1024**2
    settings, program = read_settings(["workload=monte_carlo", "memory_limit=8MiB,16MiB"])
    assert settings.limits == [8 * 1024**2, 16 * 1024**2]
    assert make_plan(tuple(program)).trials[0].trial.memory_limit is None  # nothing is said of today


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "takes one program and one present setting, but these words say 3; give one value each"),
        (["workload=monte_carlo", "eviction=lru,gdsf"], "but these words say 2"),
        (["workload=nope"], "workload must be one of"),
        (["trace=no/such/file"], "trace=no/such/file cannot be read (no such file)"),
        (["trace=pyproject.toml"], "trace=pyproject.toml: path must be a trace"),
    ],
)
def test_a_wrong_command_exits_with_two_and_starts_nothing(words, message, capsys):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tune: ")
    assert message in line


@pytest.mark.parametrize(
    ("words", "described"),
    [
        (["workload=monte_carlo"], {"workload": "monte_carlo", "shapes": "zipf", "persistent": "shared"}),
        (
            ["workload=least_squares", "shapes=phased", "persistent=off", "workload.requests=16", "precision=bfloat16",
             "workload.tolerance=1e-9", "seed=3", "eviction=gdsf", "memory_limit=2MiB", "runner.workers=1",
             "buckets=pow2", "sweep.directory=elsewhere", "profiling=true"],
            {"workload": "least_squares", "shapes": "phased", "persistent": "off", "workload.requests": "16",
             "workload.tolerance": "1e-09", "precision": "bfloat16", "seed": "3", "profiling": "true"},
        ),
    ],
)  # fmt: skip
def test_a_program_is_described_by_its_groups_and_what_differs_from_them(words, described):
    assert describe_program(words) == described
    again = make_plan(tuple(f"{key}={value}" for key, value in described.items())).trials[0].trial
    named = make_plan(tuple(word for word in words if not word.startswith("buckets"))).trials[0].trial
    assert again.program_id == named.program_id


def test_a_directory_with_a_comma_and_a_quote_is_written_so_that_hydra_reads_it_back(tmp_path):
    directory = str(tmp_path / "a, 'b'=c")
    escaped = directory.replace("'", "\\'")
    described = describe_program(["workload=monte_carlo", f"persistent.directory='{escaped}'"])
    (planned,) = make_plan(tuple(f"{key}={value}" for key, value in described.items())).trials
    assert str(planned.trial.persistent.directory) == directory


def test_a_config_directory_of_ones_own_comes_first(heavy, tmp_path, capsys):
    (tmp_path / "conf" / "workload").mkdir(parents=True)
    mine = "name: monte_carlo\nrequests: 7\npaths: 8\nsteps: 2\nvolatility: 0.2\n"
    (tmp_path / "conf" / "workload" / "mine.yaml").write_text(mine)
    directory = str(tmp_path / "conf")
    described = describe_program(["workload=mine"], directory)
    assert described["workload"] == "mine"
    assert make_plan(("workload=mine",), config_dir=directory).trials[0].trial.workload.requests == 7
    assert main(["--config-dir", directory, f"trace={heavy}", f"sweep.directory={tmp_path}/out"]) == 0
    capsys.readouterr()
    for words, message in (
        (["--config-dir"], "--config-dir must name a directory"),
        ([f"--config-dir={tmp_path}/nowhere", "workload=mine"], "nowhere is not a directory"),
        (["--verify", "1"], "there is no option --verify"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err


def test_help_says_what_can_be_set(capsys):
    assert main(["--help"]) == 0
    assert "memory_limit: null # the limit to find the best setting for" in capsys.readouterr().out
