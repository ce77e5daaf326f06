"""Pytest plugin: one compile for all workers, bounded memory, and tests that say how much they may compile.

    pytest --jaxcache DIR --jaxcache-limit 500MiB --jaxcache-memory 4GiB

It is a module of its own, which imports neither jaxcache nor JAX, so that test runs that do not ask for it start as
they did.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jaxcache import CompileGuard

_COSTLIEST = 5
_REPORTED = "jaxcache"  # where a worker of pytest-xdist puts its counts


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("jaxcache", "compiles of JAX")
    group.addoption("--jaxcache", metavar="DIR", help="a directory that all workers share their compiles in")
    group.addoption("--jaxcache-limit", metavar="SIZE", help="of its entries, such as 500MiB")
    group.addoption("--jaxcache-memory", metavar="SIZE", help="of the programs that each worker holds, such as 4GiB")


def pytest_configure(config: pytest.Config) -> None:
    """Turn on what is asked for, before any test module is imported."""
    config.addinivalue_line("markers", "max_compiles(n): the test fails at its next compile after n")
    config.addinivalue_line("markers", "no_compiles: the test fails at its first compile")
    directory, memory = config.getoption("--jaxcache"), config.getoption("--jaxcache-memory")
    if config.getoption("--jaxcache-limit") and not directory:
        raise pytest.UsageError("--jaxcache-limit needs --jaxcache DIR, whose entries it bounds")
    if directory or memory:
        config.pluginmanager.register(_Compiles(config, directory, memory), "jaxcache-compiles")


class _Compiles:
    """What one process of a test run compiles, and what it is told at the end."""

    def __init__(self, config: pytest.Config, directory: str | None, memory: str | None) -> None:
        import jaxcache

        self._config = config
        self._directory = self._cache = None
        limit_option = "--jaxcache-limit"
        try:
            if directory:
                self._directory = jaxcache.use_directory(directory, limit=config.getoption("--jaxcache-limit"))
            limit_option = "--jaxcache-memory"
            if memory:
                self._cache = jaxcache.install(memory)
        except (ValueError, OSError, RuntimeError) as error:
            argument, _, rest = str(error).partition(" ")
            message = f"{limit_option} {rest}" if argument == "limit" else f"--jaxcache: {error}"
            raise pytest.UsageError(message) from error
        self._watch = jaxcache.watch().begin()
        self._seconds: dict[str, float] = {}  # by test
        self._of_workers: list[dict[str, Any]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Add up what a test compiles, its fixtures included."""
        before = len(self._watch.compiles)
        try:
            return (yield)
        finally:
            seconds = sum(record.seconds for record in self._watch.compiles[before:])
            if seconds:
                self._seconds[item.nodeid] = seconds

    def pytest_sessionfinish(self) -> None:
        """End, and have a worker's counts reach the terminal."""
        self._watch.end()
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_REPORTED] = self._counts()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take a worker's counts."""
        del error
        counts = getattr(node, "workeroutput", {}).get(_REPORTED)
        if counts:
            self._of_workers.append(counts)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say in a line what was compiled and loaded, what that saved, and the costliest tests."""
        counts = self._of_workers or [self._counts()]
        tests = sorted((test for each in counts for test in each["tests"]), key=lambda test: -test[1])
        costliest = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in tests[:_COSTLIEST])
        compiled, loaded = (sum(each[name] for each in counts) for name in ("compiled", "loaded"))
        saved = sum(each["saved"] for each in counts)
        line = f"jaxcache: {compiled} programs compiled, {loaded} loaded, {saved:.1f} s saved"
        terminalreporter.write_line(line + (f"; costliest: {costliest}" if costliest else ""))

    def pytest_unconfigure(self) -> None:
        """Give back what was turned on."""
        self._watch.end()
        if self._cache is not None:
            self._cache.uninstall()
        if self._directory is not None:
            self._directory.close()

    def _counts(self) -> dict[str, Any]:
        compiles = self._watch.compiles
        loaded = sum(record.tier == "loaded" for record in compiles)
        saved = 0.0 if self._directory is None else self._directory.stats().process.seconds_saved
        costliest = sorted(self._seconds.items(), key=lambda test: -test[1])[:_COSTLIEST]
        return {
            "compiled": len(compiles) - loaded,
            "loaded": loaded,
            "saved": saved,
            "tests": list(map(list, costliest)),
        }


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hold a test to its marks."""
    limit = _limit_of(item)
    if limit is None:
        return (yield)
    from jaxcache import no_compiles as guard

    with guard(limit):
        return (yield)


def _limit_of(item: pytest.Item) -> int | None:
    """Return how many programs a test may compile; None if it does not say."""
    if item.get_closest_marker("no_compiles") is not None:
        return 0
    mark = item.get_closest_marker("max_compiles")
    if mark is None:
        return None
    if len(mark.args) != 1 or isinstance(mark.args[0], bool) or not isinstance(mark.args[0], int) or mark.args[0] < 0:
        raise pytest.UsageError(
            f"max_compiles takes a whole number, 0 or more, as in max_compiles(3), but got {mark.args}"
        )
    return mark.args[0]


@pytest.fixture
def no_compiles() -> Iterator["CompileGuard"]:
    """Let the test compile nothing from here on: for what has to be warm by then, ask for it last."""
    from jaxcache import no_compiles as guard

    with guard() as count:
        yield count
