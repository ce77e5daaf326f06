"""DiskCache: compiled programs in a directory that many processes share.

``get`` and ``put`` never raise for what the directory does to them: a fault is a miss, counted, and warned about once.
"""

import atexit
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._jax.fingerprint import Fingerprint, fingerprint_of, machine_parts
from .._jax.portable import compile_for, level_parts
from .._primitives.checks import check_not_empty, check_optional_whole_number, check_seconds, check_share
from .._primitives.sizes import format_size, parse_size
from . import trust as _trust
from .compile_lease import CompileLeases, LeaseOutcome
from .entry_format import Authentication, EntryFault, EntryMeta, encode, origin_of
from .faults import Faults
from .files import EntryFiles, EntryId, entry_id_of
from .index import Index
from .jax_hooks import JaxHooks
from .key_ring import read_keys
from .layers import Layers
from .limits import Limits
from .location import index_path, is_network
from .pending import HandOver, Pending
from .priority import check_stored_policy
from .remote_tier import RemoteTier
from .request_log import RequestLog
from .sampling import EvenSample
from .snapshot import snapshot
from .stats import DiskCounts, DiskStats, counts_from
from .thread_request import ThreadRequest
from .tier import FoundEntry, Tier, read_entry
from .tier_answers import uncounted
from .verify import Verification, verify_entries
from .would_hit import WouldHit, find_tier
from .writer import EntryWriter

