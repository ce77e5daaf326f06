"""Ports of the project's Prefect server: free ones, reserved among this user's projects."""

import fcntl
import os
import random
import socket
import tempfile
import time
from pathlib import Path

from .settings import LOOPBACK, ServerError

_RELEASE_SECONDS = 5.0  # a killed server, even one that counts as dead, keeps its port until its memory is freed
_PORTS = range(4200, 4300)  # below those of outgoing connections, so that a server's port is free again after it ends


def reserve_port(host: str = LOOPBACK, previous: int | None = None) -> tuple[int, int | None]:
    """Return a free port, and the descriptor that reserves it for the server that inherits it.

    Args:
        host: Address to listen at.
        previous: Port of a server that was not stopped, whose address others still use; it is preferred.

    Returns:
        The port; the descriptor, or None for a port that the system chose, which needs no reservation.

    Raises:
        ServerError: If no port of the address is free.
    """
    if previous is not None:
        deadline = time.monotonic() + _RELEASE_SECONDS
        while _bindable(host, previous) is None and time.monotonic() < deadline:
            time.sleep(0.05)
    others = random.sample(_PORTS, len(_PORTS))  # so that projects that start servers at one moment try different ports
    for port in (*(() if previous is None else (previous,)), _PORTS[0], *others):
        if _bindable(host, port) is not None and (reservation := _reserve(port)) is not None:
            return port, reservation
    port = _bindable(host, 0)
    if port is None:
        raise ServerError(f"no free port on {host} for the Prefect server; is this an address of this machine?")
    return port, None


def _reserve(port: int) -> int | None:
    """Return a descriptor that reserves a port among this user's projects for as long as a process has it open.

    A server listens only seconds after its port was chosen. In the meantime another project could choose it too.
    """
    path = Path(tempfile.gettempdir()) / f"jaxcache-prefect-{os.getuid()}-{port}.lock"
    try:
        reservation = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:  # another user's file
        return None
    try:
        fcntl.flock(reservation, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(reservation)
        return None
    return reservation


def _bindable(host: str, port: int) -> int | None:
    """Return the port, or for 0 any port, if a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return None
        return probe.getsockname()[1]
