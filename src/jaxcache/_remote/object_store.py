"""ObjectStore: the few requests to S3, GCS, Azure, HTTP or a folder that jaxcache makes, by obstore.

Alone knows obstore, but for credentials of AWS in files (``aws_profiles``). Others come from the provider's own chain:
environment, workload identity, instance metadata.
"""

import asyncio
import contextlib
import gc
import os
import re
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic, sleep  # bound now: a test may replace the clock that others look at
from types import FrameType
from typing import Any, TypeVar

from .aws_profiles import ProfileCredentials, can_read_profiles, credentials_are_in_files, names_endpoint
from .urls import RemoteUrl

_CONNECT_SECONDS = 1.0
_REQUEST_SECONDS = 120.0
_STALLED_SECONDS = 5.0
_RETRIES = 1
_DELETED_AT_ONCE = 16
_CHUNK_BYTES = 1024**2
_END_SECONDS = 5.0
_LOOK_SECONDS = 0.005
_COLLECT_SECONDS = 0.25
_END_CHARACTERS = 150
_Result = TypeVar("_Result")
_process_of_threads: int | None = None  # the process that obstore has begun its threads in, which no fork inherits
_QUERY = re.compile(r"\?[^\s)]*")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_ENDPOINT",),
}


class RemoteUnavailable(Exception):
    """An object store did not do what it was asked for; the message says why, without credentials."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Object as a listing tells of it; ``modified`` is seconds since 1970 by the store's clock."""

    name: str
    size_bytes: int
    modified: float


