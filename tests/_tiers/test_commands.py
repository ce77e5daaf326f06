"""push, pull, gc, bundle, keygen and stats --remote: what they print, what they change, how they end."""

import io
import json
import os
import shutil
import tarfile
import time

import pytest


@pytest.fixture
def local(open_cache, tmp_path):
    with open_cache("local", limit="1MiB") as cache:
        for number in range(4):
            cache.get(f"jit_f{number}-1")
            cache.put(f"jit_f{number}-1", bytes([number]) * 1000, 2.0)
    return tmp_path / "local"


@pytest.fixture
def store(tmp_path):
    pytest.importorskip("obstore")
    (tmp_path / "store").mkdir(mode=0o700)
    return tmp_path / "store"


@pytest.fixture
def empty(open_cache, tmp_path):
    open_cache("empty", limit="1MiB").close()
    (tmp_path / "empty" / "entries").mkdir(mode=0o700, exist_ok=True)
    return tmp_path / "empty"


def entries_of(root):
    return {path.name: path.read_bytes() for path in root.rglob("*.entry")}


def test_what_is_pushed_can_be_pulled_and_only_what_is_missing_travels(told, local, store, empty, open_cache):
    url = store.as_uri()
    code, text = told("push", "--dir", local, url)
    assert (code, text.startswith("pushed 4 entries"), "already there: 0" in text) == (0, True, True)
    code, text = told("push", "--dir", local, url)
    assert (code, text) == (0, "pushed 0 entries, 0 B; already there: 4\n")
    assert entries_of(store) == entries_of(local)
    code, text = told("pull", "--dir", empty, url)
    assert code == 0
    assert text.startswith("pulled 4 entries")
    assert entries_of(empty) == entries_of(local)
    assert told("pull", "--dir", empty, url, "--json")[1].count('"present": 4') == 1
    with open_cache("empty") as cache:
        assert cache.get("jit_f3-1") == bytes([3]) * 1000
        assert cache.stats().entries == 4
    code, text = told("stats", "--dir", local, "--remote", url)
    assert "remote          4 entries" in text
    assert json.loads(told("stats", "--dir", local, "--remote", url, "--json")[1])["remote"]["entries"] == 4


def test_a_pull_keeps_the_directorys_limit(told, local, store, open_cache, tmp_path):
    told("push", "--dir", local, store.as_uri())
    open_cache("small", limit="3KB").put("jit_a-1", b"x", 1.0)
    code, text = told("pull", "--dir", tmp_path / "small", store.as_uri())
    assert sum(map(len, entries_of(tmp_path / "small").values())) <= 3000
    assert (code, "pulled" in text) == (0, True)


def test_bad_entries_are_neither_pushed_nor_pulled(told, local, store, empty):
    first, second, *_ = sorted(local.rglob("*.entry"))
    first.write_bytes(first.read_bytes()[:-1])
    code, text = told("push", "--dir", local, store.as_uri())
    assert (code, "not trusted: 1" in text, len(entries_of(store))) == (1, True, 3)
    planted = next(path for path in store.rglob("*.entry") if path.name != second.name)
    planted.write_bytes(second.read_bytes())  # another's, under its name
    code, text = told("pull", "--dir", empty, store.as_uri())
    assert (code, "not trusted: 1" in text, len(entries_of(empty))) == (1, True, 2)


def test_an_entry_that_is_none_does_not_keep_the_others_from_being_pushed(told, local, store):
    first, *_ = sorted(local.rglob("*.entry"))
    first.rename(local / "moved")
    first.symlink_to(local / "moved")
    code, text = told("push", "--dir", local, store.as_uri())
    assert (code, "not trusted: 1" in text, len(entries_of(store))) == (1, True, 3)


def test_nothing_is_pulled_from_a_folder_that_others_may_write_to(told, local, store, empty, capsys):
    told("push", "--dir", local, store.as_uri())
    store.chmod(0o777)
    code, _ = told("pull", "--dir", empty, store.as_uri())
    assert code == 2
    assert not entries_of(empty)


