"""ThreadRequest: the last request of a directory that a thread has made."""

import threading
import time


class ThreadRequest(threading.local):
    """Last request of this thread: its key, when it missed, and whether the compile that followed has ended."""

    key: str = ""
    missed_at: float = 0.0
    compiled_at: float | None = None
    served: bool = False  # get returned an entry
    to_compare: bytes | None = None

    def begin(self, key: str) -> None:
        """Begin a request."""
        self.key, self.served, self.to_compare, self.compiled_at = key, False, None, None

    def compile_seconds(self, key: str) -> float:
        """Return how long compiling took after this thread missed ``key``; 0 if it did not ask for it."""
        if self.key != key:
            return 0.0
        until = self.compiled_at if self.compiled_at is not None else time.perf_counter()
        return until - self.missed_at
