import dataclasses
import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest

import jaxcache
from jaxcache import CacheStats, FunctionStats, JitCache, suggest
from jaxcache._advice.suggestions import Thresholds
from jaxcache._calls.difference import Difference
from jaxcache._calls.misses import Miss

MIB = 1024**2
HEALTHY = CacheStats(
    hits=950, misses=50, misses_by_cause={"first_call": 2, "new_shape": 48}, compiled=50, variants=50,
    live_bytes=40 * MIB, peak_bytes=40 * MIB, limit_bytes=64 * MIB, compile_seconds=20, cost_seconds=20,
    compile_seconds_avoided=400,
)  # fmt: skip
TIGHT = CacheStats(
    hits=300, misses=700, misses_by_cause={"first_call": 2, "new_shape": 48, "evicted": 650}, compiled=700,
    evictions=690, variants=10, live_bytes=8 * MIB, peak_bytes=8 * MIB, limit_bytes=8 * MIB, compile_seconds=280,
    cost_seconds=280, repeated_cost_seconds=260, compile_seconds_avoided=120,
)  # fmt: skip


def test_a_healthy_cache_gets_no_suggestion():
    assert suggest(HEALTHY) == []


def test_too_few_calls_carry_no_suggestion():
    assert suggest(CacheStats(hits=1, misses=15, misses_by_cause={"new_shape": 15}, cost_seconds=100)) == []


def test_a_limit_below_the_working_set_is_named_with_a_limit_that_holds_it():
    found = {one.rule: one for one in suggest(TIGHT, "lru")}
    assert set(found) == {"low hit rate · memory pressure · frequent evictions", "expensive compiles"}
    pressure = found["low hit rate · memory pressure · frequent evictions"]
    assert "50 signatures of about 40 MiB in all share 8 MiB" in pressure.evidence
    assert pressure.effect == "at most 260.0 of 280.0 compile seconds saved"
    assert pressure.override == "memory_limit=48MiB"
    assert pressure.evidence.startswith("30% hits; of 700 misses 50 were new signatures, 650 repeats; ")
    assert "690 evictions in 1000 calls; 650 misses" in pressure.evidence
    assert found["expensive compiles"].override == "eviction=gdsf"


def test_a_policy_in_use_is_not_suggested_again():
    (expensive,) = [one for one in suggest(TIGHT, "gdsf") if one.rule == "expensive compiles"]
    assert expensive.override == "persistent=shared"
    assert expensive.python.startswith("jaxcache.use_directory(")


def test_too_many_shapes_are_told_from_too_little_memory():
    stats = CacheStats(
        hits=10, misses=90, misses_by_cause={"first_call": 1, "new_shape": 89}, variants=90, live_bytes=MIB,
        peak_bytes=MIB, limit_bytes=64 * MIB, compile_seconds=9, cost_seconds=9,
    )  # fmt: skip
    (only,) = suggest(stats)
    assert only.rule == "low hit rate"
    assert "fewer shapes" in only.title


@pytest.mark.parametrize("size", [1, MIB, 10 * MIB + 1, 777 * MIB])
def test_a_suggested_limit_holds_what_it_must_and_not_much_more(size):
    from jaxcache import parse_size
    from jaxcache._advice.suggestions import limit_for

    assert size * 1.05 <= parse_size(limit_for(size)) <= max(2 * MIB, size * 1.6)


def planted(name, **counts):
    """A cache in which one function had these misses, half a second each."""
    misses = sum(counts.values())
    one = FunctionStats(hits=5, misses=misses, misses_by_cause=counts, compile_seconds=misses / 2)
    return CacheStats(
        hits=5, misses=misses, misses_by_cause=counts, variants=misses, compiled=misses, live_bytes=MIB,
        peak_bytes=MIB, limit_bytes=64 * MIB, compile_seconds=misses / 2, cost_seconds=0.1 * misses,
        by_function={name: one},
    )  # fmt: skip