_MOST_BYTES = 2**63 - 1  # that SQLite can count

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
        layers: Sequence[str | os.PathLike[str]] = (),
        copy_layer_hits: bool = False,
        remote: str | None = None,
        publish: bool = True,
        trusted_keys: Sequence[str | os.PathLike[str]] | None = None,
        sign_key: str | os.PathLike[str] | None = None,
        portable: str | None = None,
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
            layers: Directories that are asked after this one, in order; they are only read, without a lock or an index.
            copy_layer_hits: Whether what a layer holds is written to the directory when it is read.
            remote: An object store that is asked last: ``s3://bucket/prefix``, ``gs://…``, ``az://…``, ``file:///…``
                or, to be read alone, ``https://…``. What it holds is written to the directory when it is read.
            publish: Whether what is compiled here is written to ``remote``, in the background.
            trusted_keys: Public keys, or files with them: of layers and the remote, only entries that one of them has
                signed are loaded; of the directory, also what this user has compiled.
            sign_key: A file with a private key, as ``jaxcache keygen`` makes it, that signs what is compiled here.
            portable: ``x86-64-v2``, ``x86-64-v3`` or ``x86-64-v4``: compile for this level of processors, and share
                entries with all machines that do. To be given before JAX computes anything.

        Raises:
            ValueError: If an argument is out of range.
            ImportError: If ``remote`` is given and obstore is not installed.
            UntrustedDirectoryError: If others may write to the directory and there is no key; says what mends it.
        """
        if portable is not None:
            compile_for(portable)
        self.path = Path(path).absolute()
        limit_bytes = None if limit is None else min(parse_size(limit, "limit"), _MOST_BYTES)
        self._limits = Limits(limit_bytes, check_optional_whole_number(max_entries, "max_entries"))
        self._eviction = None if eviction is None else check_stored_policy(eviction)
        self.min_compile_seconds = check_seconds(min_compile_seconds, "min_compile_seconds")
        self.min_entry_bytes = 0 if min_entry_bytes == 0 else parse_size(min_entry_bytes, "min_entry_bytes")
        self._single_flight = single_flight
        self._verified = EvenSample(check_share(verify, "verify"))
        keys = read_keys(trusted_keys, sign_key)
        self._trust = _trust.establish(self.path, key_file, key_ring=keys and keys.local)
        self._parts = None if fingerprint is None else dict(fingerprint)
        self._portable: Mapping[str, str] = {} if portable is None else {"cpu": level_parts(portable)}
        self._fingerprint: Fingerprint | None = None
        self._origin = ""
        self.files = EntryFiles(self.path, self._trust.mode, self._trust.owner)
        self._leases = CompileLeases(
            self.path / "flights.lock", self._trust.mode & 0o666, check_seconds(wait_seconds, "wait_seconds")
        )
        is_shared = is_network(self.path) or not self._trust.private
        self.index = Index(index_path(self.path, shared=is_shared), self.files, eviction or "lru")
        self._pending = Pending(self._write_pending)
        self.index.catch_up = self._pending.flush
        self._request = ThreadRequest()
        self._faults = Faults(self.path, lambda: self._pending.count_here({"faults": 1}))
        self.writer = EntryWriter(
            self.files, self.index, self._pending, self._faults, lambda: self.fingerprint, is_shared=is_shared
        )
        self.requests = RequestLog(
            self._pending, self.index, self._faults, lambda key, is_hit: self.hooks.key_parts(key, is_hit)
        )
        self._shared_keys = keys and keys.others
        self._layers = Layers(layers, key_file, self._faults, key_ring=self._shared_keys, copies=copy_layer_hits)
        self._remote = None
        if remote is not None:
            self._remote = RemoteTier(
                remote, self.shared_authentication, self.files, self._faults,
                lambda name: self.requests.count(**{name: 1}), publish=publish, key_file=key_file,
            )  # fmt: skip
        self._closed = False
        self.hooks = JaxHooks()
        _all.add(self)
        atexit.register(self.close)
        with self._faults.guarded("opened"):
            self.files.make(self.path)
            if self._eviction is not None:
                with self._faults.index_guarded():
                    self.index.use(self._eviction, self._limits)

    def _after_fork(self) -> None:
        self._verified.forget()
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
        if self._remote is not None:
            self._remote.close()
        self._pending.pause()
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
        request.begin(key)
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
        if self._remote is not None:
            self._remote.note(entry_id)
        value_or_reason = self._read_below(self._layers, entry_id, key, self._read(entry_id, key))
        if isinstance(value_or_reason, bytes):
            return value_or_reason
        if value_or_reason != "check" and self._waits_for_others() and not self._is_unstored(entry_id):
            value_or_reason = self._wait_for_others(entry_id, key, value_or_reason)
        value_or_reason = self._read_below(self._remote, entry_id, key, value_or_reason)
        if isinstance(value_or_reason, bytes):
            self._leases.release()
            return value_or_reason
        self.requests.miss(entry_id, key, value_or_reason)
        return None

    def _wait_for_others(self, entry_id: EntryId, key: str, reason: str) -> bytes | str:
        """Return the value that another thread or process has put meanwhile, or why this thread is to compile."""
        outcome = self._leases.acquire(
            entry_id,
            lambda: self.files.exists(entry_id) or self._is_unstored(entry_id),
            lambda: self.requests.count(waited=1),
        )
        if outcome is LeaseOutcome.ARRIVED:
            return self._read(entry_id, key)
        if outcome is LeaseOutcome.TIMED_OUT:
            self.requests.count(wait_timeouts=1)
        if outcome is LeaseOutcome.ALONE:
            self._faults.warn("fault", f"{self._leases.fault}: equal programs are compiled by each process")
        return reason

    def _waits_for_others(self) -> bool:
        """Return whether others may be waited for: in a signal handler they may be waiting for this thread's locks."""
        is_interrupted = self._pending.is_held_here() or self.index.database.is_held_here()
        return self._single_flight and not self.hooks.is_distributed() and not is_interrupted

    def _read(self, entry_id: EntryId, key: str) -> bytes | str:
        """Return the value, or the reason why there is none."""
        started = time.perf_counter()
        try:
            found = read_entry(self.files, entry_id, key, self._trust.authentication)
        except FileNotFoundError:
            return ""
        except EntryFault as fault:
            self.writer.set_aside(entry_id, fault)
            return fault.reason
        except OSError as error:
            self._faults.record(f"the entry {entry_id.name} cannot be read ({error})")
            return "unreadable"
        return self._serve(entry_id, found, started)

    def _read_below(self, tier: Tier | None, entry_id: EntryId, key: str, above: bytes | str) -> bytes | str:
        """Return what the tiers above have returned or, if that is no value, the one of a tier below them."""
        if tier is None or isinstance(above, bytes) or above == "check":
            return above
        started = time.perf_counter()
        found = tier.find(entry_id, key, self._faults.tiers.count)
        if found is None:
            return above
        if tier.copies:
            self.writer.store(entry_id, found.meta, found.content, self._limits)
        return self._serve(entry_id, found, started, tier.counter)

    def _serve(self, entry_id: EntryId, found: FoundEntry, started: float, counter: str | None = None) -> bytes | str:
        if self._verified.takes_next():  # it is compiled again, to compare
            self._request.to_compare = found.value
            self.requests.count(verified=1)
            return "check"
        self.requests.hit(entry_id, found, time.perf_counter() - started, counter)
        return found.value

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
        found = self._peek(entry_id, key) or self._layers.find(entry_id, key, uncounted)
        return None if self._closed or found is None else found.value

    def would_hit(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> WouldHit:
        """Return where the program of a call is, if anywhere; it is traced and lowered, and neither compiled nor run.

        JAX has to use this cache, as after ``use_directory``. ``fun`` is what ``jax.jit`` takes, or has returned.

        Raises:
            Exception: What ``jax.jit`` raises for such a call before it compiles.
        """
        from .key_probe import key_of  # here: it imports JAX

        tiers = [tier for tier in (self._layers, self._remote) if tier is not None]
        return find_tier(key_of(fun, args, kwargs) or "", self.fingerprint, self._peek, tiers)

    def _peek(self, entry_id: EntryId, key: str) -> FoundEntry | None:
        """Return the directory's own entry of a key if it is whole; what is not, ``get`` will find out, and warn."""
        try:
            return read_entry(self.files, entry_id, key, self._trust.authentication)
        except (OSError, EntryFault):
            return None

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
            value: The value, as bytes, bytearray or memoryview.
            compile_seconds: What compiling it took; by default the time since this thread's ``get`` missed the key.

        Raises:
            ValueError: If ``key`` is empty, or ``compile_seconds`` negative or no number.
            TypeError: If ``value`` is none of these.
        """
        check_not_empty(key, "key")
        if not isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"value must be bytes, but is a {type(value).__name__}")
        measured_seconds = None if compile_seconds is None else check_seconds(compile_seconds, "compile_seconds")
        try:
            if not self._closed:
                with self._faults.guarded("written"):
                    took = self._request.compile_seconds(key) if measured_seconds is None else measured_seconds
                    self._put(key, bytes(value), took)
        finally:
            self._request.key = ""
            self._leases.release()

    def _put(self, key: str, value: bytes, compile_seconds: float) -> None:
        entry_id = entry_id_of(self.fingerprint.id, key)
        if self._request.key == key:
            self._compare(key, value)
            if self._request.served and self.hooks.puts_only_what_is_lost:
                self.writer.set_aside(entry_id, EntryFault("not_loadable", "JAX could not load it"))
        if compile_seconds < self.min_compile_seconds or len(value) < self.min_entry_bytes:
            self.requests.count(below_threshold=1)
            with self._faults.index_guarded():
                self.index.record_unstored(entry_id)
            return
        started = time.perf_counter()
        created = float(int(time.time()))
        meta = EntryMeta(key, entry_id.fingerprint, float(compile_seconds), created, self._origin)
        content = encode(meta, value, self._trust.authentication)
        self.writer.store(entry_id, meta, content, self._limits, started)
        if self._remote is not None:
            self._remote.offer(entry_id, content, replace=self._request.key == key and self._request.served)

    def _compare(self, key: str, value: bytes) -> None:
        stored, self._request.to_compare = self._request.to_compare, None
        if stored is None or self.hooks.same(stored, value):
            return
        self.requests.count(mismatched=1)
        self._faults.warn(f"mismatch {key}", f"the entry of {key} differs from what was compiled now, and is replaced")

    def _is_unstored(self, entry_id: EntryId) -> bool:
        with self._faults.index_guarded():
            return self.index.is_unstored(entry_id)
        return False

    def verify(self) -> Verification:
        """Check every byte of every entry, move what is bad to quarantine, and make the index equal to the directory.

        Raises:
            IndexUnavailable: If the index cannot be used.
        """
        return verify_entries(self.files, self.index, self._trust.authentication, self._trust.key_id)

    # -- statistics

    @property
    def key_id(self) -> str:
        """Identifier of the key that authenticates entries; ``none`` if there is none."""
        return self._trust.key_id

    @property
    def shared_authentication(self) -> Authentication:
        """What authenticates the entries that come from other stores, or go there."""
        return self._shared_keys or self._trust.authentication

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the build and machine that share entries. Starts JAX's backend unless it was an argument."""
        if self._fingerprint is None:
            parts = machine_parts() if self._parts is None else self._parts
            self._fingerprint = fingerprint_of({**parts, **self._portable, "authentication": self._trust.key_id})
            self._origin = origin_of(self._fingerprint.parts)
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

    def _write_pending(self, hand_over: HandOver) -> None:
        settings = {
            "min_compile_seconds": self.min_compile_seconds,
            "min_entry_bytes": self.min_entry_bytes,
            "limit_bytes": self._limits.limit_bytes,
            "tiers": self._faults.tiers.recorded(),
        }
        if self._closed and not self.path.is_dir():  # it was removed: closing makes none
            hand_over(lambda _: {})
            return
        if self._pending.new_entries:
            self.index.database.when_free(self.writer.tidy)
        with self._faults.guarded("written"), self._faults.index_guarded():
            self.index.record(self.fingerprint.id, hand_over, settings)
