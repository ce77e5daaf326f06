"""Ctrl-C, once and twice, and compiles that fail, beside other threads: none waits for ever, none is miscounted."""

import contextlib
import sys
import threading
import time

import numpy as np
import pytest

from jaxcache import JitCache
from jaxcache._cache.compiler import CompileLimitExceeded
from tests._support.interpreters import run_python

pytestmark = pytest.mark.filterwarnings("ignore::jaxcache.MissStormWarning")
OURS = ("/jaxcache/_", "/contextlib.py")


class Interrupts:
    """Raise Ctrl-C on the entry of the n-th function of ours from now on, and again a few entries later."""

    def __init__(self, *gaps):
        self.gaps, self.fired = list(gaps), 0

    def start(self):
        sys.setprofile(self.look)

    @contextlib.contextmanager
    def until_the_end(self):
        try:
            yield
        finally:
            sys.setprofile(None)

    def look(self, frame, event, _):
        if event != "call" or not any(ours in frame.f_code.co_filename for ours in OURS) or not self.gaps:
            return
        self.gaps[0] -= 1
        if self.gaps[0] < 0:
            del self.gaps[0]
            self.fired += 1
            raise KeyboardInterrupt


def in_another_thread(call):
    """Start a call, and return what waits for its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()

    def result():
        thread.join(60)
        assert results, "it waits still"
        return results[0]

    return result


def row(x):
    """Return the vector as a row, which XLA compiles in a third of the time that arithmetic takes."""
    return x.reshape(1, -1)


def assert_counts_are_right(cache, f):
    """One more program may be made, and no other."""
    cache._compiler.max_compiles = cache.stats().compiled + 1
    assert f(np.ones(11, np.float32)).tolist() == [[1.0] * 11]
    with pytest.raises(CompileLimitExceeded):
        f(np.ones(12, np.float32))
    cache._compiler.max_compiles = None


def test_a_second_interrupt_in_the_clean_up_of_the_first_leaves_no_thread_waiting():
    later = 0
    while True:
        cache, tracing, interrupted = JitCache(), threading.Event(), []

        interrupts = Interrupts(later)

        def traced(x, tracing=tracing, interrupted=interrupted, interrupts=interrupts):
            if x.shape == (3,) and not interrupted:
                interrupted.append(True)
                tracing.set()
                time.sleep(0.03)  # so that the other thread waits for this compile
                interrupts.start()
                raise KeyboardInterrupt
            return row(x)

        f = cache.jit(traced)

        def call_while_it_is_traced(f=f, tracing=tracing):
            assert tracing.wait(60)
            return f(np.ones(3, np.float32)).tolist()

        result = in_another_thread(call_while_it_is_traced)
        with pytest.raises(KeyboardInterrupt) as held, interrupts.until_the_end():
            f(np.ones(3, np.float32))
        assert result() == [[1.0] * 3]  # while the traceback is held, and this thread calls nothing
        del held
        assert cache.stats().variants == 1
        assert not f._jaxcache.function.pending
        assert_counts_are_right(cache, f)
        if not interrupts.fired:
            break
        later += 1
    assert later > 3  # there was a clean-up to interrupt


@pytest.mark.parametrize("what", ["call", "clear", "warm", "stats"])
def test_two_interrupts_at_any_points_leave_a_cache_that_other_threads_can_use(points, what):
    inputs = {n: np.ones(n, np.float32) for n in range(1, 5)}
    for number in points:
        first = number * {"call": 5, "warm": 5}.get(what, 2)
        cache = JitCache()
        f = cache.jit(lambda x: row(x))
        f(inputs[1]), f(inputs[1])
        calls = {
            "call": lambda f=f: f(inputs[2]),
            "warm": lambda f=f: f.warm(inputs[2], inputs[3], threads=1),
            "clear": cache.clear,
            "stats": cache.stats,
        }
        interrupts = Interrupts(first, first % 4)
        held = None
        try:
            interrupts.start()
            calls[what]()
            sys.setprofile(None)
        except KeyboardInterrupt as error:
            sys.setprofile(None)
            held = error
        results = in_another_thread(lambda f=f: [f(inputs[n]).tolist() for n in (1, 2)])()
        assert results == [[[1.0]], [[1.0, 1.0]]], first
        assert in_another_thread(cache.stats)().variants == len(f._jaxcache.entries.by_key)
        del held  # the traceback, which was there until now
        if what != "stats":
            assert_counts_are_right(cache, f)
        assert not [pending for pending in f._jaxcache.function.pending.values() if pending.under_way()]
        cache.clear()
        assert (cache.stats().variants, cache.stats().live_bytes) == (0, 0)
        if not interrupts.fired:
            break
    assert first > 3  # there were points to interrupt at


PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
from jaxcache import JitCache

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started to ignore it
for number in range(25):
    cache, tracing, traced = JitCache(), threading.Event(), []

    def double(x):
        traced.append(threading.get_ident())
        if len(traced) == 1:
            tracing.set()
            time.sleep(0.02)
        return 2 * x

    f, results = cache.jit(double), []

    def wait_for_it():
        tracing.wait(60)
        results.append(f(np.ones(3, np.float32)).tolist())

    def interrupt_twice():
        tracing.wait(60)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.0002 * number)
        os.kill(os.getpid(), signal.SIGINT)

    others = [threading.Thread(target=call, daemon=True) for call in (wait_for_it, interrupt_twice)]
    try:
        try:
            [other.start() for other in others]
            f(np.ones(3, np.float32))
            time.sleep(1)
        except KeyboardInterrupt as first:
            time.sleep(1)
    except KeyboardInterrupt as second:
        pass
    while others[1].is_alive():
        try:
            others[1].join(60)
        except KeyboardInterrupt:
            pass
    others[0].join(60)
    assert results == [[2.0] * 3], (number, results)
    made = cache.stats().compiled
    cache._compiler.max_compiles = made + 1
    f(np.ones(4, np.float32))
    try:
        f(np.ones(5, np.float32))
    except RuntimeError:
        continue
    raise AssertionError(number)
print("all served")
"""


