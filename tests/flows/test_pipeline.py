"""How a sweep ends and what it takes over, without running one."""

import threading
import time
from types import SimpleNamespace

import pytest
from prefect.states import Cancelled, Completed, Failed

from flows.running import artifacts
from flows.running.flow import how_it_ended
from flows.running.progress import Progress
from flows.running.session import saved_costs
from jaxcache import Cost, CostTable
from jaxcache.lab.layout import COSTS, RESULT, TRIALS


def session(directory, *, done, stopped=False):
    """Two trials, of which some have a result."""
    trials = [SimpleNamespace(trial_id=name) for name in ("a", "b")]
    for name in done:
        (directory / TRIALS / name).mkdir(parents=True)
        (directory / TRIALS / name / RESULT).write_text("{}")
    stop = threading.Event()
    if stopped:
        stop.set()
    return SimpleNamespace(directory=directory, plan=SimpleNamespace(trials=trials), stop=stop)


@pytest.mark.parametrize(
    ("done", "states", "stopped", "ended"),
    [
        ("ab", [Completed(), Completed()], False, "completed"),
        ("ab", [Completed(), Failed()], False, "failed"),
        ("a", [Completed(), Failed(message="No space left on device")], False, None),  # not finished: it can go on
        ("a", [Completed(), Cancelled()], True, "interrupted"),
    ],
)
def test_a_sweep_is_finished_only_if_every_trial_has_a_result(tmp_path, done, states, stopped, ended):
    assert how_it_ended(session(tmp_path, done=done, stopped=stopped), states, True) == ended


def test_a_cost_table_that_cannot_be_read_does_not_keep_a_sweep_from_going_on(tmp_path):
    assert len(saved_costs(tmp_path)) == 0
    (tmp_path / COSTS).write_text("")
    assert len(saved_costs(tmp_path)) == 0
    CostTable({"f(float32[3])": Cost(1000, 0.5)}).save(tmp_path / COSTS)
    assert len(saved_costs(tmp_path)) == 1


def test_the_last_progress_to_arrive_is_the_last_however_slow_the_server(monkeypatch):
    arrived, slow = [], threading.Event()

    def update(_, percent):
        slow.set()
        time.sleep(0.2)
        arrived.append(percent)

    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda *_, **__: "its id")
    monkeypatch.setattr(artifacts, "update_progress_artifact", update)
    monkeypatch.setattr(artifacts, "_EVERY_SECONDS", 0.01)
    progress = Progress(2, quiet=True)
    with artifacts.publishing(progress):
        progress.trial_done("", SimpleNamespace(status="succeeded", statistics=None))
        assert slow.wait(60)
        progress.trial_done("", SimpleNamespace(status="succeeded", statistics=None))
    assert arrived == [50, 100]
