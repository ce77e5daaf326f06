"""Remote: an object store as a program's threads use it. Nobody waits for long, and no fault is raised."""

import atexit
import contextlib
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic  # bound now: a test may replace the clock that others look at

from .._primitives.counted import counted_entries
from .breaker import Breaker
from .event_loop import EventLoop, refuse_requests
from .folder import RemoteFolder, Transfer
from .no_entry import NoEntry
from .object_store import ObjectStore, RemoteUnavailable, first_line
from .urls import RemoteUrl

_LEAST_BYTES_A_SECOND = 1024**2  # a slower store is not waited for
_LOOK_SECONDS = 0.1
_EXIT_SECONDS = 10.0  # that the end of a program may take while entries are being written


_all: "weakref.WeakSet[Remote]" = weakref.WeakSet()


@atexit.register  # before anything that uses a store registers itself, so that this is called after all of them
def _end_all() -> None:
    """Let daemon threads of the program, which run on, begin no request any more, and wait for those that they have."""
    refuse_requests()
    for remote in list(_all):
        remote.give_up()


class Remote:
    """Object store that programs read from and, if it is to be published to, write to. Threads may share it."""

    def __init__(
        self,
        url: RemoteUrl,
        *,
        publish: bool,
        program: Callable[[], str],
        count: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        """Ask nothing yet.

        Args:
            url: Address of the store.
            publish: Whether :meth:`offer` and :meth:`close` write to it.
            program: Returns the name of the program, by which its last run is known.
            count: Called, in any thread, with the name of a counter that rises by 1.
            report: Called, in any thread, with what went wrong.

        Raises:
            ImportError: If obstore is not installed.
            ValueError: If the address or the provider's settings make no sense.
        """
        self.url, self.publishes = url, publish and not url.is_read_only
        self._program, self._count, self._report_to = program, count, report
        self._store, self._breaker, self._loop = ObjectStore(url), Breaker(), EventLoop()
        self._folder: RemoteFolder | None = None
        self._asked: dict[str, None] = {}
        self._probe: Future[None] | None = None
        self._process = os.getpid()
        _all.add(self)

    def note(self, name: str) -> None:
        """Note that this program asks for an entry, in whatever tier it is: its next run will, too."""
        self._asked[name] = None

    def find(self, folder: str, name: str, is_local: Callable[[str], bool]) -> bytes | NoEntry:
        """Return an entry's bytes, or why there are none.

        Args:
            folder: Of the store; the same in every call.
            name: Of the entry.
            is_local: Returns whether an entry is there already, and need not be fetched ahead.
        """
        transfer = Transfer()
        try:
            if not self._is_usable():
                return NoEntry.LEFT_ALONE
            content = self._wait(self._loop.submit(self._fetch(folder, name, is_local, transfer)), transfer)
            return NoEntry.ABSENT if content is None else content
        except RemoteUnavailable as error:
            self._report(str(error))
        except Exception as error:  # a defect of ours, or the end of the interpreter
            self._breaker.failed()
            self._report(f"cannot be asked ({type(error).__name__}: {first_line(error)})")
        return NoEntry.FAULT

    async def _fetch(self, folder: str, name: str, is_local: Callable[[str], bool], transfer: Transfer) -> bytes | None:
        return await self._in(folder, is_local).fetch(name, transfer)

    def _wait(self, request: "Future[bytes | None]", transfer: Transfer) -> bytes | None:
        """Wait for a request for as long as the breaker allows, and longer while its bytes arrive fast enough."""
        patience, started = self._breaker.patience_seconds(), monotonic()
        while True:
            waited = monotonic() - started
            left = patience + transfer.received_bytes / _LEAST_BYTES_A_SECOND - waited
            if left <= 0:
                self._breaker.waited_in_vain(waited)
                raise RemoteUnavailable(
                    f"has not answered for {waited:.1f} s, and is left alone for a while{self._store.hint}"
                )
            try:
                return request.result(min(left, _LOOK_SECONDS))
            except TimeoutError:
                if request.done():
                    raise

    def _is_usable(self) -> bool:
        if self._loop.is_closed or self._process != os.getpid():
            return False
        if not self._breaker.is_off:
            return True
        if self._breaker.is_due and self._folder is not None and (self._probe is None or self._probe.done()):
            self._probe = self._loop.submit(self._folder.probe())
        return False

    def _in(self, folder: str, is_local: Callable[[str], bool]) -> RemoteFolder:
        """Return the folder, in the thread of the event loop, so that there is one."""
        if self._folder is None:
            self._folder = RemoteFolder(
                self._store, self._breaker, folder, self._program(), asked=self._asked,
                is_listed_by_file=self.url.is_read_only, is_local=is_local, count=self._count, report=self._report,
            )  # fmt: skip
        return self._folder

    def offer(self, folder: str, name: str, content: bytes, *, replace: bool) -> None:
        """Write an entry in the background, if there is none or it is to be replaced."""
        if not self.publishes or self._loop.is_closed or self._process != os.getpid():
            return

        def offer() -> None:
            self._in(folder, lambda _: False).offer(name, content, replace=replace)

        with contextlib.suppress(RuntimeError):  # closed meanwhile, or the end of the interpreter
            self._loop.call(offer)

    def close(self) -> None:
        """Write what is waiting, within a bounded time, and give up what is left."""
        if self._process != os.getpid():
            return
        try:
            if self._loop.has_begun and not self._loop.is_closed and self.publishes and not self._breaker.is_off:
                self._finish()
        finally:  # after an interrupt too, and when closed again after one
            try:
                self.give_up()
            except BaseException:  # another interrupt
                self.give_up()
                raise
        if self._folder is not None and self._folder.waiting:
            self._report(
                f"did not take {counted_entries(self._folder.waiting)} in time: the command push sends what is missing"
            )

    def give_up(self) -> None:
        """Give up all requests, and wait until the interpreter may end."""
        if self._process == os.getpid():
            self._loop.close(self._store.wait_until_idle)

    def _finish(self) -> None:
        """Wait for what is being written, for as long as entries are taken, and no longer than the breaker allows."""

        async def finish() -> None:
            if self._folder is not None:
                await self._folder.finish()

        done = self._loop.submit(finish())
        started = progressed = monotonic()
        patience, finished = self._breaker.patience_seconds(), 0
        while not done.done() and not self._breaker.is_off:
            now = monotonic()
            if self._folder is not None and self._folder.finished != finished:
                progressed, finished = now, self._folder.finished
            largest_bytes = 0 if self._folder is None else self._folder.largest_waiting_bytes
            if now - progressed > patience + largest_bytes / _LEAST_BYTES_A_SECOND or now - started > _EXIT_SECONDS:
                return
            try:
                done.result(0.02)
            except TimeoutError:
                continue
            except Exception as error:
                self._report(f"cannot be written to ({type(error).__name__}: {first_line(error)})")
                return

    def _report(self, fault: str) -> None:
        self._count("remote_faults")
        self._report_to(fault)
