"""What doctor says of layers and object stores: what each answered in the last run, in a line."""

import os
import threading

import jax
import jax.numpy as jnp
import pytest

import jaxcache
from jaxcache._disk.doctor import examine
from jaxcache._jax.fingerprint import fingerprint_of


@pytest.fixture
def findings(open_cache):
    """Findings that name a store, of a directory by its name, as pairs of severity and text."""

    def examined(name):
        with open_cache(name, eviction=None) as cache:
            found = examine(cache, [])
        return [(each.severity, each.text) for each in found if each.text.startswith(("layer", "remote"))]

    return examined


def ask(cache, *keys):
    for key in keys:
        if cache.get(key) is None:
            cache.put(key, b"value", 1.0)


def test_each_layer_has_a_line_of_its_hits_misses_and_faults(open_cache, findings, tmp_path, logged_warnings):
    for name, keys in [("first", ["jit_a-1", "jit_bad-1"]), ("second", ["jit_b-1"]), ("unasked", [])]:
        with open_cache(name) as cache:
            ask(cache, *keys)
    (bad,) = [path for path in (tmp_path / "first").rglob("*.entry") if b"jit_bad-1" in path.read_bytes()[:500]]
    os.truncate(bad, 100)
    layers = [tmp_path / name for name in ("first", "second", "gone")]
    with open_cache("local", layers=layers) as cache:
        ask(cache, "jit_a-1", "jit_b-1", "jit_c-1", "jit_bad-1")
    first, second, gone = findings("local")
    assert first[0] == "fault"
    assert f"layer {layers[0]}, in the last run: 1 hit, 2 misses, 1 fault: it has an" in first[1]
    assert second == ("fine", f"layer {layers[1]}, in the last run: 1 hit, 2 misses")
    assert gone == ("fault", f"layer {layers[2]}, in the last run: 0 hits, 0 misses, 1 fault: "
                    "it is not there, and is left out")  # fmt: skip
    with open_cache("local", layers=[tmp_path / "first"]) as again:  # the last run is another one now
        ask(again, "jit_c-1")
    assert findings("local") == [("fine", f"layer {layers[0]} was not asked in the last run")]
    logged_warnings.clear()


@pytest.mark.parametrize("store_server", ["s3"], indirect=True)
def test_a_store_has_a_line_that_says_when_it_was_left_alone_and_why(
    open_cache, findings, bucket, proxy, logged_warnings
):
    with open_cache("one", remote=bucket) as cache:
        ask(cache, "jit_a-1", "jit_b-1")
    assert findings("one") == [("fine", f"remote {bucket}, in the last run: 0 hits, 2 misses")]
    with open_cache("two", remote=bucket) as cache:
        ask(cache, "jit_a-1", "jit_c-1")
    assert findings("two") == [("fine", f"remote {bucket}, in the last run: 1 hit, 1 miss")]
    proxy.behaviour = "refuse"
    with open_cache("three", remote=bucket) as cache:
        ask(cache, *(f"jit_{number}-1" for number in range(20)))
    ((severity, text),) = findings("three")
    assert severity == "fault"
    assert "0 hits, 0 misses, left alone " in text
    assert ("403" in text, "at last it did not take" in text) == (True, True)
    logged_warnings.clear()


@pytest.mark.parametrize("store_server", ["s3"], indirect=True)
def test_all_entries_that_a_store_did_not_take_are_told_of_though_the_program_ends_at_once(
    open_cache, findings, bucket, proxy, logged_warnings
):
    proxy.behaviour = "refuse"
    begun, goes_on = threading.Event(), threading.Event()

    async def hold_up():
        begun.set()
        goes_on.wait(30)

    with open_cache("local", remote=bucket) as cache:
        ask(cache, "jit_first-1")
        cache._remote._remote._loop.submit(hold_up())
        assert begun.wait(30)
        ask(cache, *(f"jit_{number}-1" for number in range(20)))
        threading.Timer(0.3, goes_on.set).start()  # once the cache is being closed
    ((_, text),) = findings("local")
    assert "at last it did not take 21 entries in time" in text
    logged_warnings.clear()


def test_what_only_looks_into_the_tiers_is_no_request(open_cache, findings, tmp_path):
    pytest.importorskip("obstore")
    (tmp_path / "store").mkdir(mode=0o700)
    remote, x = (tmp_path / "store").as_uri(), jnp.ones(7)
    open_cache("layer").close()
    with jaxcache.use_directory(tmp_path / "one", remote=remote, layers=[tmp_path / "layer"]) as cache:
        ask(cache, "jit_a-1")
        for fun in (jnp.sinc, jnp.tanh):
            assert not cache.would_hit(fun, x)
        assert not cache.contains("jit_b-1")
        assert cache.would_hit(jax.jit(jnp.sinc), x).tier is None
    expected = [f"layer {tmp_path / 'layer'}", f"remote {remote}"]
    assert findings("one") == [("fine", f"{store}, in the last run: 0 hits, 1 miss") for store in expected]


def test_without_tiers_there_is_no_line(open_cache, findings):
    with open_cache("local") as cache:
        ask(cache, "jit_a-1")
    assert findings("local") == []


def test_entries_of_any_level_that_this_machine_may_compile_for_are_its_own(open_cache):
    with open_cache("portable") as cache:
        cache.put("jit_f-1", b"value", 1.0)
        here = fingerprint_of({"jax": "test", "cpu": "this one alone"})
        told = [each.severity for each in examine(cache, [here])]
        assert "fault" in told
        assert "fault" not in [each.severity for each in examine(cache, [here, cache.fingerprint])]
