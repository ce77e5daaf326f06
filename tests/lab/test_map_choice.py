"""The policy of a limit is one that was shown to take less than the baseline, if any was."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from jaxcache.lab.analysis.blocks import Blocks
from jaxcache.lab.analysis.map_choice import _Chooser

SEEDS = range(20)
DRAWN = np.random.default_rng(0).normal(size=len(SEEDS))
SECONDS = {  # by policy, of each seed
    "lru": [10 + 0.1 * draw for draw in DRAWN],
    "steady": [9.9 + 0.1 * draw for draw in DRAWN],  # a hundredth less at each seed
    "noisy": [9 + 5 * draw - 5 * DRAWN.mean() for draw in DRAWN],  # a tenth less on the average
    "slower": [11 + 0.1 * draw for draw in DRAWN],
}


def chooser(*policies):
    def predict(name, _limit, seed):
        return SimpleNamespace(compile_seconds=max(0.1, SECONDS[name][seed]))

    seeds = SimpleNamespace(programs={seed: SimpleNamespace(predict=predict) for seed in SEEDS}, run=())
    joint = SimpleNamespace(
        working_set_bytes=100, buckets="none", ranked=lambda _limit: [*policies], is_close=lambda *_: True,
        seconds=lambda name, _limit: SECONDS[name][0], bound_seconds=lambda _limit: 1.0,
    )  # fmt: skip
    return _Chooser(cast("Any", joint), "lru", {"lru"}, cast("Any", {"program": seeds}), Blocks(), {})


@pytest.mark.parametrize(
    ("policies", "taken", "held", "is_less"),
    [
        (("noisy", "lru", "steady"), "steady", "steady", True),
        (("noisy", "lru", "slower"), "lru", "noisy", False),
        (("steady", "lru", "slower"), "steady", "steady", True),
    ],
)
def test_a_policy_that_is_shown_to_take_less_is_taken_before_one_that_takes_less_on_the_average(
    policies, taken, held, is_less
):
    point = chooser(*policies).point(50, "asked for")
    assert (point.policy, point.against.first, point.against.second) == (taken, held, "lru")
    assert (point.against.verdict == "less") == is_less


def test_the_baseline_is_taken_without_a_comparison_where_it_takes_the_fewest():
    point = chooser("slower", "lru").point(50, "asked for")
    assert (point.policy, point.against) == ("lru", None)
