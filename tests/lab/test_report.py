"""The report, from made-up result files with a known answer."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from jaxcache.lab.analysis.findings import Findings
from jaxcache.lab.analysis.recommendation import decide
from jaxcache.lab.analysis.suggestions import advise
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.layout import MANIFEST, REPORT, RESULT
from jaxcache.lab.report.rows import GROUP_COLUMNS, group_row, headline
from jaxcache.lab.report.terminal import print_summary
from jaxcache.lab.report.write import write_report

from .._support.results import failed, result, write_sweep
from .._support.trials import WORKLOADS


def policies(lru, gdsf, seeds=(0, 1, 2)):
    made = [result("lru", seed, cost_seconds=lru + seed) for seed in seeds]
    return made + [result("gdsf", seed, cost_seconds=gdsf + seed) for seed in seeds]


def cheaper(sweep):
    return [one for one in advise(sweep.groups) if one.suggestion.rule == "cheaper policy"]


def test_groups_are_means_over_seeds_beside_their_frame(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "s", policies(20.0, 10.0)))
    rows = [dict(zip(GROUP_COLUMNS, group_row(group), strict=True)) for group in sweep.groups]
    assert [(row["eviction"], row["seeds"], row["reference compile s"]) for row in rows] == [
        ("gdsf", "3", "11.00"), ("lru", "3", "21.00"),
    ]  # fmt: skip
    assert (rows[0]["no limit"], rows[0]["every call compiled"]) == ("2.00", "50.00")
    assert (rows[0]["hit rate"], rows[0]["misses"], rows[0]["limit"]) == ("60.0%", "40", "2 MiB")


def test_the_cheaper_policy_is_named_with_what_it_saves(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "s", policies(20.0, 10.0, seeds=range(6))))
    (one,) = cheaper(sweep)
    assert one.suggestion.title == "gdsf compiles least"
    assert one.expected == "10.0 (95% interval 10.0 to 10.0) compile seconds less than lru"
    assert one.suggestion.evidence.startswith("reference compile seconds over the limits tried (2 MiB): 0.5")
    assert (one.suggestion.override, one.suggestion.python) == ("eviction=gdsf", 'JitCache(eviction="gdsf")')
    assert "exact sign-flip test over 6 seeds" in one.checked
    assert decide(sweep.groups).sentence == (
        "Take gdsf with a limit of 2 MiB: 12.5 compile seconds a run, 10.0 less than lru at the same limit (95% "
        "interval 10.0 to 10.0, 6 repeats); with no limit, as under jax.jit alone, 2.0."
    )


def test_few_repeats_carry_no_claim_and_say_what_would(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "s", policies(20.0, 10.0, seeds=(0, 1, 2))))
    assert cheaper(sweep) == []
    decision = decide(sweep.groups)
    assert not decision.claimed
    assert decision.sentence.startswith(
        "No policy is shown to be better than the rest; gdsf with a limit of 2 MiB took the fewest seconds: 11.0"
    )
    assert "there are 3 repeats, and 6 are needed" in decision.notes[0]
    assert "seed=0,1,2,3,4,5 would settle it" in decision.notes[0]


def test_equal_policies_have_no_winner(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "s", policies(10.0, 10.0, seeds=range(8))))
    assert cheaper(sweep) == []
    decision = decide(sweep.groups)
    assert not decision.claimed
    assert "lru with a limit of 2 MiB took the fewest seconds, as did gdsf: " in decision.sentence
    assert decision.notes[0].startswith("All policies took the same seconds in every trial")


def test_policies_that_had_nothing_to_evict_are_called_that(tmp_path):
    made = [result(name, seed, misses=8) for name in ("lru", "gdsf") for seed in range(2)]  # as many as are held
    decision = decide(read_sweep(write_sweep(tmp_path / "s", made)).groups)
    assert decision.notes[0].startswith("Nothing was evicted, so policies cannot differ")


def test_a_policy_that_wins_for_some_seeds_only_is_no_winner(tmp_path):
    made = [result("lru", seed, cost_seconds=30 if seed % 2 else 10) for seed in range(8)]
    made += [result("gdsf", seed, cost_seconds=10 if seed % 2 else 12) for seed in range(8)]
    assert cheaper(read_sweep(write_sweep(tmp_path / "s", made))) == []


def test_the_smallest_limit_that_loses_little_is_chosen(tmp_path):
    made = [
        result("lru", seed, limit=limit, cost_seconds=seconds)
        for seed in range(2) for limit, seconds in (("2MiB", 30.0), ("8MiB", 4.0), ("32MiB", 2.0))
    ]  # fmt: skip
    decision = decide(read_sweep(write_sweep(tmp_path / "s", made)).groups)
    assert decision.override == "eviction=lru memory_limit=8MiB"
    assert decision.python == 'jaxcache.JitCache("8MiB", eviction="lru")'
    assert "all but 4% of what a cache without a limit saves" in decision.notes[-1]


def test_a_policy_that_beats_no_one_is_not_claimed_though_another_does(tmp_path):
    """b is lowest on average but noisy, a is surely less than c: to take b is no claim."""
    noise = [0.2, 1.5, 0.2, 1.5, 0.2, 1.5, 0.2, 1.5]
    made = [result("lru", seed, cost_seconds=8.0) for seed in range(8)]
    made += [result("fifo", seed, cost_seconds=10.0) for seed in range(8)]
    made += [result("gdsf", seed, cost_seconds=8.0 * noise[seed]) for seed in range(8)]
    decision = decide(read_sweep(write_sweep(tmp_path / "s", made)).groups)
    assert not decision.claimed
    assert decision.override.startswith("eviction=gdsf")


def test_the_line_to_paste_has_the_buckets(tmp_path):
    made = result()
    course = made.course.model_copy(update={"buckets": (8, 16, 32)})
    decision = decide(read_sweep(write_sweep(tmp_path / "s", [made.model_copy(update={"course": course})])).groups)
    cache = 'jaxcache.JitCache("2MiB", eviction="lru")'
    assert decision.python == f"jaxcache.bucketed(f, cache={cache}, buckets=(8, 16, 32))"


def test_a_limit_at_which_seconds_still_fall_is_called_that(tmp_path):
    made = [result("lru", 0, limit=limit, cost_seconds=s) for limit, s in (("2MiB", 30.0), ("4MiB", 20.0))]
    decision = decide(read_sweep(write_sweep(tmp_path / "s", made)).groups)
    assert "compile seconds still fall there: try a larger one" in decision.notes[-1]


def test_settings_of_a_workload_that_differ_are_told_apart(tmp_path):
    longer = {**WORKLOADS["monte_carlo"], "requests": 99}
    sweep = read_sweep(write_sweep(tmp_path / "s", [result(), result(workload=longer)]))
    assert [group.program.workload for group in sweep.groups] == ["monte_carlo requests=8", "monte_carlo requests=99"]


def test_the_report_has_tables_plot_suggestions_failures_and_conditions(tmp_path):
    place = write_sweep(tmp_path / "s", [*policies(20.0, 10.0), failed(seed=7)], ended="failed")
    write_report(place)
    text = (place / REPORT).read_text()
    assert "6 of 7 trials succeeded, 1 failed." in text
    assert "![Compile seconds of every policy over the memory limit](map.svg)" in text
    assert "**lru 2 MiB monte_carlo zipf seed 7**" in text
    assert "the process was killed by SIGKILL" in text
    assert "`python -m flows.sweep eviction=lru,gdsf`" in text
    assert "persistent cache: off" in text
    for heading in ("What to change", "By setting, measured", "Failed trials", "Trials", "Conditions"):
        assert f"\n## {heading}" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count(" | ") for line in tables[:4]}) == 1
    svg = (place / "map.svg").read_text()
    assert all(word in svg for word in ("every call compiled: 50.0 s", "no limit: 2.0 s", "gdsf", "memory limit (MiB)"))
    assert (place / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_made_twice_is_the_same(tmp_path):
    place = write_sweep(tmp_path / "s", policies(20.0, 10.0))
    write_report(place)
    first = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    write_report(place)
    assert first == {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("results", "said"), [([], "0 of 0 trials succeeded"), ([failed()], "0 of 1 trial succeeded, 1 failed")]
)
def test_an_empty_or_failed_sweep_gives_a_report_that_says_so(tmp_path, results, said):
    place = write_sweep(tmp_path / "s", results)
    sweep = write_report(place).sweep
    text = (place / REPORT).read_text()
    assert headline(sweep) == said
    assert "No trial succeeded, so there is nothing to compare." in text
    assert "map.svg" not in text


def test_a_long_sweep_has_its_first_trials_in_the_report_and_all_in_the_tables(tmp_path):
    place = write_sweep(tmp_path / "s", [result(seed=seed) for seed in range(120)])
    write_report(place)
    text = (place / REPORT).read_text()
    assert text.count("| lru 2 MiB monte_carlo zipf seed") == 100
    assert "20 more trials: see results.csv." in text


def test_files_that_cannot_be_read_are_named(tmp_path):
    place = write_sweep(tmp_path / "s", policies(20.0, 10.0))
    victim = next(iter(sorted(place.glob(f"trials/*/{RESULT}"))))
    victim.write_text(victim.read_text()[:100])
    write_report(place)
    text = (place / REPORT).read_text()
    assert f"`{victim.relative_to(place)}` is no JSON, as if cut short" in text
    assert "5 of 6 trials succeeded, 1 has a damaged result" in text
    assert f"python -m flows.sweep sweep.resume={place} runs them again" in text


def test_a_damaged_result_is_named_in_every_report_with_what_to_do(tmp_path):
    place = write_sweep(tmp_path / "s", policies(20.0, 10.0))
    victim = next(iter(sorted(place.glob(f"trials/*/{RESULT}"))))
    victim.write_text("")
    findings = write_report(place)
    printed = io.StringIO()
    print_summary(findings, Console(file=printed, width=400))
    named, remedy = str(victim.relative_to(place)), f"python -m flows.sweep sweep.resume={place}"
    for text in (printed.getvalue(), (place / REPORT).read_text(), (place / "report.html").read_text()):
        assert named in text
        assert "is empty" in text
        assert remedy in text
    assert headline(findings.sweep) == "5 of 6 trials succeeded, 1 has a damaged result"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda told: told.update(statistics=None), "has no statistics, though its trial completed"),
        (lambda told: told.update(timing=None), "has no timing, though its trial completed"),
        (lambda told: told.update(trial_id="0" * 12), "is the result of trial 000000000000, not of the directory"),
        (
            lambda told: told["statistics"].update(cost_seconds=float("inf")),
            "statistics.cost_seconds: must be a finite",
        ),
        (lambda told: told["statistics"].update(cost_seconds=-3.0), "statistics.cost_seconds: must be a finite number"),
        (lambda told: told["statistics"].update(misses="many"), "statistics.misses: input should be a valid integer"),
        (lambda told: told["timing"].update(p99_seconds=float("nan")), "timing.p99_seconds: must be a finite number"),
        (lambda told: told.update(status="running"), "status: input should be 'completed' or 'failed'"),
    ],
)
def test_a_result_that_cannot_be_is_damaged_and_its_trial_counts_as_not_run(tmp_path, change, reason):
    place = write_sweep(tmp_path / "s", policies(20.0, 10.0))
    victim = next(iter(sorted(place.glob(f"trials/*/{RESULT}"))))
    told = json.loads(victim.read_text())
    change(told)
    victim.write_text(json.dumps(told))
    sweep = write_report(place).sweep
    assert f"`{victim.relative_to(place)}` {reason}" in (place / REPORT).read_text()
    assert (len(sweep.results), len(sweep.damaged)) == (5, 1)


def test_a_report_is_made_and_printed_without_importing_jax(tmp_path):
    place = write_sweep(tmp_path / "s", policies(20.0, 10.0))
    report = """
