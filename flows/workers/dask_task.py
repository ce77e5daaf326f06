"""Dask task that runs a trial: the worker starts the trial's process and sends back the files that it wrote.

Only jobs and files travel, so that workers need not see the sweep's directory.
"""

import contextlib
import multiprocessing
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import get_worker
from pydantic import TypeAdapter

from jaxcache.lab.environment import environment
from jaxcache.lab.running import fork_server, launch
from jaxcache.lab.running.device import find_devices
from jaxcache.lab.running.job import TrialJob
from jaxcache.lab.running.progress_file import read_progress
from jaxcache.lab.trial import Device

from .sources import sources

DEVICE_VARIABLE = "JAXCACHE_WORKER_DEVICE"  # the worker's device, as JSON; python -m flows.worker sets it
JOBS = TypeAdapter(TrialJob)  # jobs travel as JSON
_PROGRESS_SECONDS = 1.0


def own_device() -> Device:
    """Return the device of this worker."""
    device_json = os.environ.get(DEVICE_VARIABLE)
    return find_devices(workers=1)[0] if device_json is None else Device.model_validate_json(device_json)


def describe(tokens: dict[str, str]) -> dict[str, Any]:
    """Return a description of this worker, and the files that it does not see as the caller wrote them."""
    fork_server.start()
    return {
        "sources": sources(),
        "host": socket.gethostname(),
        "device": own_device().model_dump(mode="json"),
        "environment": environment().model_dump(mode="json"),
        "daemon": multiprocessing.current_process().daemon,
        "unseen": [path for path, token in tokens.items() if _text(Path(path)) != token],
    }


def difference_from(job: TrialJob, job_sources: str) -> str | None:
    """Return why this worker's results cannot be compared with those of a job's sweep, or None."""
    device = own_device()
    if sources() != job_sources:
        return "runs other sources than this; check out the same commit"
    if device.slot != job.device.slot:
        return f"has {device.slot} where the others have {job.device.slot}"
    if not environment().computes_as(job.environment):
        return "computes otherwise than the others (other packages or processor)"
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


class _TaskCancelled(threading.Event):
    """Event that is set once Dask drops the task: it was cancelled, or the client that submitted it is gone."""

    def __init__(self) -> None:
        super().__init__()
        self._worker = get_worker()
        self._key = self._worker.get_current_task()

    def is_set(self) -> bool:
        task = self._worker.state.tasks.get(self._key)
        return task is None or task.state != "executing"

    def wait(self, timeout: float | None = None) -> bool:
        time.sleep(timeout or 0)
        return self.is_set()


@contextlib.contextmanager
def _logging_progress(scratch: Path, trial_id: str, topic: str) -> Iterator[None]:
    """Log the progress of the trial with this scratch directory on a Dask topic, whenever it changes."""
    worker, ended = get_worker(), threading.Event()

    def log() -> None:
        before = None
        while not ended.wait(_PROGRESS_SECONDS):
            progress = read_progress(scratch)
            if progress != before and progress is not None:
                worker.log_event(topic, {"trial_id": trial_id, "progress": progress.model_dump()})
                before = progress

    logger = threading.Thread(target=log, daemon=True)
    logger.start()
    try:
        yield
    finally:
        ended.set()
        logger.join()


def run_job(
    job_json: str, timeout_seconds: float, process_limits: dict[str, Any], job_sources: str, topic: str
) -> dict[str, Any]:
    """Run a job on this worker's device, and log its progress on the topic.

    Returns:
        ``refused``: why this worker, which may have joined after the sweep checked its workers, must not work for it;
        or ``files`` of the job's directory by relative name; ``failed``, why a reference did not finish, or None;
        ``interrupted``.
    """
    sent = JOBS.validate_json(job_json)
    if difference := difference_from(sent, job_sources):
        return {"refused": f"{socket.gethostname()} {difference}"}
    directory = Path(tempfile.mkdtemp(prefix="trial-", dir=get_worker().local_directory))
    job = replace(sent, directory=directory, device=own_device(), environment=environment())
    failed, interrupted = None, False
    try:
        _run(job, timeout_seconds, launch.ProcessLimits(**process_limits), topic)
    except launch.Failed as error:
        failed = str(error)
    except launch.Interrupted:
        interrupted = True
    try:
        files = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        return {"refused": None, "files": files, "failed": failed, "interrupted": interrupted}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(job: TrialJob, timeout_seconds: float, limits: launch.ProcessLimits, topic: str) -> None:
    cancelled = _TaskCancelled()
    if job.kind == "reference":
        launch.run_reference(job, timeout_seconds, cancelled, limits)
        return
    with _logging_progress(job.scratch, job.trial_id, topic):
        launch.run_trial(job, timeout_seconds, cancelled, limits)
