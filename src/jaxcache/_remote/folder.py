"""RemoteFolder: the entries of one fingerprint in an object store, as the event loop's thread sees them."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from time import monotonic  # bound now: a test may replace the clock that others look at
from typing import Any

from .breaker import Breaker
from .layout import (
    LISTING,
    decode_listing,
    decode_manifest,
    encode_manifest,
    entry_object,
    manifest_object,
    parse_entry_object,
)
from .object_store import ObjectStore, RemoteUnavailable

_DOWNLOADS = 32  # at once
_UPLOADS = 8
_AHEAD_BYTES = 256 * 1024**2  # of entries that were fetched and not asked for yet
_WAITING_BYTES = 256 * 1024**2  # of entries that are to be written
_LISTING_SECONDS = 0.3  # that a request waits for a listing that is under way, before it asks without one
_RELIST_SECONDS = 60.0
_RELIST_FACTOR = 20  # a listing that takes long is made anew the more seldom


class Transfer:
    """Progress of a request, which the thread that waits for it looks at."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._received_bytes = 0
        self._followed: Transfer | None = None

    def receive(self, size_bytes: int) -> None:
        """Add bytes that have arrived."""
        self._received_bytes += size_bytes

    def follow(self, other: "Transfer") -> None:
        """Have the progress of a request that was under way already."""
        self._followed = other

    @property
    def received_bytes(self) -> int:
        """Bytes that have arrived."""
        return self._received_bytes if self._followed is None else self._followed.received_bytes


