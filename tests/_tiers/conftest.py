"""Caches on directories that are closed in the end."""

import pytest

from jaxcache import DiskCache

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
