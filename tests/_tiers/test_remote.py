"""An object store behind the directory, over S3, GCS and a folder: hits, puts, what it costs, what may go wrong."""

import functools
import http.server
import json
import threading
import time
from typing import ClassVar

import pytest

from jaxcache import DiskCache, DiskCacheWarning
from jaxcache._disk.limits import Limits
from jaxcache._remote.breaker import Breaker
from jaxcache._remote.object_store import first_line
from jaxcache._tiers.sync import pull, push
from tests._support.interpreters import run_python

pytest.importorskip("obstore")

IN_ANY_STORE = pytest.mark.parametrize("store_server", ["s3"], indirect=True)  # what each store does alike

PROGRAM = """
import sys
from jaxcache import DiskCache
with DiskCache(sys.argv[1], fingerprint={"jax": "test", "cpu": "test"}, remote=sys.argv[2]) as cache:
    for key in sys.argv[3:]:
        if cache.get(key) is None:
            cache.put(key, key.encode() * 1000, 1.0)
print(cache.process_counts().remote_hits, cache.process_counts().published)
"""


def value_of(key):
    return key.encode() * 1000


def publish(open_cache, name, remote, keys):
    with open_cache(name, remote=remote) as cache:
        for key in keys:
            if cache.get(key) is None:
                cache.put(key, value_of(key), 2.0)
    return cache


def test_what_one_machine_compiles_another_reads_by_one_request_a_hit_and_none_a_miss(open_cache, bucket, proxy):
    keys = [f"jit_f{number}-1" for number in range(20)]
    writer = publish(open_cache, "one", bucket, keys)
    assert (writer.process_counts().published, writer.process_counts().remote_faults) == (20, 0)
    assert proxy.count("PUT", ".entry") == 20
    assert proxy.count("GET", ".entry") == 0
    proxy.requests.clear()
    with open_cache("other", remote=bucket) as reader:
        assert [reader.get(key) for key in keys] == [value_of(key) for key in keys]
        assert [reader.get(f"jit_g{number}-1") for number in range(20)] == [None] * 20
        assert [reader.get(key) for key in keys] == [value_of(key) for key in keys]
    counts = reader.process_counts()
    assert (counts.hits, counts.remote_hits, counts.misses, counts.copied, counts.puts) == (40, 20, 20, 20, 0)
    assert proxy.count("GET", ".entry") == 20
    assert proxy.count("GET", "prefix=") == 1  # a listing
    assert proxy.count("PUT", ".entry") == 0


def test_the_last_runs_programs_are_fetched_ahead(open_cache, bucket, proxy):
    keys = [f"jit_f{number}-1" for number in range(10)]
    publish(open_cache, "one", bucket, keys)
    proxy.requests.clear()
    with open_cache("other", remote=bucket) as cache:
        assert cache.get("jit_f9-1") == value_of("jit_f9-1")
        until = time.monotonic() + 30
        while proxy.count("GET", ".entry") < 10 and time.monotonic() < until:
            time.sleep(0.01)
    assert proxy.count("GET", ".entry") == 10
    assert cache.process_counts().remote_hits == 1


@IN_ANY_STORE
def test_a_machine_that_has_most_of_them_does_not_spoil_the_list_for_the_next(open_cache, bucket, proxy):
    keys = [f"jit_f{number}-1" for number in range(6)]
    publish(open_cache, "one", bucket, keys[:5])
    publish(open_cache, "one", bucket, keys)  # has five itself, and asks the store for the sixth alone
    proxy.requests.clear()
    with open_cache("other", remote=bucket) as cache:
        assert cache.get(keys[0]) == value_of(keys[0])
        until = time.monotonic() + 30
        while proxy.count("GET", ".entry") < 6 and time.monotonic() < until:
            time.sleep(0.01)
    assert proxy.count("GET", ".entry") == 6


def test_a_remote_that_is_only_read_is_not_written_to(open_cache, bucket, proxy):
    with open_cache("one", remote=bucket, publish=False) as cache:
        assert cache.get("jit_f-1") is None
        cache.put("jit_f-1", b"value", 1.0)
    assert proxy.count("PUT") == 0
    assert cache.process_counts().published == 0


