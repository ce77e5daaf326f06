"""What a report needs is prepared ahead, and Vega's scripts are kept between reports."""

import subprocess
import sys

import pytest
import vl_convert

from jaxcache.lab.report import vega

LIGHT = """
import sys, flows.planning.plan
print(sorted({'jax', 'scipy', 'optax', 'altair', 'vl_convert', 'prefect'} & set(sys.modules)))
"""
MISTYPED = """
import sys
from flows.sweep import main
from flows.tune import main as tune
for mistake in ("evicton=lru", "eviction=lrru", "memory_limit=1KiB", "seed=-1", "runner.workers=0"):
    assert main([mistake]) == tune(["workload=monte_carlo", mistake]) == 2, mistake
assert main(["workload=monte_carlo", "workload.paths=1"]) == main(["workload=program", "program.script=none.py"]) == 2
assert tune(["limits=1MIB,x"]) == 2
print("jax" in sys.modules)
"""
PREPARED = """
import sys, threading
from jaxcache.lab.report.warm_up import prepare_report
thread = threading.Thread(target=prepare_report)
thread.start()
thread.join()
print(sorted({"altair", "jaxcache.lab.report.write"} & set(sys.modules)))
"""


def told(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120, **environment
    ).stdout


@pytest.fixture
def scripts(monkeypatch, tmp_path):
    """A cache directory of its own, and how often scripts were bundled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundled = []

    def bundle(*_, **__):
        bundled.append(1)
        return "window.vega = 1;"

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)  # the real one takes a second; pages test it
    vega.vega_scripts.cache_clear()
    yield tmp_path / "jaxcache", bundled
    vega.vega_scripts.cache_clear()


def test_a_mistyped_key_or_a_wrong_value_is_answered_without_importing_jax():
    assert told(MISTYPED) == "False\n"


def test_planning_imports_nothing_that_only_trials_and_reports_need():
    assert told(LIGHT) == "[]\n"


def test_preparing_in_a_thread_leaves_all_that_a_report_imports():
    assert told(PREPARED) == "['altair', 'jaxcache.lab.report.write']\n"


def test_scripts_are_bundled_once_for_all_processes(scripts):
    cache, bundled = scripts
    for _ in range(3):
        assert vega.vega_scripts() == "window.vega = 1;"
        vega.vega_scripts.cache_clear()  # as a new process
    assert len(bundled) == 1
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("damage", [lambda text: text[:-4], lambda text: "", lambda text: text.replace("vega", "evil")])
def test_scripts_that_are_not_as_they_were_written_are_bundled_again(scripts, damage):
    cache, bundled = scripts
    vega.vega_scripts()
    (kept,) = cache.iterdir()
    kept.write_text(damage(kept.read_text()))
    vega.vega_scripts.cache_clear()
    assert vega.vega_scripts() == "window.vega = 1;"
    assert len(bundled) == 2


def test_a_cache_directory_that_cannot_be_written_costs_a_bundle_and_no_error(scripts, monkeypatch):
    _, bundled = scripts
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    for _ in range(2):
        assert vega.vega_scripts() == "window.vega = 1;"
        vega.vega_scripts.cache_clear()
    assert len(bundled) == 2
