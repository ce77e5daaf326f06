"""Caches on directories that are closed in the end; an S3 server, and a proxy in front of it."""

import zlib

import pytest

from jaxcache import DiskCache

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


@pytest.fixture(scope="session")
def s3_port():
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    with s3_server() as port:
        yield port


@pytest.fixture
def proxy(s3_port):
    proxy = Proxy(s3_port)
    yield proxy
    proxy.close()


@pytest.fixture
def bucket(s3_port, proxy, monkeypatch, request):
    """The address of a new bucket that this process reaches through the proxy."""
    for name, value in s3_environment(proxy.port).items():
        monkeypatch.setenv(name, value)
    name = f"b{zlib.crc32(request.node.nodeid.encode())}"
    make_bucket(s3_port, name)
    return f"s3://{name}/jax"
