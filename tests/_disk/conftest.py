"""A directory, and caches on it that are closed in the end."""

import pytest

from jaxcache import DiskCache

PARTS = {"jax": "test", "cpu": "test"}


@pytest.fixture
def open_cache(tmp_path):
    made = []

    def opened(path=None, *args, **options):
        options.setdefault("fingerprint", PARTS)
        made.append(DiskCache(path or tmp_path / "shared", *args, **options))
        return made[-1]

    yield opened
    for cache in made:
        cache.close()