def test_an_entry_that_is_there_is_not_written_again(open_cache, bucket, proxy):
    publish(open_cache, "one", bucket, ["jit_f-1"])
    with open_cache("other", remote=bucket) as other:  # it has compiled what the first has published meanwhile
        other.put("jit_f-1", b"another build of it", 1.0)
    assert other.process_counts().published == 0
    with open_cache("third", remote=bucket) as third:
        assert third.get("jit_f-1") == value_of("jit_f-1")


@pytest.mark.parametrize("spoil", ["truncated", "flipped", "renamed", "empty", "foreign"])
def test_a_bad_object_is_a_miss_counted_told_once_and_replaced(open_cache, tmp_path, spoil):
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    remote = store.as_uri()
    publish(open_cache, "one", remote, ["jit_f-1", "jit_g-1"])
    (name,) = [path for path in store.rglob("*.entry") if b"jit_f-1" in path.read_bytes()[:500]]
    (other,) = [path for path in store.rglob("*.entry") if path != name]
    content = name.read_bytes()
    name.write_bytes(
        {
            "truncated": content[:-1],
            "flipped": content[:-1] + bytes([content[-1] ^ 1]),
            "renamed": other.read_bytes(),
            "empty": b"",
            "foreign": b"<html>not here</html>",
        }[spoil]
    )
    with open_cache("other", remote=remote) as cache:
        with pytest.warns(DiskCacheWarning, match="has an entry that is not what it should be"):
            assert cache.get("jit_f-1") is None
        assert cache.process_counts().remote_faults == 1
        cache.put("jit_f-1", value_of("jit_f-1"), 2.0)
    with open_cache("third", remote=remote) as third:
        assert third.get("jit_f-1") == value_of("jit_f-1")


@pytest.mark.parametrize("behaviour", ["hang", "drop", "refuse"])
def test_a_remote_that_is_dead_is_soon_left_alone_and_told_of_once(
    open_cache, bucket, proxy, behaviour, logged_warnings
):
    proxy.behaviour = behaviour
    with open_cache("one", remote=bucket) as cache:
        for number in range(30):
            assert cache.get(f"jit_f{number}-1") is None
            cache.put(f"jit_f{number}-1", b"value", 1.0)
    assert len(proxy.requests) < 15  # of 30 look-ups and 30 puts: the others have not even tried
    assert cache.process_counts().puts == 30
    assert cache.process_counts().remote_faults > 0
    assert len([message for message in logged_warnings if f"remote {bucket}" in message]) == 1
    logged_warnings.clear()


@pytest.mark.parametrize("behaviour", ["hang", "drop", "refuse"])  # the last: credentials that have expired
def test_a_remote_that_dies_meanwhile_is_left_alone(open_cache, bucket, proxy, behaviour, logged_warnings):
    publish(open_cache, "one", bucket, [f"jit_f{number}-1" for number in range(4)])
    with open_cache("other", remote=bucket) as cache:
        assert cache.get("jit_g-1") is None
        proxy.behaviour = behaviour
        keys = [f"jit_f{number}-1" for number in range(4)]
        assert all(cache.get(key) in (None, value_of(key)) for key in keys)
        assert cache.get("jit_h-1") is None
        cache.put("jit_h-1", b"value", 1.0)
        assert cache.get("jit_h-1") == b"value"
    logged_warnings.clear()


def test_a_bucket_that_is_not_there_is_a_miss(open_cache, bucket, logged_warnings):
    with open_cache("one", remote=f"{bucket.split(':')[0]}://no-such-bucket-here/x") as cache:
        assert cache.get("jit_f-1") is None
        cache.put("jit_f-1", b"value", 1.0)
        assert cache.get("jit_f-1") == b"value"
    assert any("no-such-bucket-here" in message for message in logged_warnings)
    assert "testing" not in "".join(logged_warnings)  # the credentials
    logged_warnings.clear()


def test_processes_of_two_machines_share_a_bucket(bucket, tmp_path):
    def run(name, *keys):
        done = run_python(PROGRAM, tmp_path / name, bucket, *keys)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    assert run("one", "a-1", "b-1") == "0 2"
    assert run("two", "b-1", "c-1") == "1 1"
    assert run("three", "a-1", "b-1", "c-1") == "3 0"


