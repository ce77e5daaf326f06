"""Prefect's record of a run whose process was killed: nobody could say that it ended, and it would run for ever."""

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
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.states import Crashed

_UNFINISHED = TaskRunFilter(
    state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
)
_TOLD = Crashed(message="its process was killed; another run went on with the sweep")


def close(run_url: str) -> None:
    """Set a run and its tasks to crashed unless they have ended. What another server keeps is left alone."""
    try:
        with get_client(sync_client=True) as client:
            _close(client, UUID(run_url.rpartition("/")[2]))
    except (PrefectException, httpx.HTTPError, ValueError):  # a record, not worth a sweep
        return


def _close(client: SyncPrefectClient, run_id: UUID) -> None:
    state = client.read_flow_run(run_id).state
    if state is None or state.is_final():
        return
    run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    for task in client.read_task_runs(flow_run_filter=run, task_run_filter=_UNFINISHED):
        client.set_task_run_state(task.id, _TOLD, force=True)
    client.set_flow_run_state(run_id, _TOLD, force=True)