@pytest.mark.parametrize("cause", ["weak_type", "function_recreated", "static_value", "new_dtype", "tree_structure"])
def test_a_storm_is_named_with_its_function_its_share_and_the_way_out(cause):
    found = {one.rule: one for one in suggest(planted("solve", first_call=1, **{cause: 30}))}
    storm = found[f"{cause.replace('_', ' ')} recompiles"]
    assert storm.title.startswith("solve compiles again and again")
    assert storm.evidence.startswith("30 of its 31 misses")
    assert storm.effect == "about 15.0 of 15.5 compile seconds saved"
    assert suggest(planted("f", **{cause: 1})) == []  # half a second


def test_many_shapes_of_few_calls_are_worth_buckets():
    found = {one.rule: one for one in suggest(planted("solve", first_call=1, new_shape=40))}
    assert "bucketed(solve, cache=cache" in found["buckets"].python
    assert found["buckets"].effect == "at most 20.0 of 20.5 compile seconds saved, less the padding"


def test_long_compiles_that_the_next_process_repeats_are_worth_a_directory():
    stats = planted("solve", first_call=1, new_shape=70)
    (told,) = [one for one in suggest(stats) if one.rule == "persistent directory"]
    assert told.evidence == "71 programs were compiled, 35.5 s of it for the first time; none was loaded from disk"
    assert not [one for one in suggest(replace(stats, disk_hits=1)) if one.rule == "persistent directory"]


def test_a_real_storm_of_weak_types_is_found():
    import jax.numpy as jnp

    cache = JitCache()

    def slow(x, y):
        return jnp.tanh(x @ x) + y

    f = cache.jit(slow)
    for n in range(2, 14):
        x = jnp.ones((n, n))
        f(x, jnp.float32(1)), f(x, 1.0)
    stats = cache.stats()
    assert stats.misses_by_cause["weak_type"] == 12
    each = {cause: 2.0 * count for cause, count in stats.misses_by_cause.items()}  # as if each program took two seconds
    one = replace(stats.by_function["slow"], compile_seconds=48.0, seconds_by_cause=each)
    (storm,) = [found for found in suggest(replace(stats, by_function={"slow": one})) if "weak type" in found.rule]
    assert storm.evidence.endswith("y: was strong, is weak")


DISK = Thresholds(in_use=True, min_compile_seconds=1.0, min_entry_bytes=0)


def test_thresholds_that_keep_everything_off_the_disk_are_named():
    stats = planted("solve", first_call=1, new_shape=70)
    (told,) = [one for one in suggest(stats, thresholds=DISK) if one.rule == "disk thresholds"]
    assert told.python == 'jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)'
    assert told.evidence.endswith("they take about 0.50 s each, and only what takes 1 s is written")
    assert told.saved_seconds == 35.5
    assert "persistent directory" not in {one.rule for one in suggest(stats, thresholds=DISK)}
    large = replace(DISK, min_compile_seconds=0.0, min_entry_bytes=MIB)
    (told,) = [one for one in suggest(stats, thresholds=large) if one.rule == "disk thresholds"]
    assert told.python == 'jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)'


@pytest.mark.parametrize(
    "change", [{"in_use": False}, {"min_compile_seconds": 0.1}, {"min_compile_seconds": 0.0, "min_entry_bytes": -1}]
)
def test_thresholds_that_let_programs_through_are_not(change):
    stats = planted("solve", first_call=1, new_shape=70)
    assert "disk thresholds" not in {one.rule for one in suggest(stats, thresholds=replace(DISK, **change))}
    assert "disk thresholds" not in {one.rule for one in suggest(replace(stats, disk_hits=1), thresholds=DISK)}


def test_the_thresholds_of_this_process_are_read(tmp_path):
    import jax

    before = {name: getattr(jax.config, name) for name in ("jax_compilation_cache_dir",)}
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        assert Thresholds.now().in_use
        found = {one.rule for one in suggest(planted("solve", first_call=1, new_shape=70))}
        assert "disk thresholds" in found  # JAX's default keeps what took a second
    finally:
        jax.config.update("jax_compilation_cache_dir", before["jax_compilation_cache_dir"])
    assert not Thresholds.now().in_use


