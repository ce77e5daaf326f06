"""``python -m flows.worker tcp://head:8786``: Dask workers of this machine for sweeps with ``runner=dask``.

Each GPU, or each slot of CPU cores, has one Dask worker. The command is started on every machine, in a checkout of the
same commit as the sweep's. Ctrl-C ends the workers; others take over the trials that they had begun.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from typing import Any

from jaxcache.lab.counted import counted
from jaxcache.lab.running.device import find_devices
from jaxcache.lab.trial import Device

from .planning.errors import UsageError
from .planning.invocation import command_of


def main(words: list[str] | None = None) -> int:
    """Run the workers until interrupted, or until the scheduler ends; return the exit code."""
    parser = argparse.ArgumentParser(
        prog=command_of("worker"), description="Let this machine work for sweeps with runner=dask."
    )
    parser.add_argument("address", help="of the Dask scheduler, such as tcp://head:8786 (on head: dask scheduler)")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="auto: GPUs if there are any")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="default: every GPU, or a slot for every two cores, at least two"
    )
    parser.add_argument("--host", help="the address to listen at; default: that from which the scheduler is reached")
    parser.add_argument("--scratch", metavar="DIRECTORY", help="for files of running trials; default: the system's")
    options = parser.parse_args(words)
    try:
        if options.workers is not None and options.workers < 1:
            raise ValueError(f"--workers must be at least 1, but is {options.workers}")
        devices = find_devices(options.device, options.workers)
    except ValueError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    return asyncio.run(_work(options, devices))


async def _work(options: argparse.Namespace, devices: list[Device]) -> int:
    nannies: list[Any] = []
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(f"{_listed(devices)} for {options.address}; Ctrl-C ends it. Connecting …", flush=True)
    work, stopping = asyncio.create_task(_serve(options, devices, nannies)), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for nanny in nannies:
            with contextlib.suppress(Exception):
                await nanny.close(timeout=5)
    if stop.is_set():
        return 0
    failed = work.exception()
    print(f"worker: {failed or 'the scheduler ended'}", file=sys.stderr)
    return 2 if isinstance(failed, UsageError) else 1 if failed else 0


def _listed(devices: list[Device]) -> str:
    slots = ", ".join(map(_slot, devices))
    return f"{counted(len(devices), 'worker')} ({slots})"


def _slot(device: Device) -> str:
    count = len(device.cores)
    cores = f" ({counted(count, 'core')})" if count else ""
    return f"{device.platform} {device.index}{cores}"


async def _serve(options: argparse.Namespace, devices: list[Device], nannies: list[Any]) -> None:
    """Start a worker for each device, restarted if it dies, into ``nannies``; return when all ended for good."""
    from distributed import Nanny
    from distributed.comm.addressing import get_address_host
    from distributed.utils import get_ip

    from .workers.dask_cluster import check_scheduler, nanny_options

    address, scratch = options.address, options.scratch
    await check_scheduler(address, address)  # a worker that cannot connect would not print why
    host = options.host or str(get_ip(get_address_host(address)))
    nannies += [Nanny(address, local_directory=scratch, **nanny_options(device, host)) for device in devices]
    await asyncio.gather(*nannies)
    print("Ready.", flush=True)
    await asyncio.gather(*(nanny.finished() for nanny in nannies))


if __name__ == "__main__":
    sys.exit(main())
