"""Caches on directories that are closed in the end; servers of S3 and GCS, and a proxy in front of them."""

import zlib

import pytest

from jaxcache import DiskCache

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


@pytest.fixture(scope="session", params=["s3", "gs"])
def store_server(request):
    """Protocol and port of a server of object stores."""
    pytest.importorskip("obstore")
    if request.param == "s3":
        pytest.importorskip("moto")
    with s3_server() if request.param == "s3" else gcs_server() as port:
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
    variables = s3_environment(proxy.port) if protocol == "s3" else gcs_environment(proxy.port, tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    name = f"b{zlib.crc32(request.node.nodeid.encode())}"
    (make_bucket if protocol == "s3" else make_gcs_bucket)(port, name)
    return f"{protocol}://{name}/jax"