class RemoteFolder:
    """Folder of an object store. Its coroutines run in one event loop, so that it needs no lock."""

    def __init__(
        self,
        store: ObjectStore,
        breaker: Breaker,
        folder: str,
        program: str,
        *,
        asked: Mapping[str, None],
        is_listed_by_file: bool,
        is_local: Callable[[str], bool],
        count: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        """Look at nothing yet.

        Args:
            store: The object store.
            breaker: Told of every request.
            folder: Name of the folder.
            program: Whose manifest is read and written.
            asked: Entries that this process has asked for, of this store or another tier; it grows meanwhile.
            is_listed_by_file: Whether the store has a file in the place of listings.
            is_local: Returns whether an entry need not be fetched ahead.
            count: Called with the name of a counter that rises by 1.
            report: Called with what went wrong.
        """
        self._store, self._breaker, self._folder = store, breaker, folder
        self._manifest_name = manifest_object(folder, program)
        self._asked, self._is_listed_by_file = asked, is_listed_by_file
        self._is_local, self._count, self._report = is_local, count, report
        self._downloads, self._uploads = asyncio.Semaphore(_DOWNLOADS), asyncio.Semaphore(_UPLOADS)
        self._listing: asyncio.Task[dict[str, int] | None] | None = None
        self._listing_since, self._listing_seconds = 0.0, 0.0
        self._ahead: dict[str, tuple[asyncio.Task[bytes | None], Transfer]] = {}
        self._former_run: list[str] | None = None
        self._fetched: set[str] = set()
        self._waiting: dict[str, tuple[bytes, bool]] = {}
        self._uploading: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()
        self.finished = 0  # uploads that ended, well or not

    # -- reading

    async def begin(self) -> None:
        """Begin to list the folder, and to fetch what the last run of this program asked for."""
        if self._listing is None:
            self._list()
            _start(self._fetch_ahead(), self._others)

    async def fetch(self, name: str, transfer: Transfer) -> bytes | None:
        """Return an entry's bytes, or None if the store has none.

        Raises:
            RemoteUnavailable: If the store cannot be asked.
        """
        await self.begin()
        self._fetched.add(name)
        sizes = await self._sizes()
        if sizes is not None and name not in sizes:
            self._relist()
            return None
        if name not in self._ahead:
            return await self._download(name, transfer)
        task, ahead = self._ahead.pop(name)
        transfer.follow(ahead)
        return await task

    async def probe(self) -> None:
        """Ask a store that was off for a listing, and go on with what waits if it answers."""
        self._list()
        assert self._listing is not None
        if await asyncio.shield(self._listing) is not None or not self._breaker.is_off:
            for name, (content, replace) in list(self._waiting.items()):
                self.offer(name, content, replace=replace)

    def _list(self) -> None:
        self._listing_since = monotonic()
        self._listing = asyncio.get_running_loop().create_task(self._read_listing())

    def _relist(self) -> None:
        """Look again, now and then, for what others have written."""
        pause_seconds = max(_RELIST_SECONDS, _RELIST_FACTOR * self._listing_seconds)
        if monotonic() - self._listing_since >= pause_seconds:
            self._listing_since = monotonic()
            _start(self._replace_listing(), self._others)

    async def _replace_listing(self) -> None:
        """Take a new listing in the place of the former one, which serves until it is there."""
        listing = asyncio.get_running_loop().create_task(self._read_listing())
        if await listing is not None:
            self._listing = listing

    async def _sizes(self) -> dict[str, int] | None:
        """Return the sizes of the entries by name; None as long as each has to be asked for, without a listing."""
        assert self._listing is not None
        left = self._listing_since + _LISTING_SECONDS - monotonic()
        if left > 0 and not self._listing.done():
            await asyncio.wait({self._listing}, timeout=left)
        return self._listing.result() if self._listing.done() else None

    async def _read_listing(self) -> dict[str, int] | None:
        """Return the sizes of the entries by name; None where each has to be asked for."""
        started = monotonic()
        try:
            if self._is_listed_by_file:
                content = await self._read(f"{self._folder}/{LISTING}", Transfer())
                sizes = None if content is None else decode_listing(content)
            else:
                entries = [(parse_entry_object(each.name), each) for each in await self._store.list(self._folder)]
                sizes = {entry[1]: each.size_bytes for entry, each in entries if entry and entry[0] == self._folder}
        except RemoteUnavailable as error:
            self._failed(error)
            return None
        self._breaker.succeeded()
        self._listing_seconds = monotonic() - started
        return sizes

    async def _fetch_ahead(self) -> None:
        try:
            content = await self._read(self._manifest_name, Transfer())
        except RemoteUnavailable as error:
            self._failed(error)
            return
        self._former_run = decode_manifest(content or b"")
        under_way: set[asyncio.Task[bytes | None]] = set()
        ahead_bytes = 0
        for name in self._former_run:
            sizes = await self._sizes()
            if (sizes is not None and name not in sizes) or self._need_not_be_fetched_ahead(name):
                continue
            ahead_bytes += 0 if sizes is None else sizes[name]
            if ahead_bytes > _AHEAD_BYTES or self._breaker.is_off:
                return
            under_way.add(self._download_ahead(name))
            if sizes is None and len(under_way) >= _DOWNLOADS:  # it shows only now how large they are
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                ahead_bytes += sum(_received_bytes(task) for task in done)

    def _need_not_be_fetched_ahead(self, name: str) -> bool:
        return name in self._ahead or name in self._fetched or self._is_local(name)

    def _download_ahead(self, name: str) -> "asyncio.Task[bytes | None]":
        transfer = Transfer()
        task = asyncio.get_running_loop().create_task(self._download(name, transfer))
        task.add_done_callback(_look_at_exception)
        self._ahead[name] = (task, transfer)
        return task

    async def _download(self, name: str, transfer: Transfer) -> bytes | None:
        async with self._downloads:
            try:
                content = await self._read(entry_object(self._folder, name), transfer)
            except RemoteUnavailable:
                self._breaker.failed()
                raise
        self._breaker.succeeded()
        return content

    async def _read(self, name: str, transfer: Transfer) -> bytes | None:
        parts = []
        async with contextlib.aclosing(self._store.get(name)) as content:
            async for part in content:
                transfer.receive(len(part))
                parts.append(part)
        return b"".join(parts) if parts else None

    # -- writing

    def offer(self, name: str, content: bytes, *, replace: bool) -> None:
        """Write an entry in the background, unless too much is waiting."""
        waiting_bytes = sum(len(each) for each, _ in self._waiting.values())
        if name not in self._waiting and waiting_bytes + len(content) > _WAITING_BYTES:
            self._report("is slower than this program compiles: not all is published")
            return
        self._waiting[name] = (content, replace)
        _start(self._publish(name, content, replace), self._uploading)

    async def _publish(self, name: str, content: bytes, replace: bool) -> None:
        async with self._uploads:
            try:
                await self.begin()
                sizes = await self._sizes()
                if not replace and sizes is not None and name in sizes:
                    self._waiting.pop(name, None)
                    return
                if self._breaker.is_off:  # it goes on waiting, for a probe that is answered
                    return
                stored = await self._store.put(entry_object(self._folder, name), content, replace=replace)
            except RemoteUnavailable as error:
                self._failed(error)
                return
            finally:
                self.finished += 1
        self._breaker.succeeded()
        self._waiting.pop(name, None)
        if sizes is not None:
            sizes[name] = len(content)
        if stored:
            self._count("published")

    async def finish(self) -> None:
        """Wait for what is being written, and write the manifest of this run if it differs from the last one's."""
        while self._uploading:
            await asyncio.wait(set(self._uploading))
        names = list(self._asked)
        if self._breaker.is_off or not names or names == self._former_run:
            return
        try:
            await self._store.put(self._manifest_name, encode_manifest(names), replace=True)
        except RemoteUnavailable as error:
            self._failed(error)

    @property
    def waiting(self) -> int:
        """How many entries are still to be written."""
        return len(self._waiting)

    @property
    def largest_waiting_bytes(self) -> int:
        """Bytes of the largest of them."""
        return max((len(content) for content, _ in list(self._waiting.values())), default=0)

    def _failed(self, error: RemoteUnavailable) -> None:
        self._breaker.failed()
        self._report(str(error))


def _start(request: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    """Run a request in the background, and keep it from being collected."""
    task = asyncio.get_running_loop().create_task(request)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _received_bytes(task: "asyncio.Task[bytes | None]") -> int:
    return len(task.result() or b"") if not task.cancelled() and task.exception() is None else 0


def _look_at_exception(task: "asyncio.Task[bytes | None]") -> None:
    """Keep asyncio from complaining about a prefetch that failed and that nobody has asked for."""
    if not task.cancelled():
        task.exception()