@pytest.mark.parametrize("way", ["push", "bundle"])
def test_stores_and_bundles_bring_what_a_fingerprint_is_made_of(told, local, store, empty, tmp_path, way):
    if way == "push":
        told("push", "--dir", local, store.as_uri())
        told("pull", "--dir", empty, store.as_uri())
    else:
        told("bundle", "create", tmp_path / "b.jcb", "--dir", local)
        told("bundle", "load", tmp_path / "b.jcb", "--dir", empty)
    (about,) = local.rglob("about.json")
    assert (empty / about.relative_to(local)).read_text() == about.read_text()
    told("bundle", "create", tmp_path / "1.jcb", "--dir", local)
    told("bundle", "create", tmp_path / "2.jcb", "--dir", empty)
    assert (tmp_path / "1.jcb").read_bytes() == (tmp_path / "2.jcb").read_bytes()


def age(path, days):
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def test_gc_removes_what_no_run_has_used_lately_and_spares_the_young(told, local, store, open_cache):
    url = store.as_uri()
    told("push", "--dir", local, url)
    with open_cache("other", remote=url) as other:  # its manifest names one of them
        other.get("jit_f0-1")
    for days, path in enumerate(sorted(store.rglob("*.entry")), start=40):
        age(path, days)
    (used,) = other.files.walk()
    assert told("gc", url)[0] == 2
    code, text = told("gc", url, "--older-than", "30d", "--dry-run")
    assert (code, text.startswith("would remove 3 entries"), len(entries_of(store))) == (0, True, 4)
    code, text = told("gc", url, "--older-than", "30d")
    assert (code, text.startswith("removed 3 entries")) == (0, True)
    assert set(entries_of(store)) == {f"{used.name}.entry"}
    assert told("gc", url, "--limit", "1KB")[1].startswith("removed 0 entries")  # the run was within the last hour
    for manifest in store.rglob("runs/*.json"):
        age(manifest, 35)
    assert told("gc", url, "--limit", "1KB")[1].startswith("removed 1 entry")


def test_gc_removes_those_used_longest_ago_until_the_limit_is_kept(told, local, store):
    told("push", "--dir", local, store.as_uri())
    paths = sorted(store.rglob("*.entry"))
    for days, path in enumerate(paths, start=1):
        age(path, days)
    told("gc", store.as_uri(), "--limit", "3KB")
    assert set(entries_of(store)) == {path.name for path in paths[:2]}
    listing = json.loads(next(store.rglob("listing.json")).read_bytes())["entries"]
    assert set(listing) == {path.stem for path in paths[:2]}


def test_equal_entries_make_equal_bundles(told, local, tmp_path):
    assert told("bundle", "create", tmp_path / "a.jcb", "--dir", local)[0] == 0
    shutil.copytree(local, tmp_path / "copy")
    told("bundle", "create", tmp_path / "b.jcb", "--dir", tmp_path / "copy")
    assert (tmp_path / "a.jcb").read_bytes() == (tmp_path / "b.jcb").read_bytes()
    assert tarfile.is_tarfile(tmp_path / "a.jcb")


def test_a_bundle_is_loaded_where_there_is_no_network(told, local, empty, tmp_path, open_cache):
    told("bundle", "create", tmp_path / "a.jcb", "--dir", local)
    code, text = told("bundle", "load", tmp_path / "a.jcb", "--dir", empty)
    assert (code, text.splitlines()[0]) == (0, "loaded 4 entries; already there: 0")
    assert "of " in text
    assert entries_of(empty) == entries_of(local)
    with open_cache("empty") as cache:
        assert cache.get("jit_f1-1") == bytes([1]) * 1000


def test_a_bundle_of_the_last_run_or_of_what_was_used_lately_stops_growing(told, local, tmp_path, open_cache):
    with open_cache("local") as again:  # another process begins another run
        again.index.runs.begin("host", 1, "program", again.fingerprint.id, {})
        (run, *_) = again.index.runs.last()
        again.index.runs.record(run["run"], 1, "jit_f2-1", "hit", {})
    _, text = told("bundle", "create", tmp_path / "last.jcb", "--dir", local, "--last-run")
    assert "holds 1 entry," in text
    assert "holds 4 entries" in told("bundle", "create", tmp_path / "a.jcb", "--dir", local, "--used-since", "1h")[1]
    assert "holds 0 entries" in told("bundle", "create", tmp_path / "a.jcb", "--dir", local, "--used-since", "0s")[1]


def write_tar(path, *members):
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


