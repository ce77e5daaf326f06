"""Overrides to trials, and what is refused before anything starts."""

import itertools
import re
from pathlib import Path

import pytest

from flows.planning import locations
from flows.planning.errors import UsageError
from flows.planning.locations import CONF
from flows.planning.plan import make_plan
from flows.sweep import main
from jaxcache import POLICIES
from jaxcache.lab.trial import Trial

OPTIONS = ", ".join(sorted(POLICIES))


def names(*overrides):
    return sorted(planned.name for planned in make_plan(overrides).trials)


def test_the_default_study_runs_each_policy_on_all_workloads():
    assert names("eviction=lru,size_based") == [
        f"workload={workload} eviction={eviction}"
        for workload in ("gradient_optimization", "iterative_solver", "monte_carlo")
        for eviction in ("lru", "size_based")
    ]


def test_limits_in_bytes_are_sizes_in_the_names_of_trials_unless_two_would_be_equal():
    assert names("workload=monte_carlo", "memory_limit=8126464,64MiB") == ["memory_limit=64MiB", "memory_limit=7.8 MiB"]
    close = ["memory_limit=8126464", "memory_limit=8126465"]
    assert names("workload=monte_carlo", "memory_limit=8126464,8126465") == close


STUDY = """
# @package _global_
defaults:
  - override /eviction: sieve
memory_limit: 3000001
hydra:
  sweeper:
    params:
      workload: "least_squares"
      workload.requests: "12"
      workload.rows_per_length: "4"
      shapes.distinct: "5"
"""