def test_two_real_signals_leave_no_thread_waiting():
    done = run_python(PROGRAM, timeout=300)
    assert done.stdout == "all served\n", done.stderr


@pytest.mark.parametrize("whose", ["cache", "function"])
@pytest.mark.parametrize("fails", [True, False])
def test_a_compile_that_fails_refuses_no_other_and_one_that_succeeds_does(whose, fails):
    cache = JitCache(max_compiles=1 if whose == "cache" else None)
    tracing, go_on = threading.Event(), threading.Event()

    @cache.jit(max_compiles=None if whose == "cache" else 1)
    def f(x):
        if x.shape == (3,):
            tracing.set()
            assert go_on.wait(60)
            if fails:
                raise ZeroDivisionError
        return 2 * x

    def first():
        with contextlib.suppress(ZeroDivisionError):
            return f(np.ones(3, np.float32)).tolist()
        return "failed"

    def second():
        try:
            return f(np.ones(4, np.float32)).tolist()
        except CompileLimitExceeded:
            return "refused"

    results = [in_another_thread(first)]
    assert tracing.wait(60)
    results += [in_another_thread(second)]
    time.sleep(0.05)  # so that it comes to the limit while the first is still compiled
    go_on.set()
    expected = ["failed", [2.0] * 4] if fails else [[2.0] * 3, "refused"]
    assert [result() for result in results] == expected
    assert cache.stats().compiled == 1


def test_warming_waits_for_compiles_that_may_fail_before_it_is_refused():
    cache = JitCache(max_compiles=1)
    tracing, go_on = threading.Event(), threading.Event()

    @cache.jit
    def f(x):
        if x.shape == (3,):
            tracing.set()
            assert go_on.wait(60)
            raise ZeroDivisionError
        return 2 * x

    def first():
        with pytest.raises(ZeroDivisionError):
            f(np.ones(3, np.float32))
        return "failed"

    result = in_another_thread(first)
    assert tracing.wait(60)
    warmed = in_another_thread(lambda: f.warm(np.ones(4, np.float32)))
    time.sleep(0.05)
    go_on.set()
    assert (result(), warmed()) == ("failed", 1)
    with pytest.raises(CompileLimitExceeded):
        f.warm(np.ones(5, np.float32))


def test_many_threads_at_the_limit_make_as_many_programs_as_it_allows():
    cache = JitCache(max_compiles=3)
    f = cache.jit(lambda x: 2 * x)

    def call(n):
        try:
            return f(np.ones(n, np.float32)).tolist() == [2.0] * n
        except CompileLimitExceeded:
            return "refused"

    results = [in_another_thread(lambda n=n: call(n)) for n in range(1, 7)]
    outcomes = [result() for result in results]
    assert sorted(map(str, outcomes)) == ["True"] * 3 + ["refused"] * 3
    assert cache.stats().compiled == 3


def test_a_compile_within_a_compile_is_refused_at_the_limit_and_waits_for_nobody():
    cache, refused = JitCache(max_compiles=1), []
    g = cache.jit(lambda x: 3 * x)

    class Setting:
        """Its description, which is needed while the first program is in the making, asks for a second."""

        def __repr__(self):
            try:
                g(np.ones(2, np.float32))
            except CompileLimitExceeded as error:
                refused.append(error)
            return "Setting()"

    f = cache.jit(lambda x, setting: 2 * x, static_argnums=1)
    result = in_another_thread(lambda: f(np.ones(3, np.float32), Setting()).tolist())
    assert result() == [2.0] * 3
    assert len(refused) == 1