FORKING = """
import os, sys
from jaxcache import DiskCache
with DiskCache(sys.argv[1], fingerprint={"jax": "test", "cpu": "test"}, remote=sys.argv[2]) as cache:
    assert cache.get("jit_f-1") is not None
    child = os.fork()
    if child == 0:
        os._exit(0 if cache.get("jit_g-1") is None and cache.get("jit_f-1") is not None else 1)
    print(os.waitpid(child, 0)[1], cache.get("jit_h-1") is not None)
"""


@IN_ANY_STORE
def test_a_forked_child_leaves_the_remote_alone_and_its_parent_goes_on(open_cache, bucket, tmp_path):
    publish(open_cache, "one", bucket, ["jit_f-1", "jit_h-1"])
    done = run_python(FORKING, tmp_path / "other", bucket)
    assert (done.returncode, done.stdout) == (0, "0 True\n"), done.stderr


@pytest.mark.parametrize(
    ("remote", "message"),
    [
        ("bucket/prefix", "remote must be an address such as s3://bucket/prefix"),
        ("ftp://host/x", "remote must be an address such as s3://bucket/prefix"),
        ("http://host/x", "write https:// instead"),
        ("s3://", "remote must name a bucket or host"),
        ("s3://key:secret@bucket/x", "remote must hold no password"),
        ("https://host/x?token=1", r"remote must have neither \? nor #"),
        ("file://relative/x", "remote must name a folder"),
        (3, "remote must be an address"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_starts(tmp_path, remote, message):
    with pytest.raises(ValueError, match=message) as refused:
        DiskCache(tmp_path / "local", remote=remote)
    assert "secret" not in str(refused.value)


def test_a_folder_that_others_may_write_to_is_no_remote(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o777)
    with pytest.raises(PermissionError, match=r"remote .*store can be written to by others"):
        DiskCache(tmp_path / "local", remote=(tmp_path / "store").as_uri())


def test_a_damaged_manifest_is_a_hint_and_no_more(open_cache, tmp_path):
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    publish(open_cache, "one", store.as_uri(), ["jit_f-1"])
    (manifest,) = store.rglob("runs/*.json")
    for content in [b"", b"[", b"[]", b'{"entries": 3}', json.dumps({"entries": ["../../x", 3, "f" * 64]}).encode()]:
        manifest.write_bytes(content)
        with open_cache(f"other-{len(content)}", remote=store.as_uri()) as cache:
            assert cache.get("jit_f-1") == value_of("jit_f-1")
            assert cache.process_counts().faults == 0


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_what_the_network_spoils_is_never_loaded(open_cache, bucket, proxy, how, logged_warnings):
    publish(open_cache, "one", bucket, ["jit_f-1"])

    def spoil(method, path, piece):
        if method != "GET" or ".entry" not in path:
            return piece
        return None if how == "cut" else piece[:-1] + bytes([piece[-1] ^ 1])

    proxy.tamper = spoil
    with open_cache("other", remote=bucket) as cache:
        assert cache.get("jit_f-1") is None
        assert cache.process_counts().remote_faults >= 1
    logged_warnings.clear()


def test_many_writers_at_once_leave_one_whole_entry(open_cache, bucket, proxy):
    caches = [open_cache(f"host-{number}", remote=bucket) for number in range(8)]
    for number, cache in enumerate(caches):
        for key in ["jit_f-1", "jit_g-1"]:
            cache.put(key, bytes([number]) * 5000, 1.0)
    for cache in caches:
        cache.close()
    assert sum(cache.process_counts().published for cache in caches) == 2
    with open_cache("reader", remote=bucket) as reader:
        assert reader.get("jit_f-1") in [bytes([number]) * 5000 for number in range(8)]


@IN_ANY_STORE
def test_the_end_of_a_process_does_not_wait_for_a_remote_that_hangs(bucket, proxy, tmp_path):
    proxy.behaviour = "hang"
    program = f"import warnings; warnings.simplefilter('ignore')\n{PROGRAM}"
    done = run_python(program, tmp_path / "one", bucket, "a-1", "b-1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 0\n", "")


@IN_ANY_STORE
def test_what_a_killed_program_had_put_is_whole(bucket, tmp_path, open_cache):
    program = PROGRAM.replace("print(", "import os; os.kill(os.getpid(), 9); print(")
    program = program.replace("with DiskCache", "cache = DiskCache").replace(") as cache:", ")\nif True:")
    done = run_python(program, tmp_path / "one", bucket, *"abcdefgh")
    assert done.returncode == -9, done.stderr
    with open_cache("reader", remote=bucket) as reader:
        assert all(reader.get(key) in (None, value_of(key)) for key in "abcdefgh")
        assert reader.process_counts().remote_faults == 0


@pytest.fixture
def web(tmp_path):
    """A folder of files, and the address at which a web server has it."""
    (tmp_path / "store").mkdir(mode=0o700)
    handler = functools.partial(Quiet, directory=tmp_path / "store")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / "store", f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Server of files that says nothing, and counts what it was asked for."""

    asked: ClassVar[list] = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()


def test_an_address_without_a_listing_is_no_empty_store(open_cache, web):
    with open_cache("one") as one, pytest.raises(ValueError, match=r"has no 0123456789abcdef/listing\.json: check"):
        pull(one, web[1], Limits(None, None), "0123456789abcdef")


@pytest.mark.parametrize("is_listed", [True, False])
def test_what_was_pushed_is_read_by_https_without_a_request_a_miss(open_cache, web, is_listed):
    store, url = web
    with open_cache("one") as one:
        one.put("jit_f-1", value_of("jit_f-1"), 2.0)
    push(one, store.as_uri())
    if not is_listed:
        next(store.rglob("listing.json")).unlink()
    Quiet.asked.clear()
    with open_cache("other", remote=url) as cache:
        assert (cache.get("jit_f-1"), cache.get("jit_g-1")) == (value_of("jit_f-1"), None)
        cache.put("jit_g-1", b"value", 1.0)
    assert sum(path.endswith(".entry") for path in Quiet.asked) == (1 if is_listed else 2)
    assert (cache.process_counts().remote_hits, cache.process_counts().faults) == (1, 0)
    assert len(list(store.rglob("*.entry"))) == 1


def test_errors_are_told_without_what_an_address_may_hold_of_a_credential():
    error = ValueError("GET https://host/x?sig=SECRET&sv=1 (403)\n\nDebug source:\nsig=SECRET")
    assert first_line(error) == "GET https://host/x (403)"


def test_of_an_answer_in_xml_the_code_is_told():
    answer = '<?xml version="1.0"?>\n<Error><Code>RequestTimeTooSkewed</Code><RequestId>X</RequestId></Error>'
    error = ValueError(f"GET https://host/x?sig=SECRET - status 403 Forbidden: {answer}\n\nDebug source: ...")
    assert first_line(error) == "GET https://host/x - status 403 Forbidden: RequestTimeTooSkewed"


def test_of_a_long_error_both_ends_are_told():
    told = first_line(ValueError(f"GET https://host/{'x' * 1000} in 2 ms: status 403 Forbidden"))
    assert (told[:17], told[-24:], len(told) < 310) == ("GET https://host/", "2 ms: status 403 Forbidden"[-24:], True)


class TestBreaker:
    """The bound on what waiting costs, by a clock of the test's own."""

    @pytest.fixture
    def clock(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr("jaxcache._remote.breaker.monotonic", lambda: now[0])
        return now

    def test_waiting_in_vain_costs_a_second_in_all_and_little_more_in_the_long_run(self, clock):
        breaker, waited = Breaker(), 0.0
        for _ in range(100):
            patience = breaker.patience_seconds()
            breaker.waited_in_vain(patience)
            clock[0] += patience
            waited += patience
        assert waited <= 1.01
        clock[0] += 600
        assert breaker.patience_seconds() == pytest.approx(1.0, abs=0.01)

    def test_it_opens_at_once_when_somebody_waited_in_vain_and_at_the_third_failure_in_a_row(self, clock):
        waited, failed = Breaker(), Breaker()
        waited.waited_in_vain(0.1)
        assert waited.is_off
        for expected in [False, False, True]:
            failed.failed()
            assert failed.is_off is expected
        failed.succeeded()
        assert not failed.is_off
        failed.failed()
        assert not failed.is_off

    def test_it_is_tried_again_after_a_while(self, clock):
        breaker = Breaker()
        breaker.waited_in_vain(0.1)
        clock[0] += 29.0
        assert not breaker.is_due
        clock[0] += 2.0
        assert breaker.is_due
        breaker.failed()
        assert not breaker.is_due