def test_suggestions_are_ranked_by_the_seconds_saved():
    seconds = [one.saved_seconds for one in suggest(TIGHT, "lru")]
    assert seconds == sorted(seconds, reverse=True)
    assert min(seconds) > 0


# The first suggestion fits the cause that took most of the seconds.

LIKELY = {
    "function_recreated": "wrap the function once",
    "static_value": "as an array instead of a static argument",
    "tree_structure": "the same containers",
    "other": "static data",
    "weak_type": "arrays of one dtype",
    "new_dtype": "one dtype",
    "config_context": "configuration once",
    "device_or_sharding": "one device or sharding",
    "own_key": "fewer values",
}


@pytest.mark.parametrize(("cause", "words"), LIKELY.items())
@pytest.mark.parametrize("misses", [29, 59])
def test_the_first_suggestion_fits_the_cause_of_all_but_one_miss(cause, words, misses):
    found = suggest(planted("solve", first_call=1, **{cause: misses}))
    assert words in found[0].title
    assert not [one for one in found if "pad" in one.title or "pad" in one.python]


def test_most_misses_of_a_run_are_named_also_if_they_were_quick():
    cache = JitCache()
    for _ in range(25):
        cache.jit(lambda x: x + 1)(np.ones(3, np.float32))
    stats = cache.stats()
    quick = {"first_call": 0.01, "function_recreated": 0.24}
    one = replace(stats.by_function["<lambda>"], seconds_by_cause=quick, compile_seconds=0.25)
    (found,) = suggest(replace(stats, by_function={"<lambda>": one}, compile_seconds=0.25, cost_seconds=0.25))
    assert found.rule == "function recreated recompiles"


def function(misses, seconds, hits=0, **counts):
    each = {cause: seconds * count / misses for cause, count in counts.items()}
    return FunctionStats(
        hits=hits, misses=misses, misses_by_cause=counts, compile_seconds=seconds, seconds_by_cause=each
    )


def of(functions, **changes):
    """The cache of these functions."""
    each = functions.values()
    causes = {}
    for one in each:
        for cause, count in one.misses_by_cause.items():
            causes[cause] = causes.get(cause, 0) + count
    seconds = sum(one.compile_seconds for one in each)
    values = {
        "hits": sum(one.hits for one in each), "misses": sum(one.misses for one in each), "misses_by_cause": causes,
        "compiled": sum(one.misses for one in each), "compile_seconds": seconds, "cost_seconds": seconds,
        "by_function": functions,
    }  # fmt: skip
    return CacheStats(**{**values, **changes})


@pytest.mark.parametrize("hits", [0, 4, 5000])
def test_three_functions_that_compile_twice_for_a_weak_type_get_one_suggestion(hits):
    each = function(2, 120.0, hits, first_call=1, weak_type=1)
    found = suggest(of({"embed": each, "loss": each, "step": each}, run_seconds=400.0))
    assert found[0].rule == "weak type recompiles"
    assert found[0].saved_seconds == pytest.approx(180)
    assert found[0].title.startswith("embed, loss, step compile again for one cause, weak type: convert Python numbers")
    assert "embed: 1 of its 2 misses, 60.0 s" in found[0].evidence
    assert "compiling was 90% of the 400.0 s" in found[0].evidence
    assert found[0].effect == "about 180.0 of 360.0 compile seconds saved"
    assert len({one.python for one in found}) == len(found)


@pytest.mark.parametrize(("shapes", "calls", "seconds"), [(56, 300, 21.7), (74, 400, 30.0), (5, 20, 100.0)])
def test_shapes_that_are_most_of_the_run_are_worth_buckets(shapes, calls, seconds):
    one = function(shapes, seconds, calls - shapes, first_call=1, new_shape=shapes - 1)
    for run_seconds in (0.0, seconds * 1.5):
        found = suggest(of({"solve": one}, run_seconds=run_seconds))
        assert found[0].rule == "buckets"
        assert found[0].saved_seconds == pytest.approx(seconds * (shapes - 1) / shapes)


