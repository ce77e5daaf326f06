"""Prefect runs whose process ended at once: their record is closed from elsewhere, or it would say running for ever."""

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import PrefectException
from prefect.states import Crashed

_UNFINISHED = TaskRunFilter(
    state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
)
_PROJECT = Path(__file__).resolve().parents[2]
_RESUMED = "its process was killed; another run went on with the sweep"
KILLED = "its process was killed; sweep.resume= goes on with the sweep"
_LEFT = "left at once, by a second interrupt"


def close_from_elsewhere(run_url: str) -> None:
    """Start a process that closes a run, since this process is about to end at once."""
    subprocess.Popen(
        [sys.executable, "-m", __name__, run_url], cwd=_PROJECT, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def close(run_url: str, why: str = _RESUMED) -> None:
    """Set a run and its tasks to crashed unless they have ended. Runs of another server are left alone."""
    try:
        with get_client(sync_client=True) as client:
            _close(client, UUID(run_url.rpartition("/")[2]), Crashed(message=why))
    except (PrefectException, httpx.HTTPError, ValueError):  # a wrong record must not fail a sweep
        return


def _close(client: SyncPrefectClient, run_id: UUID, crashed: State) -> None:
    """Close a run, and the run that it is a part of, whose process was the same."""
    flow_run = client.read_flow_run(run_id)
    if flow_run.parent_task_run_id is not None:
        parent = client.read_task_run(flow_run.parent_task_run_id).flow_run_id
        if parent is not None:
            _close(client, parent, crashed)
    if flow_run.state is None or flow_run.state.is_final():
        return
    run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    for task in client.read_task_runs(flow_run_filter=run, task_run_filter=_UNFINISHED):
        client.set_task_run_state(task.id, crashed, force=True)
    client.set_flow_run_state(run_id, crashed, force=True)


if __name__ == "__main__":
    close(sys.argv[1], _LEFT)
