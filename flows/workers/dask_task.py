"""What runs in a Dask worker: it starts a trial's process beside itself, and sends back what that left.

Orders and files travel, and nothing else: the sweep's directory need not be seen from here.
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

from jaxcache.lab.environment import code_version, environment
from jaxcache.lab.running import launch as run
from jaxcache.lab.running.device import find_devices
from jaxcache.lab.running.progress_file import read_advance
from jaxcache.lab.trial import Device

DEVICE = "JAXCACHE_WORKER_DEVICE"  # which of its host's devices a worker has, as python -m flows.worker says
ORDERS = TypeAdapter(run.TrialJob)  # they travel as JSON
_TOLD_EVERY_SECONDS = 1.0  # how far a trial is
_HERE = Path(__file__).resolve().parents[1]


def sources() -> str:
    """Return the hash of all code that a trial depends on, and of this."""
    return f"{code_version()}-{code_version(_HERE)}"


def own_device() -> Device:
    """Return the device that is this worker's."""
    told = os.environ.get(DEVICE)
    return find_devices(workers=1)[0] if told is None else Device.model_validate_json(told)


def describe(tokens: dict[str, str]) -> dict[str, Any]:
    """Return what this worker is, and which of the files it cannot see as the caller wrote them."""
    run.warm_up()
    return {
        "sources": sources(),
        "host": socket.gethostname(),
        "device": own_device().model_dump(mode="json"),
        "environment": environment().model_dump(mode="json"),
        "daemon": multiprocessing.current_process().daemon,
        "unseen": [path for path, token in tokens.items() if _text(Path(path)) != token],
    }


def difference_from(order: run.TrialJob, of_sources: str) -> str | None:
    """Return why this worker's results are not to be compared with those that an order belongs to, or None."""
    device = own_device()
    if sources() != of_sources:
        return "runs other sources than this; check out the same commit"
    if device.slot != order.device.slot:
        return f"has {device.slot} where the others have {order.device.slot}"
    if not environment().computes_as(order.environment):
        return "computes otherwise than the others (other packages or processor)"
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


class _GivenUp(threading.Event):
    """Set once Dask no longer wants the task: it was cancelled, or whoever submitted it is gone."""

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
def _telling(scratch: Path, trial_id: str, topic: str) -> Iterator[None]:
    """Log on a topic of Dask how far the trial is that has this directory, as often as that changes."""
    worker, over = get_worker(), threading.Event()

    def tell() -> None:
        before = None
        while not over.wait(_TOLD_EVERY_SECONDS):
            advance = read_advance(scratch)
            if advance != before and advance is not None:
                worker.log_event(topic, {"trial_id": trial_id, "advance": advance.model_dump()})
                before = advance

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def carry_out(
    text: str, timeout_seconds: float, bounded: dict[str, Any], of_sources: str, topic: str
) -> dict[str, Any]:
    """Run what an order says on this worker's device, and log on the topic how far it is.

    Returns:
        ``refused``: why this worker, which may have come after the sweep had looked at all, is not to work for it; or
        ``files`` of the order's directory by relative name; ``failed``, why a reference did not finish, or None;
        ``interrupted``.
    """
    told = ORDERS.validate_json(text)
    if difference := difference_from(told, of_sources):
        return {"refused": f"{socket.gethostname()} {difference}"}
    place = Path(tempfile.mkdtemp(prefix="trial-", dir=get_worker().local_directory))
    order = replace(told, directory=place, device=own_device(), environment=environment())
    bounds = run.Bounds(**bounded)
    given_up, failed, interrupted = _GivenUp(), None, False
    try:
        if order.kind == "reference":
            run.run_reference(order, timeout_seconds, given_up, bounds)
        else:
            with _telling(order.scratch, order.trial_id, topic):
                run.run_trial(order, timeout_seconds, given_up, bounds)
    except run.Failed as error:
        failed = str(error)
    except run.Interrupted:
        interrupted = True
    try:
        files = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        return {"refused": None, "files": files, "failed": failed, "interrupted": interrupted}
    finally:
        shutil.rmtree(place, ignore_errors=True)