def test_programs_that_are_hit_often_need_no_buckets_but_where_compiling_is_much_of_the_run():
    one = function(20, 10.0, 5000, first_call=1, new_shape=19)
    assert suggest(of({"solve": one}, run_seconds=1000.0)) == []
    assert suggest(of({"solve": one}, run_seconds=15.0))[0].rule == "buckets"


def test_seconds_decide_and_not_the_number_of_misses():
    quick = function(61, 6.1, first_call=1, static_value=60)
    slow = function(3, 60.0, first_call=1, new_dtype=2)
    found = suggest(of({"quick": quick, "slow": slow}))
    assert found[0].rule == "new dtype recompiles"
    assert [one.saved_seconds for one in found] == sorted((one.saved_seconds for one in found), reverse=True)
    assert "static value recompiles" in {one.rule for one in found}


def test_the_seconds_of_a_cause_are_its_own_and_no_average():
    one = replace(
        function(31, 100.0, first_call=1, weak_type=30), seconds_by_cause={"first_call": 99.9, "weak_type": 0.1}
    )
    assert "weak type recompiles" not in {one.rule for one in suggest(of({"solve": one}))}


def new_shapes(name, lengths, *places):
    """Misses that tell of these lengths, one after the other."""
    for before, after in itertools.pairwise(lengths):
        differences = tuple(Difference("new_shape", place, str(before), str(after)) for place in places)
        yield Miss(f"{name}(float32[{after}])", "new_shape", "why", differences)


def buckets_of(places, lengths=range(65, 139)):
    one = function(len(lengths), 30.0, 326, first_call=1, new_shape=len(lengths) - 1)
    misses = tuple(new_shapes("solve", lengths, *places))
    return next(one for one in suggest(of({"solve": one}, recent_misses=misses)) if one.rule == "buckets")


def test_lengths_that_are_known_come_with_buckets_that_would_do():
    found = buckets_of(["x axis 0"])
    assert found.python == "solve = bucketed(solve, cache=cache, buckets=(138,), axes={'x': 0})"
    assert found.saved_seconds == pytest.approx(30 * 73 / 74 * 72 / 73)
    assert "74 lengths from 65 to 138, of x axis 0" in found.evidence
    added = sum(138 - n for n in range(65, 139)) / sum(range(65, 139))
    assert f"for {added:.0%} more elements" in found.effect
    wide = buckets_of(["x axis 0"], range(1, 75))
    assert wide.python == "solve = bucketed(solve, cache=cache, buckets=(37, 74), axes={'x': 0})"


@pytest.mark.parametrize(
    ("places", "arguments"),
    [
        (["x axis 1"], "buckets=(138,), axes={'x': 1}"),
        (["x axis 0", "y axis 0"], "buckets=(138,), axes={'x': 0, 'y': 0}"),
        (["a axis 0", "a axis 1", "b axis 0"], "buckets=((138, 138),), axes={'a': (0, 1), 'b': (0, None)}, out_axes=…"),
        (["params['w'] axis 0"], "buckets=choose_buckets(lengths, compile_cost=…)"),
        (["x"], "buckets=choose_buckets(lengths, compile_cost=…)"),
    ],
)
def test_buckets_are_for_the_axes_that_change(places, arguments):
    assert buckets_of(places).python == f"solve = bucketed(solve, cache=cache, {arguments})"


@pytest.mark.parametrize(
    ("solve", "shape"),
    [(lambda a, b: a * 2 + b, lambda n: (n,)), (lambda a, b: a @ b, lambda n: (n, n))],
    ids=["vectors", "square matrices"],
)
@pytest.mark.filterwarnings("ignore::jaxcache.MissStormWarning")
def test_suggested_buckets_do(solve, shape):
    cache = JitCache()
    solve.__name__ = solve.__qualname__ = "solve"
    f = cache.jit(solve)
    wanted = {n: f(np.ones(shape(n), np.float32), np.ones(n, np.float32)).tolist() for n in range(3, 43)}
    stats = cache.stats()
    one = replace(stats.by_function["solve"], seconds_by_cause={"new_shape": 39.0})
    found = next(one for one in suggest(replace(stats, by_function={"solve": one})) if one.rule == "buckets")
    namespace = {"solve": solve, "cache": JitCache(), "bucketed": jaxcache.bucketed}
    exec(found.python.replace("out_axes=…", "out_axes=(0, None)"), namespace)
    for n in range(3, 43):
        padded = namespace["solve"](np.ones(shape(n), np.float32), np.ones(n, np.float32))
        assert padded.tolist() == wanted[n]
    assert namespace["cache"].stats().compiled <= 8


