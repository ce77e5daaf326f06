"""One trial as the peers of ``benchmarks.sweep_peers`` run it: all of its work, in a process that has just started.

python -m benchmarks.peer_trial < order.json
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PeerOrder:
    """What a process is told.

    Attributes:
        config: Of the trial, as ``conf/sweep.yaml`` composes it.
        costs: The cost table that it decides by.
        home: Where ``trials/<id>/result.json`` goes.
        cores: Of each slot; a process takes one that is free.
    """

    config: dict[str, Any]
    costs: str
    home: str
    cores: list[list[int]]

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))


def run(order: PeerOrder) -> None:
    """Do the trial and leave its result, as a trial's process of ``flows.sweep`` does."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from jaxcache import CostTable
    from jaxcache.lab.environment import environment
    from jaxcache.lab.running import process as child
    from jaxcache.lab.running.job import TrialJob
    from jaxcache.lab.trial import Device, Trial

    trial = Trial.model_validate(
        {key: value for key, value in order.config.items() if key not in ("runner", "sweep", "costs")}
    )
    place = Path(order.home, "trials", trial.id)
    place.mkdir(parents=True)
    costs = CostTable.load(order.costs)
    with slot(order) as (index, cores):
        device = Device(platform="cpu", index=index, cores=tuple(cores))
        told = TrialJob("trial", trial, device, place, environment(), dict(costs), trial.id, trial.program_id)
        child.main(told)
        shutil.rmtree(told.scratch, ignore_errors=True)


@contextlib.contextmanager
def slot(order: PeerOrder) -> Iterator[tuple[int, list[int]]]:
    """Hold cores that nobody else works on; there are as many slots as processes."""
    while True:
        for index, cores in enumerate(order.cores):
            with Path(order.home, f"slot-{index}").open("w") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield index, cores
                return
        time.sleep(0.005)


if __name__ == "__main__":
    run(PeerOrder(**json.load(sys.stdin)))
