"""DiskCache: compiled programs in a directory that many processes share.

``get`` and ``put`` never raise for what the directory does to them: a fault is a miss, counted, and warned about once.
"""

import atexit
import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from time import monotonic  # bound now: a test may replace the clock that others look at

from .._jax.fingerprint import Fingerprint, fingerprint_of, machine_parts
from .._primitives.atomic_files import write_file
from .._primitives.checks import check_not_empty, check_optional_whole_number, check_seconds, check_share
from .._primitives.sizes import format_size, parse_size
from . import trust as _trust
from .compile_lease import CompileLeases, LeaseOutcome
from .entry_format import EntryFault, EntryMeta, decode, encode
from .faults import Faults
from .files import EntryFiles, EntryId, entry_id_of
from .index import Index, Limits
from .jax_hooks import JaxHooks
from .location import index_path, is_network
from .pending import Batch, Hit, Pending, Request
from .priority import check_stored_policy
from .snapshot import snapshot
from .stats import DiskCounts, DiskStats, counts_from
from .verify import Verification, verify_entries

_REFRESH_SECONDS = 600.0  # between looks for entries of hosts and users that have an index of their own
_CLEAN_SECONDS = 60.0
_IMPORTED = "imported-from"
_MOST_BYTES = 2**63 - 1  # that SQLite can count


class _Request(threading.local):
    """Last request of this thread."""

    key: str = ""
    missed_at: float = 0.0
    compiled_at: float | None = None
    served: bool = False  # get returned an entry
    to_compare: bytes | None = None


_all: "weakref.WeakSet[DiskCache]" = weakref.WeakSet()


def _before_fork() -> None:
    for cache in list(_all):
        cache._pending.pause()


def _after_fork() -> None:
    for cache in list(_all):
        cache._after_fork()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