@pytest.fixture
def tuned(tmp_path):
    """A directory with a study that was made for one program."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "best.yaml").write_text(STUDY)
    return str(tmp_path)


@pytest.mark.parametrize("words", [(), ("workload=least_squares",), ("seed=0",)])
def test_a_study_of_one_program_runs_that_program(tuned, words):
    (planned,) = make_plan(("experiment=best", *words), "sweep", tuned).trials
    trial = planned.trial
    assert (trial.workload.name, trial.workload.requests, trial.workload.rows_per_length) == ("least_squares", 12, 4)
    assert (trial.shapes.distinct, trial.eviction.name, trial.memory_limit) == (5, "sieve", 3_000_001)


def test_a_study_of_one_program_takes_another_one_as_it_is(tuned):
    (planned,) = make_plan(("experiment=best", "workload=monte_carlo"), "sweep", tuned).trials
    usual = make_plan(("workload=monte_carlo",)).trials[0].trial
    assert planned.trial.workload == usual.workload
    assert (planned.trial.shapes.distinct, planned.trial.memory_limit) == (5, 3_000_001)
    plan = make_plan(("experiment=best", "workload=least_squares,monte_carlo"), "sweep", tuned)
    assert {one.trial.workload.requests for one in plan.trials} == {usual.workload.requests}


def test_what_is_given_beside_a_study_takes_the_place_of_what_it_says(tuned):
    (planned,) = make_plan(("experiment=best", "workload.requests=7"), "sweep", tuned).trials
    assert (planned.trial.workload.requests, planned.trial.workload.rows_per_length) == (7, 4)


def test_configs_of_the_user_come_before_the_projects_and_those_of_config_dir_before_all(tmp_path, monkeypatch):
    for folder, distinct in (("conf", 3), ("given", 4)):
        (tmp_path / folder / "shapes").mkdir(parents=True)
        (tmp_path / folder / "shapes" / "zipf.yaml").write_text(
            f"name: zipf\nsmallest: 8\nlargest: 96\ndistinct: {distinct}\nexponent: 1.1\n"
        )
    (tmp_path / "conf" / "shapes" / "mine.yaml").write_text("name: uniform\nsmallest: 8\nlargest: 9\ndistinct: 2\n")

    def shapes(words, config_dir=None):
        return make_plan(("workload=monte_carlo", *words), "sweep", config_dir).trials[0].trial.shapes

    usual = shapes(())
    monkeypatch.chdir(tmp_path)
    assert (shapes(()).distinct, shapes((), "given").distinct, usual.distinct) == (3, 4, 20)
    assert (shapes(("shapes=mine",), "given").largest, shapes(("shapes=glob(m*)",)).largest) == (9, 9)
    with pytest.raises(UsageError, match="shapes must be one of mine, own, phased, uniform, zipf, but is 'other'"):
        shapes(("shapes=other",))
    with pytest.raises(UsageError, match="--config-dir none is not a directory"):
        shapes((), "none")


@pytest.mark.parametrize(
    ("variable", "directory"),
    [("/states", "/states/jaxcache/prefect"), ("states", "/home/me/.local/state/jaxcache/prefect"),
     ("", "/home/me/.local/state/jaxcache/prefect")],
)  # fmt: skip
def test_the_server_of_an_installed_package_lies_in_the_users_state_directory(monkeypatch, variable, directory):
    monkeypatch.setattr(locations, "CHECKOUT", None)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_STATE_HOME", variable)
    assert locations.server_directory() == Path(directory)


def test_every_combination_is_one_trial_named_after_what_varies():
    plan = make_plan(("eviction=lru,gdsf", "memory_limit=2MiB,8MiB", "workload=monte_carlo", "seed=0,1"))
    assert len(plan.trials) == 8
    assert {planned.name for planned in plan.trials} == {
        f"eviction={e} memory_limit={m} seed={s}" for e in ("lru", "gdsf") for m in ("2MiB", "8MiB") for s in (0, 1)
    }
    for planned in plan.trials:
        words = dict(word.split("=") for word in planned.name.split())
        trial = planned.trial
        assert trial.eviction.name == words["eviction"]
        assert trial.memory_limit == int(words["memory_limit"][0]) * 1024**2
        assert trial.seed == int(words["seed"])
        assert trial.workload.name == "monte_carlo"


def test_a_lone_trial_is_named_after_its_policy():
    assert names("workload=monte_carlo") == ["eviction=lru"]


def test_a_list_that_sets_nothing_that_varies_is_named_after_its_policy():
    plan = make_plan(("workload=monte_carlo", "eviction=lru", "+", "workload=monte_carlo", "eviction=lru", "seed=3"))
    assert sorted(one.name for one in plan.trials) == ["eviction=lru", "seed=3"]


def test_a_plus_adds_the_trials_of_two_lists():
    assert names(
        "workload=monte_carlo", "eviction=lru,gdsf", "+", "workload=monte_carlo", "eviction=lfu", "seed=3"
    ) == [
        "eviction=gdsf",
        "eviction=lfu seed=3",
        "eviction=lru",
    ]


@pytest.mark.parametrize("words", [("+",), ("eviction=lru", "+"), ("+", "eviction=lru")])
def test_a_plus_without_a_list_on_both_sides_is_refused(words):
    with pytest.raises(UsageError, match=r"\+ stands between two lists of overrides, such as eviction=lru"):
        make_plan(words)


def test_hydra_s_sweep_grammar_works():
    assert len(names("seed=range(0,3)")) == 9
    assert len(names("eviction=glob(*d*)", "workload=monte_carlo")) == 5
    assert len(names("eviction=choice(lru,gdsf)", "workload=monte_carlo")) == 2
    assert len(names("workload.requests=10,20", "workload=monte_carlo")) == 2


def test_a_saved_study_brings_its_own_axes_and_the_command_line_wins():
    assert len(names("experiment=policies")) == len(POLICIES) * 18
    assert len(names("experiment=policies", "eviction=lru", "workload=monte_carlo")) == 6


def test_buckets_and_precision_are_axes_of_the_sweep():
    plan = make_plan(("workload=monte_carlo", "buckets=none,pow2,linear,optimal", "precision=float32,bfloat16,float64"))
    assert len({planned.program_id for planned in plan.trials}) == len(plan.trials) == 12
    assert {(p.trial.buckets.name, p.trial.precision) for p in plan.trials} == {
        (b, p) for b in ("none", "pow2", "linear", "optimal") for p in ("float32", "bfloat16", "float64")
    }
    (profiled,) = make_plan(("workload=monte_carlo", "profiling=true")).trials
    (plain,) = make_plan(("workload=monte_carlo",)).trials
    assert profiled.program_id == plain.program_id
    assert profiled.trial_id != plain.trial_id


def test_the_order_is_shuffled_by_its_seed_and_changes_nothing_else():
    first, again, other = (make_plan(("seed=0,1,2,3", f"sweep.order_seed={n}")).trials for n in (0, 0, 1))
    assert [p.name for p in first] == [p.name for p in again] != [p.name for p in other]
    assert {p.trial.id for p in first} == {p.trial.id for p in other}


def together_and_alone(*axes, config=()):
    """Return the trials of one sweep, and those of a sweep for each combination."""
    many = {planned.trial for planned in make_plan(axes, *config).trials}
    split = [
        [f"{key}={value}" for value in values.split(",")] for key, _, values in (axis.partition("=") for axis in axes)
    ]
    alone = {make_plan(words, *config).trials[0].trial for words in itertools.product(*split)}
    return many, alone


def test_compositions_that_are_shared_equal_those_of_their_own():
    many, alone = together_and_alone(
        "workload=monte_carlo,iterative_solver", "eviction=lru,gdsf", "shapes=zipf,phased", "workload.requests=7,8"
    )
    assert many == alone
    assert len(many) == 16


def test_an_option_that_sets_more_than_its_own_group_is_composed_by_hydra(tmp_path):
    (tmp_path / "eviction").mkdir()
    (tmp_path / "eviction" / "tight.yaml").write_text(
        "# @package _global_\neviction: {name: lru}\nmemory_limit: 3MiB\n"
    )
    many, alone = together_and_alone(
        "workload=monte_carlo", "shapes=zipf,phased", "eviction=gdsf,tight,fifo", config=("sweep", str(tmp_path))
    )
    assert many == alone
    assert {(one.eviction.name, one.memory_limit) for one in many} == {
        ("gdsf", 32 * 1024**2), ("lru", 3 * 1024**2), ("fifo", 32 * 1024**2)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"name: zipf\n  smallest: 4\n", "shapes/mine.yaml, line 2, column 11, is no YAML: mapping values"),
     (b"smallest: 4\n", "shapes.name is missing"),
     (b"name: zip\n", "shapes.name must be one of 'uniform', 'zipf', 'phased', 'own', but is 'zip'"),
     (b"\xff\xfe", "a config is no text in UTF-8"),
     (b"", "shapes.name is missing"),
     (b"- 4\n", "shapes must be a valid dictionary")],
)  # fmt: skip
def test_a_config_that_is_damaged_is_refused_with_what_is_wrong_in_it(tmp_path, text, said):
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "mine.yaml").write_bytes(text)
    with pytest.raises(UsageError, match=f"^{re.escape(said)}|/{re.escape(said)}"):
        make_plan(("shapes=mine",), config_dir=str(tmp_path))


@pytest.mark.parametrize("flags", [["--dry-run"], ["--cfg", "job"]])
def test_a_config_that_is_no_yaml_is_refused_in_one_line(tmp_path, flags, capsys):
    (tmp_path / "own.yaml").write_text("defaults:\n  - sweep\n  eviction: lru\n")
    assert main(["--config-dir", str(tmp_path), "--config-name", "own", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match("sweep: .*/own.yaml, line 3, column 3, is no YAML: ", line)


def test_an_option_that_depends_on_another_group_is_composed_by_hydra(tmp_path):
    """Under ``lru`` each shape is as it is alone, under ``gdsf`` another option fills the same group."""
    (tmp_path / "special").mkdir()
    for name, requests in (("zipf_lru", 5), ("zipf_gdsf", 5), ("phased_lru", 5), ("phased_gdsf", 9)):
        text = f"# @package _global_\nworkload: {{requests: {requests}}}\n"
        (tmp_path / "special" / f"{name}.yaml").write_text(text)
    text = (CONF / "sweep.yaml").read_text()
    own = text.replace("  - experiment: null", "  - special: ${shapes}_${eviction}\n  - experiment: null")
    (tmp_path / "own.yaml").write_text(own)
    many, alone = together_and_alone(
        "workload=monte_carlo", "shapes=zipf,phased", "eviction=lru,gdsf", config=("own", str(tmp_path))
    )
    assert many == alone
    assert {one.workload.requests for one in many} == {5, 9}


def test_ids_are_of_the_content_and_leave_out_where_it_runs():
    (one,) = make_plan(("workload=monte_carlo",)).trials
    (same,) = make_plan(("workload=monte_carlo", "runner.timeout_seconds=5", "sweep.directory=elsewhere")).trials
    (other,) = make_plan(("workload=monte_carlo", "seed=1")).trials
    assert one.trial.id == same.trial.id != other.trial.id
    assert Trial.model_validate_json(one.trial.model_dump_json()).id == one.trial.id


def test_a_saved_config_is_planned_as_the_trial_it_came_from(tmp_path):
    import yaml

    (planned,) = make_plan(("workload=monte_carlo", "eviction=gdsf", "seed=3")).trials
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(planned.config))
    (again,) = make_plan((), "config", str(tmp_path)).trials
    assert again.trial == planned.trial
    (changed,) = make_plan(("seed=4",), "config", str(tmp_path)).trials
    assert changed.trial.seed == 4


BAD = [
    (
        "eviction=lruu",
        f"eviction must be one of {OPTIONS}, but is 'lruu'; did you mean lru\\?",
    ),
    (
        "eviction=null",
        f"eviction must be one of {OPTIONS}, but is null",
    ),
    ("eviction.name=[1]", "eviction must be one of none, .* but is \\[1\\]"),
    ("memory_limit=-5", "memory_limit must be positive, such as 64MiB, but is -5"),
    ("memory_limit=255KiB", "memory_limit must be at least 256KiB, .*, but is 255KiB; write null for no limit"),
    ("memory_limit=64parsecs", "memory_limit must be a size such as 64MiB .*, but is '64parsecs'"),
    ("memory_limit=[1,2]", "memory_limit must be a size .* but is \\[1, 2\\]"),
    ("nope=1", "nope=1: there is no setting nope; there are: buckets, costs, eviction"),
    ("limit=3MiB", "limit=3MiB: there is no setting limit; did you mean memory_limit\\?"),
    ("requests=10", "requests=10: there is no setting requests; did you mean workload.requests\\?"),
    ("workload.requets=10", "there is no setting workload.requets; did you mean workload.requests\\?"),
    ("eviction=LRU", "but is 'LRU'; did you mean lru\\?"),
    ("memory_lmit=3MiB", "memory_lmit=3MiB: there is no setting memory_lmit; did you mean memory_limit\\?"),
    ("workload.nope=1", "there is no setting workload.nope"),
    ("+nope=1", "there is no setting nope; see --help"),
    ("~seed", "seed is missing"),
    ("eviction=lru eviction=gdsf", "eviction is given twice, as eviction=lru and eviction=gdsf; write eviction=a,b"),
    (
        "eviction=glob(zz*)",
        f"eviction=glob\\(zz\\*\\) matches none of: {OPTIONS}",
    ),
    ("eviction=[lru,size_based]", "is one list; write eviction=lru,size_based to try each"),
    ("eviction=lru,lru", "two trials are equal"),
    ("experiment=policies,other", "experiment takes one study at a time"),
    ("seed=-1", "seed must be greater than or equal to 0, but is -1"),
    ("seed=abc", "seed must be a valid integer, but is 'abc'"),
    ("seed=interval(0,1)", "a sweep needs listed values, such as seed=0,1,2"),
    ("shapes.smallest=500", "shapes: smallest must be at most largest, 96, but is 500"),
    ("workload.requests=0", "workload.requests must be greater than 0, but is 0"),
    ("precision=half", "precision must be 'float32', 'bfloat16' or 'float64', but is 'half'"),
    ("profiling=maybe", "profiling must be a valid boolean, but is 'maybe'"),
    ("buckets=some", "buckets must be one of linear, none, optimal, pow2, but is 'some'"),
    ("buckets=linear buckets.count=0", "buckets.count must be greater than 0, but is 0"),
    ("runner.workers=1,2", "runner is the same for all trials of a sweep"),
    ("runner.workers=4096", "runner.workers must be at most \\d+, the number of CPU cores, but is 4096"),
    ("runner.gpus=[0] runner.device=cpu", "runner.gpus=\\[0\\] needs runner.device=gpu, but runner.device is cpu"),
    ("runner.gpus=[-1]", "runner.gpus.0 must be greater than or equal to 0, but is -1"),
    ("runner.gpu_memory_fraction=2", "runner.gpu_memory_fraction must be less than or equal to 1, but is 2"),
    ("runner.memory_limit=900TiB", "runner.memory_limit=900 TiB for \\d+ workers? is more than the .* of this machine"),
    ("runner.timeout_seconds=-1", "runner.timeout_seconds must be greater than 0, but is -1"),
    ("costs=no/such/file", "costs=no/such/file cannot be read \\(No such file or directory\\)"),
    ("costs=pyproject.toml", "costs must be a cost table"),
    ("persistent.mode=fresh", "persistent.directory=.* is for persistent=shared, but persistent is fresh; write pers"),
    ("persistent.directory=null", "persistent.directory must be given for persistent=shared, such as outputs/"),
    ("persistent.eviction=random", "persistent.eviction must be one of lru, lfu, fifo, .*, but is 'random'"),
    ("persistent.limit=-1", "persistent.limit must be positive, such as 64MiB, but is -1"),
    ("eviction=lru,", "eviction=lru, ends with a comma; write eviction=lru"),
    ("eviction=lru, gdsf", "eviction=lru, gdsf has a space in it; write eviction=lru,gdsf"),
    ("sweep.directory=a=b", "sweep.directory=a=b cannot be read; put its value in quotes of its own: 'sweep.dir"),
    ("eviction", "eviction cannot be read; write key=value"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_line_that_names_the_key_its_value_and_what_to_write(line, message):
    with pytest.raises(UsageError, match=message) as error:
        make_plan(tuple(line.split()))
    assert "\n" not in str(error.value)
