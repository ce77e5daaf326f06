"""Ports of the project's Prefect server: free ones, reserved among this user's projects."""

import fcntl
import os
import random
import socket
import tempfile
import time
from pathlib import Path

from .settings import ServerError

_RELEASE_SECONDS = 5.0  # a killed server, even one that counts as dead, keeps its port until its memory is freed
_PORTS = range(4200, 4300)  # below those of outgoing connections, so that a server's port is free again after it ends


def reserve_port(host: str, previous: int | None, seed: str) -> tuple[int, int | None]:
    """Return a free port, and the descriptor that reserves it for the server that inherits it.

    Args:
        host: Address to listen at.
        previous: Port of the project's last server, which links in reports name; it is preferred.
        seed: Seed of the order in which others are tried, different for each project, so that those that start servers
            at one moment try different ports, and each gets the same one again.

    Returns:
        The port; the descriptor, or None for a port that the system chose, which needs no reservation.

    Raises:
        ServerError: If no port of the address is free.
    """
    if previous is not None and (reservation := _reserve_when_released(host, previous)) is not None:
        return previous, reservation
    for port in (_PORTS[0], *random.Random(seed).sample(_PORTS, len(_PORTS))):
        if (reservation := _reserve_free(host, port)) is not None:
            return port, reservation
    port = _bindable(host, 0)
    if port is None:
        raise ServerError(f"no free port on {host} for the Prefect server; is this an address of this machine?")
    return port, None


def _reserve_when_released(host: str, port: int) -> int | None:
    """Reserve a port that a server that has just ended may still hold; None if it stays taken."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    while (reservation := _reserve_free(host, port)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return reservation


def _reserve_free(host: str, port: int) -> int | None:
    """Return a descriptor that reserves a port, or None if it is taken or reserved."""
    return None if _bindable(host, port) is None else _reserve(port)


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
