"""Check that this machine has the memory that a number of processes need."""

from pathlib import Path

import psutil

from ... import format_size
from ..counted import counted

# Peak memory of a small workload's trial beside the programs in its cache: JAX, its compiler, the data.
PROCESS_BYTES = 300 * 1024**2
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def machine_bytes() -> int:
    """Return the memory of this machine, or of the container that this process runs in if that has less."""
    return min([psutil.virtual_memory().total, *_container_bytes()])


def check_memory(workers: int, limit_bytes: int | None) -> None:
    """Refuse processes whose memory limits together exceed the machine's memory.

    Raises:
        ValueError: If ``workers`` times ``limit_bytes`` is more memory than the machine has.
    """
    if limit_bytes is None or workers * limit_bytes <= (there := machine_bytes()):
        return
    fitting = there // limit_bytes
    advice = f"write runner.workers={fitting}" if fitting else f"write at most runner.memory_limit={there // 2**20}MiB"
    raise ValueError(
        f"runner.memory_limit={format_size(limit_bytes)} for {counted(workers, 'worker')} is more than the "
        f"{format_size(there)} of this machine; {advice}"
    )


def memory_warning(workers: int, limit_bytes: int | None, cache_bytes: int) -> str | None:
    """Return a warning if processes are likely to need more memory than is free now, or None.

    Args:
        workers: Number of processes at a time.
        limit_bytes: Memory at which each process is ended; None for no limit.
        cache_bytes: Largest limit of their caches, 0 for none.
    """
    each = PROCESS_BYTES + cache_bytes
    each = each if limit_bytes is None else min(each, limit_bytes)
    free = min(psutil.virtual_memory().available, machine_bytes())
    if workers * each <= free:
        return None
    return (
        f"{counted(workers, 'worker')} may need {format_size(workers * each)} of memory, but {format_size(free)} are "
        f"free; trials may be killed. To be safe, write runner.workers={max(1, free // each)}"
    )


def _container_bytes() -> list[int]:
    """Return the container's memory limit, in a list that is empty where there is no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # control groups version 2 and 1
        try:
            text = (_CONTROL_GROUP / name).read_text().strip()
        except OSError:
            continue
        return [int(text)] if text.isdigit() else []
    return []