class DiskCache:
    """Bytes by key in a directory; what ``use_directory`` puts behind ``jax.jit``. Threads and forks may share it."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        limit: int | str | None = None,
        eviction: str | None = "lru",
        *,
        max_entries: int | None = None,
        min_compile_seconds: float = 0.0,
        min_entry_bytes: int | str = 0,
        single_flight: bool = True,
        wait_seconds: float = 600.0,
        verify: bool | float = False,
        key_file: str | os.PathLike[str] | None = None,
        fingerprint: Mapping[str, str] | None = None,
    ) -> None:
        """Use a directory; it is made with mode 0700 if there is none.

        Args:
            path: Of the directory.
            limit: Bytes of all entries together, such as ``"20GiB"``; None is no limit.
            eviction: ``lru``, ``lfu``, ``fifo``, ``size_based``, ``gdsf`` or ``gdsf_admit``. It holds for every process
                that uses the directory from this host, until one asks for another. None only looks at the directory:
                neither its policy nor its limit is changed.
            max_entries: Of all builds and machines together; None is no limit.
            min_compile_seconds: Programs that compiled faster are not written.
            min_entry_bytes: Programs that are smaller are not written.
            single_flight: Whether one process compiles while the others wait for its entry.
            wait_seconds: After which those who wait compile themselves.
            verify: Share of the hits to compile again and compare, from 0 to 1; True is all of them.
            key_file: A file with the key that authenticates entries; by default ``JAXCACHE_KEY_FILE`` names it, or
                ``JAXCACHE_KEY`` holds the key.
            fingerprint: Parts that must be equal for entries to be shared; by default those of this machine and JAX.

        Raises:
            ValueError: If an argument is out of range.
            UntrustedDirectoryError: If others may write to the directory and there is no key; says what mends it.
        """
        self.path = Path(path).absolute()
        limit_bytes = None if limit is None else min(parse_size(limit, "limit"), _MOST_BYTES)
        self._limits = Limits(limit_bytes, check_optional_whole_number(max_entries, "max_entries"))
        self._eviction = None if eviction is None else check_stored_policy(eviction)
        self.min_compile_seconds = check_seconds(min_compile_seconds, "min_compile_seconds")
        self.min_entry_bytes = 0 if min_entry_bytes == 0 else parse_size(min_entry_bytes, "min_entry_bytes")
        self._single_flight = single_flight
        self._verify = check_share(verify, "verify")
        self._trust = _trust.establish(self.path, key_file)
        self._parts = None if fingerprint is None else dict(fingerprint)
        self._fingerprint: Fingerprint | None = None
        self.files = EntryFiles(self.path, self._trust.mode, self._trust.owner)
        self._leases = CompileLeases(
            self.path / "flights.lock", self._trust.mode & 0o666, check_seconds(wait_seconds, "wait_seconds")
        )
        self._elsewhere = is_network(self.path) or not self._trust.private
        self.index = Index(index_path(self.path, shared=self._elsewhere), self.files, eviction or "lru")
        self._pending = Pending(self._write_pending)
        self._request = _Request()
        self._lock = threading.RLock()  # a signal handler may ask while this thread holds it
        self._faults = Faults(self.path, lambda: self._pending.count_here({"faults": 1}))
        self._closed = False
        self._cleaned, self._refreshed = -math.inf, monotonic()
        self._sampled = 0
        self.hooks = JaxHooks()
        _all.add(self)
        atexit.register(self.close)
        with self._faults.guarded("opened"):
            self.files.make(self.path)
            if self._eviction is not None:
                self._use(self._eviction)

    def _use(self, eviction: str) -> None:
        with self._faults.index_guarded():
            self.index.use(eviction, self._limits)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._pending.forget()
        self._faults.forget_locks()
        self._leases.forget()

    def __repr__(self) -> str:
        limit = "no limit" if self._limits.limit_bytes is None else format_size(self._limits.limit_bytes)
        return f"DiskCache({str(self.path)!r}, {limit}, eviction={self._eviction!r})"

    def __enter__(self) -> "DiskCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop using the directory: ``get`` returns None from here on, and ``put`` does nothing."""
        self._closed = True
        self._pending.flush()
        self._leases.release()
        self.hooks.closed()
        self.index.database.close()
        atexit.unregister(self.close)

    # -- requests

    def get(self, key: str) -> bytes | None:
        """Return the value of ``key``, or None if this thread is to compute it and ``put`` it.

        Where another process or thread is computing it, that is waited for.

        Raises:
            ValueError: If ``key`` is empty.
        """
        check_not_empty(key, "key")
        request = self._request
        request.key, request.served, request.to_compare, request.compiled_at = key, False, None, None
        value = None
        if not self._closed:
            try:
                with self._faults.guarded("read"):
                    value = self._get(key)
            except BaseException:  # an interrupt: others must not wait for a thread that does not compile
                self._leases.release()
                raise
        request.served = value is not None
        request.missed_at = time.perf_counter()
        return value

    def _get(self, key: str) -> bytes | None:
        entry_id = entry_id_of(self.fingerprint.id, key)
        value_or_reason = self._read(entry_id, key)
        if isinstance(value_or_reason, bytes):
            return value_or_reason
        if value_or_reason == "check" or not self._waits_for_others() or self._is_unstored(entry_id):
            return self._miss(key, entry_id, value_or_reason)
        outcome = self._leases.acquire(
            entry_id, lambda: self.files.exists(entry_id) or self._is_unstored(entry_id), lambda: self._count(waited=1)
        )
        if outcome is LeaseOutcome.ARRIVED and isinstance(value_or_reason := self._read(entry_id, key), bytes):
            return value_or_reason
        if outcome is LeaseOutcome.TIMED_OUT:
            self._count(wait_timeouts=1)
        if outcome is LeaseOutcome.ALONE:
            self._faults.warn("fault", f"{self._leases.fault}: equal programs are compiled by each process")
        return self._miss(key, entry_id, value_or_reason)

    def _waits_for_others(self) -> bool:
        return self._single_flight and not self.hooks.is_distributed()

    def _read(self, entry_id: EntryId, key: str) -> bytes | str:
        """Return the value, or the reason why there is none."""
        started = time.perf_counter()
        try:
            content = self.files.read(entry_id)
            meta, value = decode(content, key, entry_id.fingerprint, self._trust.secret)
        except FileNotFoundError:
            return ""
        except EntryFault as fault:
            self._set_aside(entry_id, fault)
            return fault.reason
        except OSError as error:
            self._faults.record(f"the entry {entry_id.name} cannot be read ({error})")
            return "unreadable"
        if self._is_sampled():
            self._request.to_compare = value
            self._count(verified=1)
            return "check"
        saved = meta.compile_seconds - (time.perf_counter() - started)
        counts = {"hits": 1, "seconds_saved": saved, "bytes_read": len(content)}
        self._pending.add(Hit(entry_id, meta, len(content)), self._request_for_doctor(key, "hit"), counts)
        return value

    def _miss(self, key: str, entry_id: EntryId, reason: str) -> None:
        if not reason:
            reason = "index_unavailable"
            with self._faults.index_guarded():
                reason = self.index.why_absent(entry_id)
        counts = {"misses": 1, f"miss:{reason}": 1}
        self._pending.add(None, self._request_for_doctor(key, reason), counts)

    def contains(self, key: str) -> bool:
        """Return whether there is a whole entry of ``key``; this counts as no request, and does not wait.

        Raises:
            ValueError: If ``key`` is empty.
        """
        check_not_empty(key, "key")
        return self.peek(key) is not None

    def peek(self, key: str) -> bytes | None:
        """Return what :meth:`get` would, without a request: nothing is counted, and nobody waited for."""
        entry_id = entry_id_of(self.fingerprint.id, key)
        try:
            value = decode(self.files.read(entry_id), key, entry_id.fingerprint, self._trust.secret)[1]
        except (OSError, EntryFault):  # get will find out, and warn
            return None
        return None if self._closed else value

    def compiled(self) -> None:
        """Record that the compile that this thread missed has just ended; otherwise it ends with ``put``."""
        self._request.compiled_at = time.perf_counter()

    def release(self) -> None:
        """Release this thread's lease. If it has put nothing, others no longer wait for that key."""
        request = self._request
        if request.key and not request.served and not self._closed:
            with self._faults.guarded("written"), self._faults.index_guarded():
                self.index.record_unstored(entry_id_of(self.fingerprint.id, request.key))
        request.key = ""
        self._leases.release()

    def put(self, key: str, value: bytes, compile_seconds: float | None = None) -> None:
        """Store ``value``, if the thresholds, the limits and the policy allow; a former value is replaced.

        Args:
            key: The key of the value.
            value: The value.
            compile_seconds: What compiling it took; by default the time since this thread's ``get`` missed the key.

        Raises:
            ValueError: If ``key`` is empty, or ``compile_seconds`` negative or no number.
        """
        check_not_empty(key, "key")
        measured_seconds = None if compile_seconds is None else check_seconds(compile_seconds, "compile_seconds")
        try:
            if not self._closed:
                with self._faults.guarded("written"):
                    self._put(key, bytes(value), self._took(key) if measured_seconds is None else measured_seconds)
        finally:
            self._request.key = ""
            self._leases.release()

    def _took(self, key: str) -> float:
        request = self._request
        if request.key != key:
            return 0.0
        until = request.compiled_at if request.compiled_at is not None else time.perf_counter()
        return until - request.missed_at

    def _put(self, key: str, value: bytes, compile_seconds: float) -> None:
        entry_id = entry_id_of(self.fingerprint.id, key)
        if self._request.key == key:
            self._compare(key, value)
            if self._request.served:  # JAX could not load what get returned
                self._set_aside(entry_id, EntryFault("not_loadable", "JAX could not load it"))
        if compile_seconds < self.min_compile_seconds or len(value) < self.min_entry_bytes:
            self._count(below_threshold=1)
            with self._faults.index_guarded():
                self.index.record_unstored(entry_id)
            return
        started = time.perf_counter()
        meta = EntryMeta(key, entry_id.fingerprint, float(compile_seconds), float(int(time.time())))
        content = encode(meta, value, self._trust.secret)
        self.index.database.when_free(lambda: self._store(entry_id, meta, content, started))

    def _store(self, entry_id: EntryId, meta: EntryMeta, content: bytes, started: float) -> None:
        with self._faults.guarded("written"):
            self._tidy()
            evicted = None
            self._pending.flush()  # who goes depends on it
            with self._faults.index_guarded(), self.files.staged(content) as staged:
                evicted = self.index.put(entry_id, meta, staged, len(content), self._limits)
                if evicted is None:
                    self._count(refused=1)
            if evicted is not None:
                spent = meta.compile_seconds + time.perf_counter() - started
                self._count(puts=1, evictions=evicted, seconds_spent=spent, bytes_written=len(content))
                self._pending.flush()  # the compile took longer, and a worker that ends at once would lose it

    def _compare(self, key: str, value: bytes) -> None:
        stored, self._request.to_compare = self._request.to_compare, None
        if stored is None or self.hooks.same(stored, value):
            return
        self._count(mismatched=1)
        self._faults.warn(f"mismatch {key}", f"the entry of {key} differs from what was compiled now, and is replaced")

    def _is_sampled(self) -> bool:
        """Return whether this hit is to be compiled again; such hits are spread evenly, and the first is among them."""
        with self._lock:
            self._sampled += 1
            return math.ceil(self._sampled * self._verify) > math.ceil((self._sampled - 1) * self._verify)

    def _is_unstored(self, entry_id: EntryId) -> bool:
        with self._faults.index_guarded():
            return self.index.is_unstored(entry_id)
        return False

    def _tidy(self) -> None:
        """Remove, now and then, what killed writers left, and look for entries of other hosts."""
        now = monotonic()
        if now - self._cleaned >= _CLEAN_SECONDS:
            self._cleaned = now
            self.files.record_fingerprint(self.fingerprint.id, self.fingerprint.parts)
            self.files.clean_staging()
            with self._faults.index_guarded():
                self.index.database.check()
        if self._elsewhere and now - self._refreshed >= _REFRESH_SECONDS:
            self._refreshed = now
            with self._faults.index_guarded():
                self.index.reconcile()

    def _set_aside(self, entry_id: EntryId, fault: EntryFault) -> None:
        self._count(quarantined=1)
        self._faults.warn("quarantine", f"an entry was not what it should be ({fault}), and was moved to quarantine")
        try:
            self.files.set_aside(entry_id, fault.reason)
        except OSError as error:
            self._faults.record(f"a bad entry cannot be moved away ({error})")
            return
        with self._faults.index_guarded():
            self.index.forget(entry_id)

    def verify(self) -> Verification:
        """Check every byte of every entry, move what is bad to quarantine, and make the index equal to the directory.

        Raises:
            IndexUnavailable: If the index cannot be used.
        """
        return verify_entries(self.files, self.index, self._trust.secret, self._trust.key_id)

    # -- statistics

    def imported_from(self) -> str | None:
        """Return the directory of JAX's own cache whose entries were imported, if any were."""
        with contextlib.suppress(OSError):
            return (self.path / _IMPORTED).read_text().strip() or None
        return None

    def record_import(self, source: str) -> None:
        """Record which directory was imported: JAX's keys depend on its path."""
        write_file(self.path / _IMPORTED, source + "\n", durable=False)

    @property
    def key_id(self) -> str:
        """Identifier of the key that authenticates entries; ``none`` if there is none."""
        return self._trust.key_id

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the build and machine that share entries. Starts JAX's backend unless it was an argument."""
        if self._fingerprint is None:
            parts = machine_parts() if self._parts is None else self._parts
            self._fingerprint = fingerprint_of({**parts, "authentication": self._trust.key_id})
        return self._fingerprint

    def process_counts(self) -> DiskCounts:
        """Return what this process has counted, without a look at the index."""
        return DiskCounts(**counts_from(self._pending.process_counts))  # pyright: ignore[reportArgumentType]

    def stats(self) -> DiskStats:
        """Return one snapshot: what all processes of this host have counted, and what is stored."""
        self._pending.flush()
        process = self.process_counts()
        stats = DiskStats(**vars(process), process=process, fault=self._faults.last)
        with self._faults.index_guarded():
            stats = snapshot(self.index, self.files, process, self._faults.last)
        if self._closed:
            self.index.database.close()
        return stats

    def _count(self, **counts: float) -> None:
        self._pending.add(counts=counts)

    def _request_for_doctor(self, key: str, outcome: str) -> Request | None:
        """Return what ``doctor`` is to know of a request; a fault in that costs no hit."""
        with self._faults.guarded("written"):
            return Request(key, outcome, self.hooks.key_parts(key, outcome == "hit"))
        return None

    def _write_pending(self, batch: Batch) -> None:
        settings = {
            "min_compile_seconds": self.min_compile_seconds,
            "min_entry_bytes": self.min_entry_bytes,
            "limit_bytes": self._limits.limit_bytes,
        }
        with self._faults.guarded("written"), self._faults.index_guarded():
            self.index.record(self.fingerprint.id, batch, settings)
