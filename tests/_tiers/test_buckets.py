"""The commands over servers of S3 and GCS: push, pull, stats and gc, and what refuses them."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from jaxcache._remote.layout import CLOCK
from jaxcache._remote.object_store import ObjectStore
from jaxcache._remote.urls import check_url
from jaxcache._tiers import sync

pytest.importorskip("obstore")


@pytest.fixture
def local(open_cache, tmp_path):
    with open_cache("local") as cache:
        for number in range(4):
            cache.put(f"jit_f{number}-1", bytes([number]) * 1000, 2.0)
    return tmp_path / "local"


def test_a_bucket_is_filled_read_told_of_and_cleaned(told, local, bucket, open_cache, tmp_path, monkeypatch):
    assert told("push", "--dir", local, bucket)[1].startswith("pushed 4 entries")
    assert told("push", "--dir", local, bucket)[1] == "pushed 0 entries, 0 B; already there: 4\n"
    with open_cache("other") as other:
        pass
    code, text = told("pull", "--dir", tmp_path / "other", bucket)
    assert (code, text.startswith("pulled 4 entries")) == (0, True)
    assert {path.read_bytes() for path in other.path.rglob("*.entry")} == {
        path.read_bytes() for path in local.rglob("*.entry")
    }
    assert json.loads(told("stats", "--dir", local, "--remote", bucket, "--json")[1])["remote"]["entries"] == 4
    assert told("gc", bucket, "--older-than", "0s")[1].startswith("removed 0 entries")  # all are of the last hour
    set_back(monkeypatch, 40 * 86400)
    assert told("gc", bucket, "--limit", "3KB")[1].startswith("removed 2 entries")
    assert told("gc", bucket, "--older-than", "30d")[1].startswith("removed 2 entries")
    assert told("gc", bucket, "--older-than", "30d")[1].startswith("removed 0 entries")


def set_back(monkeypatch, seconds):
    """Have the store say that all was written so long ago, but for what is written to see what time it is there."""
    list_now = ObjectStore.list

    async def list_older(store, prefix):
        objects = await list_now(store, prefix)
        return [replace(each, modified=each.modified - seconds * (each.name != CLOCK)) for each in objects]

    monkeypatch.setattr(ObjectStore, "list", list_older)


@pytest.mark.parametrize("hours", [-1, 1, 1000])
def test_gc_goes_by_the_clock_of_the_store(told, local, bucket, monkeypatch, hours):
    assert told("push", "--dir", local, bucket)[0] == 0
    wrong = time.time() + hours * 3600
    monkeypatch.setattr(sync, "time", SimpleNamespace(time=lambda: wrong))  # of the host that cleans up
    assert told("gc", bucket, "--limit", "1KB", "--older-than", "30m")[1].startswith("removed 0 entries")
    set_back(monkeypatch, 90 * 60)
    assert told("gc", bucket, "--older-than", "3h")[1].startswith("removed 0 entries")
    assert told("gc", bucket, "--older-than", "80m")[1].startswith("removed 4 entries")


def test_what_another_has_deleted_keeps_nothing_from_being_deleted(bucket):
    store = ObjectStore(check_url(bucket))

    async def fill_and_delete():
        names = [f"f/{number}" for number in range(60)]
        for name in names[30:]:
            await store.put(name, b"x", replace=False)
        await store.delete(names)
        return await store.list("f")

    assert store.run(fill_and_delete()) == []


@pytest.mark.parametrize("command", ["push", "pull", "gc"])
def test_what_a_bucket_refuses_ends_a_command_with_one_line(told, local, bucket, proxy, command):
    proxy.behaviour = "refuse"
    words = ["--older-than", "1d"] if command == "gc" else ["--dir", local]
    code, text = told(command, bucket, *words)
    assert (code, "403" in text, len(text.splitlines())) == (2, True, 1), text
    assert "testing" not in text  # the credentials
