"""Work that waits until the program has started: done in one thread, after a pause, and before the process ends."""

import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable

_PAUSE_SECONDS = 0.5  # without a new job: tracing in a thread slows down a program that is still starting
_POLL_SECONDS = 0.02
_AFTER_END_SECONDS = 10.0  # for what is left once the main thread has ended

Job = Callable[[], object]


class Background:
    """Queue of jobs, and the thread that does them while there are any."""

    def __init__(self) -> None:
        """Begin without a job."""
        self.forget()

    def forget(self) -> None:
        """Begin anew in a forked child: the thread is the parent's."""
        self._lock = threading.RLock()  # a signal handler may add a job while this thread holds it
        self._jobs: deque[Job] = deque()
        self._thread: threading.Thread | None = None
        self._added = 0.0

    def add(self, job: Job) -> None:
        """Have ``job``, which must not raise, done later, with the context variables of this moment."""
        context = contextvars.copy_context()
        with self._lock:
            self._jobs.append(lambda: context.run(job))
            self._added = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="jaxcache-verify", daemon=False)
                self._thread.start()

    def wait(self) -> None:
        """Return when every job is done."""
        thread = self._thread
        if thread is not None:
            self._added = 0.0
            thread.join()

    def _work(self) -> None:
        ends_by: float | None = None
        while True:
            while threading.main_thread().is_alive() and time.monotonic() - self._added < _PAUSE_SECONDS:
                time.sleep(_POLL_SECONDS)
            if not threading.main_thread().is_alive():
                ends_by = ends_by or time.monotonic() + _AFTER_END_SECONDS
            with self._lock:
                if not self._jobs or (ends_by is not None and time.monotonic() > ends_by):
                    self._thread = None
                    return
                job = self._jobs.popleft()
            job()


background = Background()
os.register_at_fork(after_in_child=background.forget)


def context_of_new_thread(context: Callable[[], object]) -> object:
    """Return what ``context()`` returns in a thread that has entered no context of its own."""
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(context()))
    thread.start()
    thread.join()
    return answers[0] if answers else None