def test_what_is_traced_first_is_made_without_a_lock_that_others_wait_for():
    f = JitCache().jit(lambda x: 2 * x)
    make, waited = f._jaxcache.entries.prepared.get_or_make, []

    def within():
        in_another_thread(lambda: f.trace(np.ones(2)))()
        waited.append(False)
        return "own"

    assert make((1, 2, None), within) == make((1, 2, None), within) == "own"
    assert waited == [False]


CALLED_WHILE_JAX_HASHES = """
import faulthandler, itertools, sys
import jax, numpy as np
from jaxcache import JitCache

faulthandler.dump_traceback_later(100, exit=True)
jit = {"jax.jit": jax.jit, "cache.jit": JitCache().jit}[sys.argv[1]]
f, g = jit(lambda x: x.reshape(1, -1)), jit(lambda x: x * 2)  # XLA compiles the first, called often, quickly
nested = jit(lambda x: jax.jit(lambda y: y * 3)(x))
sizes = itertools.count(10)


def call():
    return f(np.ones(next(sizes)))


def call_and_wrap():
    return call(), jax.jit(lambda x: x - 1)(np.ones(2))


def within(operation, call):
    entered = {}

    def look(frame, event, _):
        if event != "call" or frame.f_code.co_name not in ("__hash__", "__eq__"):
            return
        kind = frame.f_code.co_qualname, frame.f_back.f_code.co_qualname
        if kind not in entered:
            entered[kind] = None
            sys.setprofile(None)
            call()
            sys.setprofile(look)

    sys.setprofile(look)
    result = operation()
    sys.setprofile(None)
    assert entered
    return result


wrapped = within(lambda: jax.jit(lambda x: x - 1), call)
donating = within(lambda: jax.jit(lambda x: x - 1, donate_argnums=0), call)
print(wrapped(2.0), donating(2.0))
print(within(lambda: jit(lambda x: x - 1)(np.ones(3)), call))
print(within(lambda: g(np.ones(3)), call), within(lambda: g(np.ones(4)), call_and_wrap))
print(within(lambda: nested(np.ones(3)), call))
print(f(np.ones(2)), jax.jit(g)(np.ones(2)))
"""


def test_a_handler_may_call_a_cached_function_while_jax_hashes_what_jit_is_made_of():
    """Expect what ``jax.jit`` prints: it hashes options under a lock that whoever makes another waits for."""

    def run(jit):
        done = run_python(CALLED_WHILE_JAX_HASHES, jit)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("cache.jit") == run("jax.jit") != ""


HANDLED_BESIDE = """
import faulthandler, itertools, sys, threading
import jax, numpy as np
from jaxcache import JitCache
from tests._support.handlers import handled_after

faulthandler.dump_traceback_later(100, exit=True)
number, step = map(int, sys.argv[1:])
cache = JitCache()
held_up, tracing, goes_on = set(), threading.Event(), threading.Event()


@cache.jit
def f(x):
    if x.size in held_up:
        tracing.set()
        goes_on.wait()
    return x.reshape(1, -1)


def disturbed(calls, work, same):
    \"\"\"Come between any two calls of ours while another thread compiles, and ask for its program.\"\"\"
    results = []
    other = threading.Thread(target=lambda: results.append(f(same)))

    def handle():
        goes_on.set()
        other.join(0.02)  # at most: it may be waiting for this thread
        result = f(same)
        if not isinstance(result, jax.core.Tracer):  # as of jax.jit, where something is being traced
            results.append(result)
            f.warm(next(sizes))

    def among(frame):
        return any(ours in frame.f_code.co_filename for ours in ("/jaxcache/_", "/contextlib.py", "/collections/"))

    cache.clear()  # else it comes to hold ever more, which takes ever more calls
    held_up.add(same.size)
    other.start()
    tracing.wait()
    held_up.clear()
    was_disturbed = handled_after(calls, work, handle, among)
    goes_on.set()
    other.join()
    tracing.clear(), goes_on.clear()
    assert results and all(result.tolist() == [[1.0] * same.size] for result in results)
    return was_disturbed


f(np.ones(1)), f(np.ones(1))
sizes = map(np.ones, itertools.count(2))
while disturbed(number, lambda: WORK, next(sizes)):
    number += step
print(number)
"""


@pytest.mark.parametrize(
    ("work", "stride"), [("f(next(sizes))", 9), ("f.trace(next(sizes))", 5), ("cache.clear()", 1), ("cache.stats()", 1)]
)
def test_a_handler_that_comes_after_any_call_waits_for_no_compile_that_waits_for_its_own_thread(points, work, stride):
    first, second = next(points), next(points)
    program = HANDLED_BESIDE.replace("WORK", work)
    done = run_python(program, first * stride, (second - first) * stride)
    assert int(done.stdout or 0) > 20, done.stderr
