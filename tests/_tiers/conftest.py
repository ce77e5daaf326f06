"""Caches on directories that are closed in the end; servers of S3, GCS and Azure, and a proxy in front of them."""

import functools
import zlib

import pytest

from jaxcache import DiskCache
from jaxcache._cli.commands import main

from .._support.azure_server import azure_environment, azure_server, make_container
from .._support.gcs_server import gcs_environment, gcs_server, make_gcs_bucket
from .._support.object_servers import Proxy, make_bucket, s3_environment, s3_server

PARTS = {"jax": "test", "cpu": "test"}


@pytest.fixture
def open_cache(tmp_path):
    opened = []

    def open_(name, **options):
        options.setdefault("fingerprint", PARTS)
        opened.append(DiskCache(tmp_path / name, **options))
        return opened[-1]

    yield open_
    for cache in opened:
        cache.close()


@pytest.fixture(scope="session", params=["s3", "gs", "az"])
def store_server(request):
    """Protocol and port of a server of object stores."""
    pytest.importorskip("obstore")
    if request.param == "s3":
        pytest.importorskip("moto")
    with {"s3": s3_server, "gs": gcs_server, "az": azure_server}[request.param]() as port:
        yield request.param, port


@pytest.fixture
def proxy(store_server):
    proxy = Proxy(store_server[1])
    yield proxy
    proxy.close()


@pytest.fixture
def bucket(store_server, proxy, monkeypatch, request, tmp_path):
    """The address of a new bucket that this process reaches through the proxy."""
    protocol, port = store_server
    make, environment = {
        "s3": (make_bucket, s3_environment),
        "gs": (make_gcs_bucket, functools.partial(gcs_environment, folder=tmp_path)),
        "az": (make_container, azure_environment),
    }[protocol]
    for name, value in environment(proxy.port).items():
        monkeypatch.setenv(name, value)
    name = f"b{zlib.crc32(request.node.nodeid.encode())}"
    make(port, name)
    return f"{protocol}://{name}/jax"


@pytest.fixture
def told(capsys):
    """Run a command of jaxcache; return its exit code and all that it printed."""

    def run(*arguments):
        code = main([*map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run