import sys
from pathlib import Path
from jaxcache.lab.report.terminal import print_summary, terminal
from jaxcache.lab.report.write import write_report

print_summary(write_report(Path(sys.argv[1])), terminal())
print("jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", report, place], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert (place / "map.png").exists()


def test_a_directory_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"is not the directory of a sweep: it has no {MANIFEST}"):
        write_report(tmp_path)


def test_the_terminal_summary(tmp_path):
    findings = Findings(read_sweep(write_sweep(tmp_path / "s", [*policies(20.0, 10.0, seeds=(0,)), failed(seed=7)])))
    printed = io.StringIO()
    print_summary(findings, Console(file=printed, width=150))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    assert lines[0].startswith("No policy is shown to be better than the rest")
    table = lines.index("limit eviction compile s hits misses")
    assert lines[table + 1 : table + 3] == ["2 MiB gdsf 10.00 60.0% 40", "2 MiB lru 20.00 60.0% 40"]
    assert "✗ lru 2 MiB monte_carlo zipf seed 7: the process was killed by SIGKILL" in printed.getvalue()


def test_the_terminal_summary_of_nothing_is_empty(tmp_path):
    printed = io.StringIO()
    print_summary(Findings(read_sweep(write_sweep(tmp_path / "s", []))), Console(file=printed))
    assert printed.getvalue() == ""


def test_directories_that_differ_are_told_apart_by_what_differs(tmp_path):
    settings = [{"mode": "fresh", "limit": limit} for limit in ("1MiB", "2MiB")]
    groups = read_sweep(write_sweep(tmp_path / "s", [result(persistent=one) for one in settings])).groups
    assert [group.program.persistent for group in groups] == ["fresh limit=1048576", "fresh limit=2097152"]
    (alone,) = read_sweep(write_sweep(tmp_path / "t", [result(persistent=settings[0])])).groups
    assert alone.program.persistent == "fresh"
