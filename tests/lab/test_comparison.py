"""The statistics, on numbers whose answer is known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, wilcoxon

from jaxcache.lab.analysis.paired_tests import (
    LEVEL,
    compare,
    correct,
    holm,
    leaders,
    paired_interval,
    repeats_needed,
    reverse,
    sign_flip_p,
)  # fmt: skip

DIFFERENCES = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=2, max_size=8)


def policies(rng, seeds, effect=0.0, cells=3, names=("a", "b", "c")):
    """Seconds of policies that differ by noise, that trials of a seed share in part, and ``a`` by an effect."""
    shared = {seed: rng.normal(0, 0.2) for seed in range(seeds)}
    return {
        name: {
            (cell, seed): 10 * math.exp(shared[seed] + rng.normal(0, 0.1) + (effect if name == names[0] else 0.0))
            for cell in range(cells) for seed in range(seeds)
        }
        for name in names
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES)
def test_the_p_value_is_that_of_scipys_permutation_test(differences):
    def mean(x, axis):
        return np.round(np.mean(x, axis=axis), 9)

    theirs = permutation_test(
        (np.asarray(differences),), mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )  # fmt: skip
    assert sign_flip_p(differences) == pytest.approx(theirs.pvalue)


def test_with_ranks_for_differences_it_is_wilcoxons_signed_rank_test():
    ranks = [1.0, 2.0, -3.0, 4.0, 5.0, 6.0, 7.0]
    assert sign_flip_p(ranks) == pytest.approx(wilcoxon(ranks, method="exact").pvalue)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=6, max_size=8), st.floats(-3, 3))
def test_the_interval_is_what_the_test_does_not_refuse(differences, shift):
    interval = paired_interval(differences)
    assert interval.low <= interval.mean <= interval.high
    inside = sign_flip_p([one - shift for one in differences]) > LEVEL
    if abs(shift - interval.low) > 1e-6 and abs(shift - interval.high) > 1e-6:
        assert inside == (interval.low < shift < interval.high)


def test_five_repeats_have_no_interval_of_95_percent_and_six_have():
    assert paired_interval([1.0, 2.0, 3.0, 4.0, 5.0]).low is None
    assert (paired_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).low, paired_interval([1.0] * 6).high) == (1.0, 1.0)


@pytest.mark.parametrize("repeats", [6, 8, 20])
def test_intervals_cover_as_often_as_they_say(repeats):
    rng = np.random.default_rng(repeats)
    runs = 400
    covered = 0
    for _ in range(runs):
        interval = paired_interval((1.0 + rng.standard_normal(repeats)).tolist())
        covered += interval.low <= 1.0 <= interval.high
    assert covered / runs >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / runs)


def test_holms_correction_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_repeats_that_are_needed_are_enough_and_fewer_are_not():
    for comparisons in (1, 3, 10, 55):
        needed = repeats_needed(comparisons)
        assert sign_flip_p([1.0] * needed) * comparisons <= LEVEL < sign_flip_p([1.0] * (needed - 1)) * comparisons
    assert repeats_needed(1) == 6


def test_a_difference_that_is_there_is_found_with_its_size():
    found = compare(policies(np.random.default_rng(1), 8, effect=math.log(0.8)))
    assert leaders(found) == {"a"}
    against_b = next(one for one in found if (one.first, one.second) == ("a", "b"))
    assert against_b.verdict == "less"
    assert against_b.ratio.low < 0.8 < against_b.ratio.high
    assert against_b.saved_seconds.mean > 1
    assert reverse(against_b).verdict == "more"
    assert reverse(against_b).ratio.low == pytest.approx(1 / against_b.ratio.high)


@pytest.mark.parametrize("seeds", [3, 7, 12])
def test_equal_policies_have_a_winner_no_more_often_than_the_level(seeds):
    runs = 100
    winners = 0
    for run in range(runs):
        found = compare(policies(np.random.default_rng([run, seeds]), seeds))
        winners += any(one.verdict in ("less", "more") for one in found)
    assert winners / runs <= LEVEL + 2 * math.sqrt(LEVEL * (1 - LEVEL) / runs)


def test_too_few_repeats_are_told_from_no_difference():
    few = compare(policies(np.random.default_rng(1), 3, effect=-1.0))
    assert {one.verdict for one in few} == {"too few repeats"}
    assert leaders(few) == {"a", "b", "c"}
    enough = compare(policies(np.random.default_rng(1), 8))
    assert {one.verdict for one in enough} == {"no difference seen"}


def test_missing_trials_are_counted_and_their_pairs_left_out():
    measured = policies(np.random.default_rng(2), 8, effect=math.log(0.7), names=("a", "b"))
    for key in [(0, 1), (2, 5)]:
        del measured["a"][key]
    (found,) = compare(measured)
    assert (found.missing, found.repeats, found.verdict) == (2, 8, "less")
    for cell in range(3):
        del measured["b"][cell, 7]
    (found,) = compare(measured)
    assert (found.missing, found.repeats) == (5, 7)


def test_a_missing_trial_that_is_dear_does_not_make_a_winner():
    """Unpaired means would: the one that lacks its dearest seed would look cheaper."""
    measured = {name: {(0, seed): 10.0 * (100 if seed == 7 else 1) for seed in range(8)} for name in "ab"}
    del measured["a"][0, 7]
    (found,) = compare(measured)
    assert (found.ratio.mean, found.verdict) == (1.0, "no difference seen")


def test_options_without_a_cell_in_common_are_not_compared():
    assert compare({"a": {(0, 0): 1.0}, "b": {(1, 0): 1.0}}) == []


def test_a_baseline_gives_one_comparison_an_option():
    found = compare(policies(np.random.default_rng(3), 4), baseline="b")
    assert [(one.first, one.second) for one in found] == [("a", "b"), ("c", "b")]


def test_a_cell_without_the_baseline_has_no_comparison():
    assert compare({"a": {("x", 0): 1.0}, "b": {("x", 0): 2.0}}, baseline="lru") == []


def test_the_order_in_which_trials_come_does_not_matter():
    measured = policies(np.random.default_rng(4), 6)
    shuffled = {name: dict(reversed(values.items())) for name, values in measured.items()}
    assert compare(measured) == compare(shuffled)


def test_more_comparisons_need_more_repeats():
    found = compare(policies(np.random.default_rng(5), 6, effect=-1.0, names=("a", "b")))
    assert found[0].verdict == "less"
    assert {one.verdict for one in correct(list(itertools.chain.from_iterable([found] * 3)))} == {"too few repeats"}