class ObjectStore:
    """One object store. Every method may raise :class:`RemoteUnavailable`.

    Attributes:
        hint: Advice for who reads of a fault; empty if there is none.
    """

    def __init__(self, url: RemoteUrl) -> None:
        """Prepare requests to ``url``; nothing is asked yet.

        Raises:
            ImportError: If obstore is not installed; says how to install it.
            ValueError: If the address or the provider's settings make no sense.
        """
        try:
            import obstore
            from obstore.exceptions import AlreadyExistsError, BaseError
            from obstore.store import HTTPStore, LocalStore, from_url
        except ImportError as error:
            raise ImportError(f"remote={url.text!r} needs obstore: pip install 'jaxcache[remote]'") from error
        self._obstore: Any = obstore
        self._under_way: weakref.WeakSet[Any] = weakref.WeakSet()
        self.hint = ""
        self._exists: type[Exception] = AlreadyExistsError
        self._faults: tuple[type[Exception], ...] = (BaseError, OSError, ValueError)
        client: Any = {
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=_STALLED_SECONDS),
            "timeout": timedelta(seconds=_REQUEST_SECONDS),
        }
        retries: Any = {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_REQUEST_SECONDS),
            "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=1), "base": 2},
        }
        try:
            from_files = self._from_files(url)
            client["allow_http"] = _is_unencrypted(url, from_files)
            if url.scheme == "file":
                self._store: Any = LocalStore.from_url(url.text, mkdir=True)
            elif url.scheme == "memory":
                self._store = from_url(url.text)
            elif url.scheme == "https":
                self._store = HTTPStore.from_url(url.text, client_options=client, retry_config=retries)
            else:
                self._store = from_url(url.text, client_options=client, retry_config=retries, **from_files)
        except (BaseError, OSError, TypeError, ValueError) as error:
            raise ValueError(f"remote={url.text!r} cannot be used: {first_line(error)}") from error

    def _from_files(self, url: RemoteUrl) -> dict[str, Any]:
        """Return what files say of AWS, which obstore does not read: settings, and who has credentials."""
        needs_credentials = url.scheme == "s3" and credentials_are_in_files()
        if not needs_credentials and not (url.scheme == "s3" and names_endpoint()):
            return {}
        if not can_read_profiles():
            self.hint = "; profiles of AWS in files, such as that of AWS_PROFILE, are read if boto3 is installed"
            return {}
        credentials = ProfileCredentials()
        return {**credentials.config, **({"credential_provider": credentials} if needs_credentials else {})}

    async def get(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the parts of an object, of which the first is empty; nothing if there is no object."""
        with self._told_as_unavailable(f"{name} cannot be read"):
            try:
                result = await self._under(self._obstore.get_async(self._store, name))
            except FileNotFoundError:
                return
            yield b""
            stream = result.stream(min_chunk_size=_CHUNK_BYTES)
            with contextlib.suppress(StopAsyncIteration):
                while True:
                    yield bytes(await self._under(stream.__anext__()))

    async def put(self, name: str, content: bytes, *, replace: bool) -> bool:
        """Store an object in one step; return False if there is one and it is not to be replaced."""
        with self._told_as_unavailable(f"{name} cannot be written"):
            try:
                mode = "overwrite" if replace else "create"
                await self._under(self._obstore.put_async(self._store, name, content, mode=mode, use_multipart=False))
            except self._exists:
                return False
        return True

    async def list(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects of a folder, and of those in it."""
        with self._told_as_unavailable(f"{prefix or 'it'} cannot be listed"):
            listed = await self._under(self._obstore.list(self._store, prefix or None).collect_async())
            return [ObjectInfo(each["path"], each["size"], each["last_modified"].timestamp()) for each in listed]

    async def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are gone are no fault."""
        with self._told_as_unavailable("objects cannot be deleted"):
            try:
                await self._under(self._obstore.delete_async(self._store, list(names)))
            except FileNotFoundError:  # it ends a deletion where a store takes one name at a time
                turns = asyncio.Semaphore(_DELETED_AT_ONCE)
                await asyncio.gather(*(self._delete_if_there(name, turns) for name in names))

    async def _delete_if_there(self, name: str, turns: asyncio.Semaphore) -> None:
        async with turns:
            with contextlib.suppress(FileNotFoundError):
                await self._under(self._obstore.delete_async(self._store, name))

    def run(self, request: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what a request returns, in an event loop of its own, after which the interpreter may end."""
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # as in EventLoop
                return runner.run(request)
        finally:
            self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until no thread of obstore's needs the interpreter, which may not end before; no request may follow.

        That takes milliseconds: requests that were given up end at once.
        """
        started = collected = monotonic()
        while not self.is_idle and (now := monotonic()) < started + _END_SECONDS:
            sleep(_LOOK_SECONDS)
            if now >= collected + _COLLECT_SECONDS:
                collected = now
                gc.collect()  # what was given up may be held by its own traceback

    @property
    def is_idle(self) -> bool:
        """Whether no thread of obstore's is to tell Python of the end of a request, or in the middle of that.

        Each tells of every request, of one that was given up too, whose future it holds until then. As it wakes the
        event loop it lets other threads run, which see that the request is done before it is done itself. If the
        interpreter ended now, Python (before 3.14) would end that thread where it waits to run on, in the middle of
        Rust's code, and so abort the process.
        """
        are_done = all(future.done() and not future.cancelled() for future in list(self._under_way))
        return are_done and not any(map(_was_called_by_obstore, _frames_of_foreign_threads()))

    def _under(self, future: Any) -> Any:
        """Return a request's future, and know of it for as long as anybody has it.

        It is awaited where it is made: a variable would keep it in the traceback of who gave it up, and with that the
        interpreter's end waiting.
        """
        self._under_way.add(future)
        return future

    @contextlib.contextmanager
    def _told_as_unavailable(self, fault: str) -> Any:
        global _process_of_threads
        if _process_of_threads not in (None, os.getpid()):
            raise RemoteUnavailable(
                f"{fault} (this process was forked from one that uses object stores: start it by spawn or forkserver)"
            )
        _process_of_threads = os.getpid()
        try:
            yield
        except self._faults as error:
            raise RemoteUnavailable(f"{fault} ({first_line(error)}{self.hint})") from error


def _is_unencrypted(url: RemoteUrl, from_files: Mapping[str, Any]) -> bool:
    """Return whether the user has named an endpoint without encryption, in the address, a file or the environment."""
    variables = (os.environ.get(name, "") for name in _ENDPOINTS.get(url.scheme, ()))
    return any(endpoint.startswith("http:") for endpoint in (url.text, from_files.get("endpoint", ""), *variables))


def _frames_of_foreign_threads() -> list[FrameType]:
    """Return the first frame of each thread that Python has not started, and in which Python code runs."""
    ours = {thread.ident for thread in threading.enumerate()}
    frames = [frame for ident, frame in sys._current_frames().items() if ident not in ours]
    for number, frame in enumerate(frames):
        while frame.f_back is not None:
            frame = frame.f_back
        frames[number] = frame
    return frames


def _was_called_by_obstore(frame: FrameType) -> bool:
    """Return whether a frame may be of what obstore calls: an event loop, or what is done as a future goes."""
    return str(frame.f_globals.get("__name__")).partition(".")[0] in ("asyncio", "_weakrefset", "weakref")


def first_line(error: BaseException) -> str:
    """Return an error in one line, without what an address has after its question mark, which may be a credential.

    Of what the server has answered, in XML, the code is kept: it names the reason, such as a clock that is wrong. Of a
    long line both ends are kept: the first says what was to be done, the last which status the server returned.
    """
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else type(error).__name__
    if code := _CODE.search(str(error)):
        line = f"{line.partition('<')[0].rstrip()} {code[1]}"
    line = _QUERY.sub("", line)
    return line if len(line) <= 2 * _END_CHARACTERS else f"{line[:_END_CHARACTERS]} … {line[-_END_CHARACTERS:]}"
