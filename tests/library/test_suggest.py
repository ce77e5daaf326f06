from dataclasses import replace

import pytest

from jaxcache import CacheStats, FunctionStats, JitCache, suggest
from jaxcache._suggest import Thresholds

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
    assert set(found) == {"low hit rate", "memory pressure", "frequent evictions", "expensive compiles"}
    pressure = found["memory pressure"]
    assert "50 signatures of about 40 MiB in all share 8 MiB" in pressure.evidence
    assert pressure.effect == "at most 260.0 of 280.0 compile seconds saved"
    assert pressure.override == "memory_limit=48MiB"
    assert found["low hit rate"].evidence == "30% hits; of 700 misses 50 were new signatures, 650 repeats"
    assert found["frequent evictions"].evidence.startswith("690 evictions in 1000 calls; 650 misses")
    assert found["expensive compiles"].override == "eviction=gdsf"


def test_a_policy_in_use_is_not_suggested_again():
    (expensive,) = [one for one in suggest(TIGHT, "gdsf") if one.rule == "expensive compiles"]
    assert expensive.override == "persistent=shared"


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
    from jaxcache._suggest import limit_for

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
    assert f"{cause.replace('_', ' ')} recompiles" not in {one.rule for one in suggest(planted("f", **{cause: 9}))}


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
    one = replace(stats.by_function["slow"], compile_seconds=30.0)  # as if each program took more than a second
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
