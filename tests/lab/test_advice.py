"""Problems planted in made-up results are found and named; healthy results get no advice."""

import pytest

from jaxcache.lab.analysis.suggestions import advise
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.result import FunctionCounts, Statistics

from .._support.results import COURSE, result, write_sweep

MIB = 1024**2


def statistics(hits=300, causes=None, function="solve", **changes):
    """Counts in which each miss took half a second, and what had been compiled before is repeated."""
    causes = causes or {"first_call": 1, "new_shape": 5}
    misses = sum(causes.values())
    repeats = sum(causes.get(cause, 0) for cause in ("evicted", "not_kept"))
    seconds = misses / 2
    counts = {
        "hits": hits, "misses": misses, "misses_by_cause": causes, "disk_hits": 0, "compiled": misses,
        "evictions": repeats, "rejected": 0, "bypassed": 0, "variants": 6, "live_bytes": MIB, "peak_bytes": MIB,
        "compile_seconds": seconds, "cost_seconds": seconds,
        "repeated_cost_seconds": repeats / 2, "compile_seconds_avoided": hits / 2,
        "by_function": {function: FunctionCounts(
            hits=hits, misses=misses, misses_by_cause=causes, compile_seconds=seconds
        )},
    }  # fmt: skip
    return Statistics(**{**counts, **changes})


def sweep_of(place, seeds=(0, 1, 2), costs=None, course=COURSE, **changes):
    made = [result(seed=seed, statistics=statistics(**changes), course=course) for seed in seeds]
    return read_sweep(write_sweep(place, made, costs=costs))


def rules(sweep):
    return [rule for one in advise(sweep.groups) for rule in one.suggestion.rule.split(" · ")]


def test_a_healthy_sweep_gets_no_advice(tmp_path):
    assert advise(sweep_of(tmp_path / "s").groups) == []


@pytest.mark.parametrize(
    ("cause", "rule"),
    [("weak_type", "weak type recompiles"), ("function_recreated", "function recreated recompiles")],
)  # fmt: skip
def test_a_storm_of_one_cause_is_found_with_its_function_and_the_way_out(tmp_path, cause, rule):
    sweep = sweep_of(tmp_path / "s", causes={"first_call": 1, cause: 40})
    (one,) = advise(sweep.groups)
    assert one.suggestion.rule == rule
    assert "solve compiles again and again" in one.suggestion.title
    assert one.suggestion.evidence.startswith("with seed 0, 40 of its 41 misses")
    assert one.suggestion.python
    assert one.saved_seconds == pytest.approx(20)
    assert one.expected == "at most 20.0 compile seconds a run saved"
    assert "counted, not tried" in one.checked


TIGHT = {
    "causes": {"first_call": 1, "new_shape": 9, "evicted": 60},
    "live_bytes": 2 * MIB,
    "peak_bytes": 2 * MIB,
    "variants": 2,
}


def test_a_limit_below_the_working_set_is_found_with_a_limit_that_holds_it(tmp_path):
    found = {one.suggestion.rule: one for one in advise(sweep_of(tmp_path / "s", **TIGHT).groups)}
    one = found["memory pressure · frequent evictions"]
    assert one.suggestion.override == "memory_limit=12MiB"
    assert one.saved_seconds == pytest.approx(30)


def test_scan_pollution_is_found_and_not_under_a_policy_that_admits_with_care(tmp_path):
    scan = dict.fromkeys(range(100, 140), 1) | {4: 50, 8: 40}
    course = COURSE.model_copy(update={"lengths": scan})
    sweep = sweep_of(tmp_path / "s", course=course, **TIGHT)
    one = next(one for one in advise(sweep.groups) if "scan pollution" in one.suggestion.rule)
    assert one.suggestion.override == "eviction=gdsf_admit"
    assert "40 of 42 lengths were asked for once" in one.suggestion.evidence
    careful = [result("gdsf_admit", statistics=statistics(**TIGHT), course=course)]
    assert "scan pollution" not in rules(read_sweep(write_sweep(tmp_path / "t", careful)))