def test_no_directory_is_advised_for_programs_of_other_constants():
    recreated = replace(function(40, 80.0, first_call=1, function_recreated=39), captured=("robot",))
    found = suggest(of({"solve": recreated}))
    assert [one.rule for one in found] == ["function recreated recompiles"]
    assert "pass robot as arguments" in found[0].title
    assert suggest(of({"solve": recreated}), thresholds=DISK)[0].rule == "function recreated recompiles"
    same = replace(recreated, captured=())
    assert {one.rule for one in suggest(of({"solve": same}))} == {
        "function recreated recompiles", "persistent directory",
    }  # fmt: skip


def test_a_directory_that_is_in_use_is_not_advised_again(tmp_path):
    stats = planted("solve", first_call=1, new_shape=70)
    assert "persistent directory" in {one.rule for one in suggest(stats)}
    with jaxcache.use_directory(tmp_path / "shared"):
        assert Thresholds.now() == Thresholds(True, 0.0, 0, shared=True)
        assert "persistent directory" not in {one.rule for one in suggest(stats)}
    with jaxcache.use_directory(tmp_path / "shared", min_compile_seconds=2.0):
        (found,) = [one for one in suggest(stats) if one.rule == "disk thresholds"]
    assert found.python == 'jaxcache.use_directory("…", min_compile_seconds=0)'
    assert not Thresholds.now().in_use


def test_directories_are_those_of_the_library_and_each_remedy_is_said_once():
    stats = replace(TIGHT, compile_seconds=4000.0)
    found = suggest(stats, "gdsf")
    assert [one.python.partition("(")[0] for one in found if one.override == "persistent=shared"] == [
        "jaxcache.use_directory"
    ]
    assert not [one for one in found if "jax_compilation_cache_dir" in one.python]
    assert len({one.python for one in found}) == len(found)


def test_what_calls_compiled_past_the_cache_is_said_though_nothing_else_was_called():
    one = FunctionStats(bypassed=60, bypassed_programs={"jax.grad(loss)": 120}, bypassed_seconds=12.0)
    (found,) = suggest(CacheStats(bypassed=60, by_function={"loss": one}))
    assert (found.rule, found.python, found.saved_seconds) == ("bypassed", "cache.jit(jax.grad(loss))", 12.0)
    assert "60 calls of loss bypassed the cache, and 120 programs compiled for that in 12.0 s" in found.evidence
    few = FunctionStats(bypassed=3, bypassed_programs={"jax.grad(loss)": 3}, bypassed_seconds=0.3)
    assert suggest(CacheStats(bypassed=3, by_function={"loss": few})) == []


def test_metadata_that_changes_is_no_matter_of_padding():
    """39 of 40 misses, by whatever name the cause goes."""
    import functools

    import jax
    import jax.numpy as jnp

    @functools.partial(jax.tree_util.register_dataclass, data_fields=["w"], meta_fields=["depth"])
    @dataclasses.dataclass
    class Model:
        w: jax.Array
        depth: int

    cache = JitCache()
    f = cache.jit(lambda model: model.w * model.depth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for depth in range(40):
            f(Model(jnp.ones(3), depth))
    stats = cache.stats()
    slow = {cause: 1.0 * count for cause, count in stats.by_function["<lambda>"].misses_by_cause.items()}
    one = replace(stats.by_function["<lambda>"], seconds_by_cause=slow, compile_seconds=40.0)
    found = suggest(replace(stats, by_function={"<lambda>": one}, compile_seconds=40.0))
    assert "static" in found[0].title
    assert not [one for one in found if "pad" in one.title]
