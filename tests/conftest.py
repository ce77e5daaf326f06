"""One CPU device, no compile cache on disk, unless a test asks for more."""

import gc
import itertools
import logging
import os
import random
import signal
import sys
from zlib import crc32

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; children would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import pytest

hypothesis.settings.register_profile("suite", deadline=None, max_examples=60)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption(
        "--files-seed",
        type=int,
        metavar="N",
        help="run the files in the random order of this seed, and of the tests that are marked in_turns a third, "
        "of the points of interrupts a sixth: other ones with each of the next seeds",
    )


def pytest_collection_modifyitems(config, items):
    """Shuffle the files, and keep the order within each: tests of one file share what is expensive to make."""
    seed = config.getoption("--files-seed")
    if seed is None:
        return
    _keep_those_whose_turn_it_is(seed, config, items)
    files = sorted({item.path for item in items})
    random.Random(seed).shuffle(files)
    position = {path: number for number, path in enumerate(files)}
    items.sort(key=lambda item: position[item.path])


def _keep_those_whose_turn_it_is(seed, config, items):
    """Leave out two thirds of the tests that are marked ``in_turns``, so that three commits in a row run each."""
    left_out = [
        item for item in items if item.get_closest_marker("in_turns") and (crc32(item.nodeid.encode()) + seed) % 3
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture
def points(request):
    """Numbers of the points at which a test disturbs what it tests, from the first on.

    With a seed of the files they are every sixth, so that six commits in a row disturb each.
    """
    seed = request.config.getoption("--files-seed")
    return itertools.count() if seed is None else itertools.count(seed % 6, 6)


def pytest_collection_finish():
    """Leave what was imported out of Python's collections of garbage, which tests of memory ask for often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def logged_warnings():
    """Fail a test that ends with a warning of the library that it did not expect.

    The suite makes errors of warnings, and those of the library fail no call: they are logged instead. A test that
    wants them there clears this list of messages.
    """
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    log = logging.getLogger("jaxcache")
    log.addHandler(handler)
    yield messages
    log.removeHandler(handler)
    assert messages == []


@pytest.fixture(autouse=True)
def own_compile_cache():
    """Fail a test that leaves a shared directory behind JAX: later tests would load what they expect to compile."""
    yield
    backend = sys.modules.get("jaxcache._disk.jax_backend")
    left = backend and backend.plugged_cache()
    if left:
        left.close()
    assert not left, "the test leaves a directory in use: close what use_directory or warm_from has put there"
