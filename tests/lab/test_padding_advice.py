"""Advice to pad, read off the signatures of a recording."""

from dataclasses import replace

import numpy as np
import pytest

from jaxcache import JitCache, Trace, choose_buckets
from jaxcache.lab.tuning.padding_advice import advise
from jaxcache.lab.tuning.report import Tuned, write_tuning
from jaxcache.lab.tuning.search import Recording, search

MIB = 1024**2


def recorded(labels, compile_seconds=1.0, call_seconds=1e-3):
    """A trace of calls with these signatures, each of one size and price, whose calls take equally long."""
    trace = Trace.from_arrays(
        keys=labels, size_bytes=[MIB] * len(labels), compile_seconds=[compile_seconds] * len(labels)
    )
    return replace(trace, columns={"finished_seconds": np.full(len(labels), call_seconds)})


def test_each_function_gets_its_own_buckets_and_the_others_stay_as_they_are():
    draw = np.random.default_rng(0)
    first, second = draw.integers(1, 50, 60), draw.integers(1, 9, 60)
    calls = zip(first, second, strict=True)
    labels = [label for n, k in calls for label in (f"f(float32[{n},4], int32[{n}])", f"g(float64[3,{k}])", "h()")]
    advice = advise(recorded(labels), ["lru"], 100 * MIB)
    assert [each.signature for each in advice.functions] == ["f(float32[n,4], int32[n])", "g(float64[3,n])"]
    for function, lengths in zip(advice.functions, (first, second), strict=True):
        alone = choose_buckets(lengths, call_cost=lambda n: 1e-3 + 0.0 * np.asarray(n), compile_cost=1.0)
        assert function.buckets == alone.buckets
        assert function.programs == len(set(lengths.tolist()))
        padded = np.asarray(function.buckets)[np.searchsorted(function.buckets, lengths)]
        assert function.more_elements == pytest.approx(padded.sum() / lengths.sum() - 1)
        assert f"jaxcache.bucketed({function.signature[0]}, cache=cache, buckets={function.buckets})" in function.call
    programs = [len(set(labels)), sum(len(each.buckets) for each in advice.functions) + 1]
    assert [advice.now.replayed.misses, advice.padded.replayed.misses] == programs
    assert f"{programs[1]} compiles in place of {programs[0]}" in str(advice)
    assert advice.padded.total_seconds == pytest.approx(programs[1] + 120e-3)


@pytest.mark.parametrize(
    "labels",
    [
        [f"f(float32[{n},{7 * n % 5}])" for n in range(1, 20)],  # two lengths that vary by themselves
        [f"f(float32[{n}], float32[{n + 1}])" for n in range(1, 20)],
        [f"f(float32[4], sizes=[{n}])" for n in range(1, 20)],  # a static value
        ["f(float32[4])", "f(float32[8])"],
        [f"f(float32[{n}])" for n in range(20)],  # an empty array
        [f"f(float32[{','.join('2' * n)}])" for n in range(5)],
        ["f(float32[3])"] * 20,
    ],
    ids=["independent", "shifted", "static", "two", "empty", "ranks", "fixed"],
)
def test_nothing_is_advised_where_no_single_length_varies(labels):
    assert advise(recorded(3 * labels), ["lru"], 100 * MIB) is None


def test_nothing_is_advised_that_saves_too_little_or_whose_prices_nobody_knows():
    labels = [f"f(float32[{n}])" for n in range(1, 20)]
    assert advise(recorded(labels), ["lru"], 100 * MIB) is not None
    lengths = np.arange(1, 20)
    trace = recorded(labels, compile_seconds=1e-3)
    assert advise(replace(trace, columns={"finished_seconds": lengths * 1.0}), ["lru"], 100 * MIB) is None
    assert advise(replace(trace, columns={}), ["lru"], 100 * MIB) is None


def test_calls_that_missed_do_not_say_how_long_calls_take():
    labels = [f"f(float32[{n}])" for n in [*range(1, 20), *range(1, 20)]]
    trace = recorded(labels, call_seconds=1e-3)
    slow_first = np.array([5.0] * 19 + [1e-3] * 19)
    tiers = np.array(["compiled"] * 19 + ["memory"] * 19, object)
    timed = replace(trace, columns={"finished_seconds": slow_first, "tier": tiers})
    advices = [advise(each, ["lru"], 100 * MIB) for each in (trace, timed)]
    assert str(advices[0]) == str(advices[1])
    assert advices[0].functions == advices[1].functions


def test_a_recording_of_a_program_that_pads_nothing_says_what_to_pad(tmp_path):
    with JitCache("64MiB", record=tmp_path / "trace.npz") as cache:
        total = cache.jit(lambda batch: (batch["x"] * batch["mask"]).sum())
        for n in (3, 5, 9, 4, 3, 8):
            total({"x": np.ones((n, 2), np.float32), "mask": np.ones((n, 1), np.float32)})
    advice = advise(Trace.load(tmp_path / "trace.npz"), ["lru", "gdsf"], 64 * MIB)
    (function,) = advice.functions
    assert function.signature.count("[n,") == 2
    assert function.programs == 5
    assert function.buckets[-1] == 9
    assert advice.padded.replayed.misses == len(function.buckets) < 5 == advice.now.replayed.misses


def test_the_file_of_a_setting_has_the_lengths_that_are_advised_and_what_they_compile(tmp_path):
    trace = recorded([f"f(float32[{n}])" for n in range(1, 20)], call_seconds=1e-3)
    tuning = search([Recording("none", trace, 0.1)], ["lru"], memory_limit=100 * MIB)
    advice = advise(trace, ["gdsf"], tuning.best.limit_bytes)
    write_tuning(Tuned("a program", "python -m flows.tune x", tuning, (), None, None, {}, padding=advice), tmp_path)
    cache = JitCache.from_file(tmp_path / "best.yaml")
    assert dict(cache.buckets) == {"f": advice.functions[0].buckets}
    seconds = advice.padded.replayed.compile_seconds
    assert f"with them gdsf at 100 MiB compiles for {seconds:.1f} s\n" in (tmp_path / "best.yaml").read_text()