def test_one_giant_entry_is_found_and_named(tmp_path):
    costs = {"solve(float32[9999])": (MIB, 2.0), **{f"solve(float32[{n}])": (50_000, 0.2) for n in range(9)}}
    sweep = sweep_of(tmp_path / "s", costs=costs, **TIGHT)
    one = next(one for one in advise(sweep.groups) if "giant entry" in one.suggestion.rule)
    assert "solve(float32[9999])" in one.suggestion.title
    assert "1 MiB, 50% of the limit" in one.suggestion.evidence
    even = {f"solve(float32[{n}])": (MIB, 0.2) for n in range(9)}
    assert "giant entry" not in rules(sweep_of(tmp_path / "t", costs=even, **TIGHT))


def test_missing_buckets_are_found(tmp_path):
    sweep = sweep_of(tmp_path / "s", hits=100, causes={"first_call": 1, "new_shape": 60})
    one = next(one for one in advise(sweep.groups) if one.suggestion.rule == "buckets")
    assert "bucketed(solve, cache=cache" in one.suggestion.python
    assert "60 of its 61 misses were new shapes" in one.suggestion.evidence


def test_what_the_sweep_has_tried_without_gain_is_not_suggested(tmp_path):
    made = []
    for seed in range(6):
        tight = statistics(**TIGHT)
        made.append(result("lru", seed, statistics=tight))
        made.append(result("lru", seed, limit="12MiB", statistics=tight.model_copy(update={"cost_seconds": 36.0})))
    found = advise(read_sweep(write_sweep(tmp_path / "s", made)).groups)
    assert "memory_limit=12MiB" not in {one.suggestion.override for one in found}  # it was tried, and did not help


def test_a_limit_that_is_set_already_is_not_suggested(tmp_path):
    made = [result(seed=seed, limit="12MiB", statistics=statistics(**TIGHT)) for seed in range(3)]
    found = advise(read_sweep(write_sweep(tmp_path / "s", made)).groups)
    assert not [one for one in found if one.suggestion.override.startswith("memory_limit")]


def test_a_rule_that_fires_for_few_seeds_is_not_advice(tmp_path):
    made = [result(seed=seed, statistics=statistics(**(TIGHT if seed == 0 else {}))) for seed in range(4)]
    assert advise(read_sweep(write_sweep(tmp_path / "s", made)).groups) == []


def test_advice_is_ranked_by_the_seconds_saved(tmp_path):
    causes = {"first_call": 1, "weak_type": 20, "new_dtype": 40, "evicted": 70}
    found = advise(sweep_of(tmp_path / "s", **{**TIGHT, "causes": causes}).groups)
    assert len(found) >= 3
    assert [one.saved_seconds for one in found] == sorted((one.saved_seconds for one in found), reverse=True)
    assert all(one.suggestion.evidence and one.expected and one.checked and one.suggestion.python for one in found)


def test_the_setting_that_is_asked_what_it_loses_is_the_best_on_the_seeds_that_settings_share(tmp_path):
    """Unpaired means would ask gdsf, which lacks the dear seed."""
    made = [result("lru", seed, statistics=statistics(**TIGHT, cost_seconds=9.0 + 90 * seed)) for seed in (0, 1)]
    made.append(result("gdsf", 0, statistics=statistics(**TIGHT, cost_seconds=20.0)))
    found = advise(read_sweep(write_sweep(tmp_path / "s", made)).groups)
    assert found
    assert {one.about for one in found} == {"monte_carlo, zipf, lru at 2 MiB"}


def test_a_policy_that_was_not_held_against_all_others_is_not_said_to_compile_least(tmp_path):
    made = [result(policy, seed, cost_seconds=seconds) for policy, seconds in (("lru", 20.0), ("gdsf", 10.0))
            for seed in range(6)]  # fmt: skip
    made += [result("sieve", 9, cost_seconds=5.0)]
    (one,) = [
        one for one in advise(read_sweep(write_sweep(tmp_path / "s", made)).groups) if "cheaper" in one.suggestion.rule
    ]
    assert one.suggestion.title == "gdsf compiles less than lru"


def test_what_was_tried_on_other_seeds_alone_counts_as_not_tried(tmp_path):
    made = [result(seed=seed, statistics=statistics(**TIGHT)) for seed in range(3)]
    made += [result(seed=9, limit="12MiB", statistics=statistics(**TIGHT))]
    found = advise(read_sweep(write_sweep(tmp_path / "s", made)).groups)
    (one,) = [one for one in found if one.suggestion.override == "memory_limit=12MiB"]
    assert "counted, not tried" in one.checked
