"""Warnings of the library fail no call, are seen once at the user's line, and can be caught by who asks for them."""

import logging
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcache
from jaxcache import Cost, DiskCache, DiskCacheWarning, JitCache, MissStormWarning
from jaxcache._disk.files import entry_id_of
from jaxcache._jax import notices as _notices
from tests._support.interpreters import run_python


def many_shapes():
    cache = JitCache()
    f = cache.jit(lambda x: x + 1)
    return [f(np.ones(n, np.float32)).shape for n in range(1, 32)] == [(n,) for n in range(1, 32)]


def too_small_a_limit():
    return JitCache(1000).jit(lambda x: x * 2)(np.float32(3)) == 6


def too_small_a_limit_when_warmed():
    f = JitCache(1000).jit(lambda x: x * 2)
    return f.warm((np.float32(3),), (np.ones(3, np.float32),)) == 2


def a_policy_that_fails():
    class Policy:
        def add(self, key, size, cost):
            raise ZeroDivisionError("my mistake")

        hit = victim = remove = admit = add

    return JitCache("1MiB", Policy()).jit(lambda x: x * 2)(np.float32(3)) == 6


def functions_wrapped_in_a_loop():
    cache = JitCache(costs={"<lambda>(float32[])": Cost(1000, 0.1)})
    return all(cache.jit(lambda x: x - 1)(np.float32(3)) == 2 for _ in range(31))


SITUATIONS = [
    (many_shapes, MissStormWarning, "missed 30 times"),
    (too_small_a_limit, RuntimeWarning, "more than the limit"),
    (too_small_a_limit_when_warmed, RuntimeWarning, "more than the limit"),
    (a_policy_that_fails, RuntimeWarning, "my mistake"),
    (functions_wrapped_in_a_loop, MissStormWarning, "function recreated"),
]
situations = pytest.mark.parametrize(
    ("call", "category", "words"), SITUATIONS, ids=[call.__name__ for call, _, _ in SITUATIONS]
)


@situations
def test_a_warning_made_an_error_fails_no_call_and_is_logged(call, category, words, logged_warnings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call()
    assert [words in message for message in logged_warnings] == [True]
    logged_warnings.clear()


@situations
def test_a_warning_is_seen_once_at_the_users_line(call, category, words):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert call()
    (warning,) = caught
    assert (warning.category, warning.filename) == (category, __file__)
    assert words in str(warning.message)


def test_a_warning_under_a_transformation_names_the_users_line_too():
    inner = JitCache(1000).jit(lambda x: x * 2)

    def outer(x):
        with jax.ensure_compile_time_eval():
            return x + inner(np.float32(1))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jax.jit(outer)(1.0), inner(np.float32(1))
    assert {one.filename for one in caught} == {__file__}


def test_a_fault_of_a_shared_directory_fails_no_request(tmp_path, logged_warnings):
    cache = DiskCache(tmp_path / "shared")
    cache.put("key-1", b"value", 1.0)
    entry = cache.files.path(entry_id_of(cache.fingerprint.id, "key-1"))
    entry.write_bytes(b"damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get("key-1") is None
        cache.put("key-1", b"value", 1.0)
        assert cache.get("key-1") == b"value"
    assert ["quarantine" in message for message in logged_warnings] == [True]
    logged_warnings.clear()
    entry.write_bytes(b"damaged")
    other = DiskCache(tmp_path / "shared")
    with pytest.warns(DiskCacheWarning, match="quarantine") as caught:
        assert other.get("key-1") is None
    assert caught[0].filename == __file__
    cache.close(), other.close()


@pytest.mark.parametrize("action", ["error", "default"])
def test_a_program_with_its_own_way_to_show_warnings_that_fails_goes_on(action, monkeypatch, logged_warnings):
    def show(*_args, **_kwargs):
        raise OSError("no terminal")

    with warnings.catch_warnings():
        warnings.simplefilter(action)
        monkeypatch.setattr(warnings, "showwarning", show)
        _notices.warn("something")
    assert logged_warnings == ["something"]
    logged_warnings.clear()


def test_log_handlers_that_fail_do_not_fail_the_call(logged_warnings):
    class Failing(logging.Handler):
        def emit(self, record):
            raise ValueError("no log")

    log, handler = logging.getLogger("jaxcache"), Failing()
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert too_small_a_limit()
    finally:
        log.removeHandler(handler)
    logged_warnings.clear()


def test_what_asks_to_be_raised_is_raised():
    f = JitCache(max_compiles=1).jit(lambda x: x + 1)
    f(np.ones(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(jaxcache.CompileLimitExceeded):
            f(np.ones(4))


def test_a_warning_of_a_thread_reaches_its_filters():
    results = []
    thread = threading.Thread(target=lambda: results.append(too_small_a_limit()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread.start()
        thread.join()
    assert (results, [one.category for one in caught]) == ([True], [RuntimeWarning])


def test_python_w_error_runs_a_program_to_its_end_and_says_why_on_stderr():
    program = (
        "import numpy as np, jaxcache\n"
        "f = jaxcache.JitCache(1000).jit(lambda x: x * 2)\n"
        "print(f(np.float32(3)), f(np.float32(4)))\n"
    )
    code = f"import warnings\nimport jaxcache\nwarnings.simplefilter('error')\n{program}"
    done = run_python(code, check=True)
    assert done.stdout == "6.0 8.0\n"
    assert done.stderr.count("more than the limit") == 1


def test_no_room_but_one_calls_pythons_own_warn():
    from pathlib import Path

    core = Path(jaxcache.__file__).parent
    calling = {path.relative_to(core).as_posix() for path in core.rglob("*.py") if "warnings.warn" in path.read_text()}
    assert calling == {"_jax/notices.py"}


def test_results_are_those_of_jax_jit_with_warnings_as_errors(logged_warnings):
    cache = JitCache(1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = cache.jit(lambda x: jnp.sum(x**2))
        assert [float(f(np.ones(n, np.float32))) for n in range(1, 40)] == list(range(1, 40))
    logged_warnings.clear()
