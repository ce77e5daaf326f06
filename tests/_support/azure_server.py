"""A server of Azure's blobs on a loopback address: azurite, where ``npm install -g azurite`` has put it on the PATH."""

import base64
import contextlib
import hashlib
import hmac
import os
import shutil
import subprocess
import urllib.request
from email.utils import formatdate

import pytest

from .object_servers import free_port, wait_until_answered

_ACCOUNT = "devstoreaccount1"  # azurite's own, as its key is; both are published
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_VERSION = "2023-11-03"


@contextlib.contextmanager
def azure_server():
    """Yield the port of a server of Azure's blobs in a process of its own; skip the test where there is none."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite is not installed: npm install -g azurite")
    port = free_port()
    process = subprocess.Popen(
        [program, "--inMemoryPersistence", "--blobPort", str(port), "--silent", "--skipApiVersionCheck"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AZURITE_TELEMETRY_OPTOUT": "1"},
    )
    try:
        wait_until_answered(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def make_container(port, name):
    date = formatdate(usegmt=True)
    signed = "\n".join(
        ["PUT", *[""] * 11, f"x-ms-date:{date}", f"x-ms-version:{_VERSION}",
         f"/{_ACCOUNT}/{_ACCOUNT}/{name}", "restype:container"]
    )  # fmt: skip
    digest = hmac.new(base64.b64decode(_KEY), signed.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": _VERSION,
        "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}",
    }
    url = f"http://127.0.0.1:{port}/{_ACCOUNT}/{name}?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="PUT"), timeout=30).close()


def azure_environment(port):
    """Return the variables by which a program finds the server."""
    return {
        "AZURE_ENDPOINT": f"http://127.0.0.1:{port}/{_ACCOUNT}",
        "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
    }