ABOUT = json.dumps({"version": 1, "entries": 1, "fingerprints": {}}).encode()
NAME = "0" * 64


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../../evil.entry", b"x")], "is no entry"),
        ([(f"../{NAME}.entry", b"x")], "is no entry"),
        ([(f"/etc/{NAME}.entry", b"x")], "is no entry"),
        ([(f"a/b/{NAME}.entry", b"x")], "is no entry"),
        ([(f"..../{NAME}.entry/..", b"x")], "is no entry"),
        ([(link(f"abc/{NAME}.entry", "/etc/passwd"), b"")], "is no entry"),
        ([], "cut off"),
        ([(f"a/{NAME}.entry", b"x"), (f"b/{NAME}.entry", b"x")], "cut off"),
    ],
)
def test_a_bundle_with_paths_that_climb_out_or_too_few_entries_is_refused_as_a_whole(
    told, empty, tmp_path, members, message
):
    write_tar(tmp_path / "bad.jcb", ("bundle.json", ABOUT), *members)
    before = sorted(tmp_path.rglob("*"))
    code, text = told("bundle", "load", tmp_path / "bad.jcb", "--dir", empty)
    assert (code, message in text, len(text.splitlines())) == (2, True, 1)
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and "index" not in path.parts] == []


def test_no_part_of_a_bundle_is_loaded(told, local, empty, tmp_path):
    told("bundle", "create", tmp_path / "a.jcb", "--dir", local)
    content = (tmp_path / "a.jcb").read_bytes()
    for length in [0, 1, 511, 512, 600, 1024, 2000, len(content) // 2, len(content) - 10240]:
        (tmp_path / "cut.jcb").write_bytes(content[:length])
        code, text = told("bundle", "load", tmp_path / "cut.jcb", "--dir", empty)
        assert (code, entries_of(empty)) == (2, {}), length
        assert "nothing was loaded" in text


def test_a_flipped_byte_costs_that_entry_alone(told, local, empty, tmp_path):
    told("bundle", "create", tmp_path / "a.jcb", "--dir", local)
    content = bytearray((tmp_path / "a.jcb").read_bytes())
    content[content.index(bytes([2]) * 1000) + 500] ^= 1
    (tmp_path / "a.jcb").write_bytes(content)
    code, text = told("bundle", "load", tmp_path / "a.jcb", "--dir", empty)
    assert (code, text.splitlines()[0]) == (
        1,
        "loaded 3 entries; already there: 0; left out, damaged, not trusted or beyond the limit: 1",
    )


def test_keys_are_made_and_guard_what_is_pulled(told, tmp_path, store, open_cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    code, text = told("keygen", tmp_path / "team.key")
    assert (code, text.startswith("ed25519:")) == (0, True)
    assert (tmp_path / "team.key").stat().st_mode & 0o777 == 0o600
    assert told("keygen", tmp_path / "team.key")[0] == 2
    assert told("keygen", tmp_path / "none" / "team.key")[0] == 2
    told("keygen", tmp_path / "other.key")
    for name in ("team", "other"):
        with open_cache(name, sign_key=tmp_path / f"{name}.key") as cache:
            cache.put(f"jit_{name}-1", b"value", 1.0)
        told("push", "--dir", tmp_path / name, store.as_uri(), "--sign-key", tmp_path / f"{name}.key")
    open_cache("reader", trusted_keys=[tmp_path / "team.key.pub"]).close()
    (tmp_path / "reader" / "entries").mkdir(mode=0o700, exist_ok=True)
    pull = ["pull", "--dir", tmp_path / "reader", store.as_uri(), "--trusted-key", tmp_path / "team.key.pub"]
    code, text = told(*pull)
    assert (code, text.startswith("pulled 1 entry"), "not trusted: 1" in text) == (1, True, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push", "ftp://x"], "URL must be an address such as s3://bucket/prefix"),
        (["push", "https://host/x"], "can only be read"),
        (["gc", "file:///tmp/none"], "gc needs --older-than"),
        (["gc", "file:///tmp/none", "--older-than", "soon"], "--older-than must be a time such as 30d"),
        (["bundle", "load", "none.jcb", "--last-run"], "go with bundle create"),
    ],
)
def test_wrong_commands_are_refused_in_one_line(told, local, words, message):
    code, text = told(*words, *([] if words[0] == "gc" else ["--dir", local]))
    assert (code, message in text, len(text.splitlines())) == (2, True, 1), text
