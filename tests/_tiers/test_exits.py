"""The end of a process that uses an object store: whichever way it ends, no thread of obstore's is left to abort it."""

import asyncio
import json
import subprocess
import sys
import threading

import pytest

from jaxcache._remote import event_loop
from jaxcache._remote.event_loop import EventLoop
from jaxcache._remote.object_store import ObjectStore
from jaxcache._remote.urls import check_url

pytest.importorskip("obstore")

PROGRAM = """
import json, os, signal, sys, threading, time
from asyncio import selector_events
from pathlib import Path

loops = selector_events.BaseSelectorEventLoop
check, wake = loops._check_closed, loops._write_to_self

def run_on_late():  # as a thread of obstore's on a busy machine
    if threading.get_ident() not in [thread.ident for thread in threading.enumerate()]:
        time.sleep(0.03)

def check_late(loop):
    run_on_late()
    check(loop)

def wake_slowly(loop):
    wake(loop)
    run_on_late()

loops._check_closed, loops._write_to_self = check_late, wake_slowly
from jaxcache import DiskCache
from jaxcache._cli.commands import main

root = Path(sys.argv[1])

def use(name):
    cache = DiskCache(root / name, fingerprint={"jax": "test", "cpu": "test"}, remote=(root / "store").as_uri())
    for number in range(4):
        if cache.get(f"jit_{name}-{number}") is None:
            cache.put(f"jit_{name}-{number}", b"value" * 1000, 1.0)
    return cache

def is_told(code):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))
    os.kill(os.getpid(), signal.SIGTERM)

def forks():
    if (child := os.fork()) == 0:
        use("child")
        sys.exit(8)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

def goes_on_in_a_thread():
    threading.Thread(target=lambda: [use(str(number)) for number in range(100)], daemon=True).start()
    time.sleep(0.05)

def is_interrupted_as_it_ends():
    timer = threading.Timer(0.02, signal.raise_signal, [signal.SIGINT])
    timer.daemon = True
    timer.start()

endings = {
    "ends": lambda: None,
    "closes": lambda: use("closed").close(),
    "raises": lambda: 1 / 0,
    "is told": lambda: is_told(4),
    "forks": forks,
    "goes on in a thread": goes_on_in_a_thread,
    "is interrupted as it ends": is_interrupted_as_it_ends,
    "pushes": lambda: main(["push", "--dir", str(root / "pushed"), (root / "store").as_uri()]),
}
DiskCache(root / "pushed", fingerprint={"jax": "test", "cpu": "test"}).put("jit_f-1", b"value", 1.0)
codes = {}
for name, end in endings.items():  # a child each, which ends as any interpreter does
    if (child := os.fork()) == 0:
        break
    codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
else:
    print(json.dumps(codes))
    sys.exit(0)
if name != "pushes":
    use(name)
sys.stdout = sys.stderr
end()
"""


def test_no_process_is_aborted_however_it_ends(tmp_path):
    (tmp_path / "store").mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert json.loads(done.stdout) == {
        "ends": 0, "closes": 0, "raises": 1, "is told": 4, "forks": 8, "goes on in a thread": 0,
        "is interrupted as it ends": 0, "pushes": 0,
    }, done.stderr  # fmt: skip
    assert "Event loop is closed" not in done.stderr  # which a thread of obstore's would print that came too late


def test_a_request_that_was_given_up_keeps_no_store_busy_while_its_traceback_is_there(tmp_path):
    store = ObjectStore(check_url(tmp_path.as_uri()))

    async def give_up():
        request = asyncio.create_task(store.put("entry", b"value", replace=True))
        await asyncio.sleep(0)  # so that it begins
        request.cancel()
        with pytest.raises(asyncio.CancelledError) as given_up:
            await request
        return given_up

    given_up = store.run(give_up())
    assert "put" in [entry.name for entry in given_up.traceback]
    store.wait_until_idle()  # for a moment, a thread of another test's store may be in Python
    assert store.is_idle


def test_a_loop_that_has_stopped_is_not_waited_for_when_it_is_closed_again(monkeypatch):
    """As after a Ctrl-C: the loop stops, its thread is about to end, and requests are given up once more."""
    loop, has_stopped, ends = EventLoop(), threading.Event(), threading.Event()
    close = asyncio.SelectorEventLoop.close

    def close_late(loop):
        has_stopped.set()
        ends.wait(60)
        close(loop)

    async def work():
        return "done"

    monkeypatch.setattr(asyncio.SelectorEventLoop, "close", close_late)
    assert loop.submit(work()).result(60) == "done"

    monkeypatch.setattr(event_loop, "_END_SECONDS", 0.0)
    loop.close(lambda: None)
    assert has_stopped.wait(60)
    monkeypatch.setattr(event_loop, "_END_SECONDS", 60.0)
    again = threading.Thread(target=loop.close, args=(lambda: None,))
    again.start()
    ends.set()
    again.join(30)
    assert not again.is_alive()
