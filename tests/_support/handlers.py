"""Signal handlers that come at a chosen call: Python runs them where a function begins, and after calls of C."""

import sys
from collections.abc import Callable
from types import FrameType


def handled_after(
    calls: int, work: Callable[[], object], handle: Callable[[], object], among: Callable[[FrameType], bool]
) -> bool:
    """Do ``work``, and ``handle`` in the middle of it, as a handler would whose signal comes after so many calls.

    Args:
        calls: How many there are before.
        work: What is disturbed.
        handle: What the handler does.
        among: Says whether a frame's calls count.

    Returns:
        Whether there were as many.
    """

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        if event not in ("call", "c_return") or not among(frame):
            return
        calls -= 1
        if calls == -1:
            sys.setprofile(None)
            handle()

    sys.setprofile(look)
    work()
    sys.setprofile(None)
    return calls < 0
