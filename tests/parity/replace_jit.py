"""Pytest plugin that runs a suite with ``cache.jit`` in the place of ``jax.jit``, and writes down how each test ended.

It is loaded before any test file, so that ``from jax import jit`` finds the replacement too. ``PARITY_JIT`` names what
is in the place of ``jax.jit``: ``plain`` for itself, ``none`` for a cache without a limit, or a limit such as 256KiB;
``installed-none`` and ``installed-256KiB`` for what ``jaxcache.install`` puts there.
``PARITY_OUTCOMES`` is the file that gets one JSON line a test, as soon as the test has ended.
"""

import json
import os
from typing import Any

import jax
import pytest

_JIT = os.environ["PARITY_JIT"]
_PLAIN = (jax.jit,)  # in a tuple: install replaces what a module has bound

_INSTALLED = "installed-"

if _JIT != "plain":
    from jaxcache import JitCache, install

    named = _JIT.removeprefix(_INSTALLED)
    limit = None if named == "none" else named
    if _JIT.startswith(_INSTALLED):
        install(limit)
    else:
        jax.jit = JitCache(limit).jit


def pytest_configure(config: pytest.Config) -> None:
    """Let nothing of the library's advice fail a suite that makes errors of warnings."""
    config.addinivalue_line("filterwarnings", "ignore::jaxcache.MissStormWarning")


class _Outcomes:
    """The outcomes of one test's phases; a test passes if all of them do."""

    def __init__(self) -> None:
        self.by_test: dict[str, dict[str, str]] = {}

    def add(self, report: pytest.TestReport) -> None:
        row = self.by_test.setdefault(report.nodeid, {"test": report.nodeid, "outcome": "passed", "reason": ""})
        if report.outcome == "passed" or row["outcome"] == "failed":
            return
        row["outcome"] = report.outcome
        crash: Any = getattr(report.longrepr, "reprcrash", None)
        row["reason"] = (crash.message if crash else str(report.longrepr)).strip()[:600]


_outcomes = _Outcomes()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a test down at the end of its last phase."""
    _outcomes.add(report)
    if report.when == "teardown":
        with open(os.environ["PARITY_OUTCOMES"], "a", encoding="utf-8") as file:
            file.write(json.dumps(_outcomes.by_test.pop(report.nodeid)) + "\n")


def pytest_sessionfinish() -> None:
    """Fail where something has put another ``jax.jit`` in our place: the run would have judged nothing."""
    replaced = jax.jit is not _PLAIN[0]
    if replaced != (_JIT != "plain"):
        raise pytest.UsageError(f"jax.jit is {jax.jit!r} at the end of a run of {_JIT}")
