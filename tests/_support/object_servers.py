"""Object stores on loopback addresses: a server of the S3 protocol, and a proxy that delays, drops and counts."""

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from urllib.parse import unquote

_REQUEST = re.compile(rb"^(GET|PUT|POST|DELETE|HEAD) (\S+) HTTP/1\.1\r\n")
_CREDENTIAL = re.compile(rb"Credential=([^/]+)/[0-9]+/([^/]+)/s3/")
_START_SECONDS = 60.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_answered(port, process):
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server on port {port} has not begun")


@contextlib.contextmanager
def s3_server():
    """Yield the port of a server of S3 in a process of its own."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_answered(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def make_bucket(port, name):
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/{name}", method="PUT"), timeout=30).close()


def s3_environment(port):
    """Return the variables by which a program finds the server, as every client of S3 reads them."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }


class Proxy:
    """A server in front of another. ``delay_seconds`` is a round trip: of each connection, and of each request.

    Attributes:
        requests: Method and path, unquoted, of every request that has come.
        slowed: Seconds by which a request is delayed in addition, by a part of its path.
        signed_by: Access key and region of every request to S3 that was signed.
        behaviour: ``pass``, ``hang`` (nothing is answered), ``drop`` (the connection ends) or ``refuse`` (403).
        tamper: Called with the method, the path and each piece of an answer; returns what goes on to the client.
    """

    def __init__(self, port, delay_seconds=0.0):
        self.upstream, self.delay_seconds = port, delay_seconds
        self.signed_by, self.slowed = set(), {}
        self.requests, self.behaviour, self.tamper = [], "pass", lambda method, path, piece: piece
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def count(self, method, part=""):
        return sum(1 for each, path in self.requests if each == method and part in path)

    def close(self):
        async def end():
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.05)  # closed connections are told of in the next turns of the loop

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _serve(self, reader, writer):
        last, upstream = ["", ""], []
        try:
            with contextlib.suppress(ConnectionError):
                await self._pass_on(reader, writer, last, upstream)
        finally:
            for answering, to_server in upstream:
                answering.cancel()
                to_server.close()
            writer.close()

    async def _pass_on(self, reader, writer, last, upstream):
        await asyncio.sleep(self.delay_seconds)
        while piece := await reader.read(65536):
            if match := _REQUEST.match(piece):
                last[:] = [match[1].decode(), unquote(match[2].decode())]
                self.requests.append(tuple(last))
                self.signed_by |= {(key.decode(), region.decode()) for key, region in _CREDENTIAL.findall(piece)}
                await asyncio.sleep(self.delay_seconds + self._added_seconds(last[1]))
            if self.behaviour == "hang":
                await asyncio.sleep(3600)
            if self.behaviour == "drop":
                return
            if self.behaviour == "refuse":
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                continue
            if not upstream:
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self.upstream)
                upstream.append((asyncio.ensure_future(self._answer(from_server, writer, last)), to_server))
            upstream[0][1].write(piece)
            await upstream[0][1].drain()

    def _added_seconds(self, path):
        return sum(seconds for part, seconds in self.slowed.items() if part in path)

    async def _answer(self, from_server, writer, last):
        with contextlib.suppress(ConnectionError):
            while piece := await from_server.read(65536):
                piece = self.tamper(last[0], last[1], piece)
                if self.behaviour == "hang":
                    await asyncio.sleep(3600)
                if piece is None:
                    break
                writer.write(piece)
                await writer.drain()
        writer.close()
