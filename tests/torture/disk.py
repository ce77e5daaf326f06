"""Torture a shared directory: processes that get and put, are killed at random, and find their files damaged.

``python -m tests.torture.disk --seconds 60 --seed 0`` prints what happened and ends with 0 if nothing was wrong: no
wrong byte, no exception, never more than the limit and one entry, and an index equal to the directory at the end.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from jaxcache import DiskCache

PROCESSES = 8
KEYS = 400
LIMIT_BYTES = 600_000
LARGEST_BYTES = 20_000
WRONG, RAISED = 4, 3


def value_of(key: int) -> bytes:
    """Return what belongs to a key, the same in every process."""
    drawn = random.Random(key)
    size = int(drawn.choice([1, 200, 2_000, LARGEST_BYTES]) * drawn.uniform(0.5, 1.0)) + 32
    return hashlib.sha256(str(key).encode()).digest() + drawn.randbytes(size - 32)


def open_cache(root: str, eviction: str) -> DiskCache:
    return DiskCache(root, LIMIT_BYTES, eviction, fingerprint={"torture": "yes"}, wait_seconds=2.0)


def work(root: str, eviction: str, seed: int, report: str) -> None:
    """Get and put until killed; end with a code of its own if anything is wrong."""
    warnings.simplefilter("ignore")
    drawn, counts, told = random.Random(seed), Counter[str](), time.monotonic()
    try:
        cache = open_cache(root, eviction)
        while True:
            key = min(int(drawn.paretovariate(0.6)) - 1, KEYS - 1)
            found = cache.get(f"jit_f{key}-{key}")
            counts["gets"] += 1
            if found is None:
                counts["puts"] += 1
                cache.put(f"jit_f{key}-{key}", value_of(key), drawn.random())
            elif found != value_of(key):
                os._exit(WRONG)
            if time.monotonic() - told > 0.05:
                told = time.monotonic()
                Path(report).write_text(json.dumps(counts))
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(RAISED)


def damage(root: Path, drawn: random.Random) -> str | None:
    """Do to an entry what disks, crashes and people do; return what."""
    entries = list(root.glob("entries/*/*/*.entry"))
    if not entries:
        return None
    path = drawn.choice(entries)
    kind = drawn.choice(["truncate", "truncate", "flip", "flip", "empty", "foreign", "remove", "orphan"])
    with contextlib.suppress(FileNotFoundError):
        size = max(1, path.stat().st_size)
        if kind == "truncate":
            os.truncate(path, drawn.randrange(size))
        elif kind == "flip":
            with path.open("r+b") as file:
                at = drawn.randrange(size)
                file.seek(at)
                byte = (file.read(1) or b"?")[0] ^ (1 << drawn.randrange(8))
                file.seek(at)
                file.write(bytes([byte]))
        elif kind == "empty":
            os.truncate(path, 0)
        elif kind == "foreign":
            path.write_bytes(drawn.randbytes(100))
        elif kind == "remove":
            path.unlink()
        else:
            (path.parent / f"{path.name[:2]}-left-behind").write_bytes(b"?")
        return kind
    return None


def held_bytes(cache: DiskCache, root: Path) -> int:
    """Return what the entries take, while nobody changes which there are."""

    def add_up() -> int:
        total = 0
        for path in root.glob("entries/*/*/*.entry"):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    return cache.index.database.locked(add_up)


def torture(seconds: float, seed: int, eviction: str, processes: int = PROCESSES) -> tuple[Counter[str], list[str]]:
    """Return what happened and what was wrong."""
    drawn, happened, wrong = random.Random(seed), Counter[str](), []
    spawn = multiprocessing.get_context("spawn")
    root = Path(tempfile.mkdtemp(prefix="jaxcache-torture-"))
    reports = Path(tempfile.mkdtemp(prefix="jaxcache-torture-reports-"))
    numbers = iter(range(1_000_000))

    def start() -> multiprocessing.process.BaseProcess:
        number = next(numbers)
        worker = spawn.Process(
            target=work, args=(str(root / "cache"), eviction, seed * 1_000_003 + number, str(reports / str(number)))
        )
        worker.start()
        return worker

    def judge(worker: multiprocessing.process.BaseProcess) -> None:
        if worker.exitcode == WRONG:
            wrong.append("a get returned wrong bytes")
        elif worker.exitcode != -signal.SIGKILL:
            wrong.append(f"a worker ended with {worker.exitcode}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cache = open_cache(str(root / "cache"), eviction)
            workers = [start() for _ in range(processes)]
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(drawn.uniform(0.005, 0.05))
                if kind := damage(root / "cache", drawn):
                    happened[kind] += 1
                if drawn.random() < 0.02:
                    number = drawn.randrange(processes)
                    os.kill(workers[number].pid or 0, signal.SIGKILL)
                    workers[number].join()
                    judge(workers[number])
                    happened["killed"] += 1
                    workers[number] = start()
                if drawn.random() < 0.1:
                    held = held_bytes(cache, root / "cache")
                    happened["looked"] += 1
                    if held > LIMIT_BYTES + LARGEST_BYTES + 1000:
                        wrong.append(f"the entries took {held} bytes, the limit is {LIMIT_BYTES}")
            for worker in workers:
                os.kill(worker.pid or 0, signal.SIGKILL)
                worker.join()
                judge(worker)
            wrong += inspect(cache)
            for name, count in cache.stats().misses_by_reason.items():
                happened[f"miss: {name}"] = count
            happened["hits"], happened["evictions"] = cache.stats().hits, cache.stats().evictions
            cache.close()
            for report in reports.iterdir():
                with contextlib.suppress(ValueError):
                    happened.update(json.loads(report.read_text()))
        finally:
            shutil.rmtree(root, ignore_errors=True)
            shutil.rmtree(reports, ignore_errors=True)
    return happened, wrong


def inspect(cache: DiskCache) -> list[str]:
    """Check the directory at the end; return what is wrong with it."""
    wrong = []
    cache.verify()
    rows = {row.entry_id: row.size_bytes for row in cache.index.rows()}
    there = {place: cache.files.path(place).stat().st_size for place in cache.files.walk()}
    if rows != there:
        wrong.append(f"the index has {len(rows)} entries, the directory {len(there)}; they differ")
    state = cache.index.state()
    if (state["entries"], state["bytes"]) != (len(there), sum(there.values())):
        wrong.append(f"the totals are {state['entries']} and {state['bytes']}, not {len(there)}, {sum(there.values())}")
    if list(cache.files.strays()):
        wrong.append("files that are no entries are still among them")
    again = cache.verify()
    if again.bad or again.unknown or again.gone:
        wrong.append(f"a second look found {again}")
    for key in range(KEYS):
        found = cache.get(f"jit_f{key}-{key}")
        if found not in (None, value_of(key)):
            wrong.append(f"key {key} has wrong bytes")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eviction", default="gdsf")
    given = parser.parse_args()
    happened, wrong = torture(given.seconds, given.seed, given.eviction)
    for name, count in sorted(happened.items()):
        print(f"{name:<24} {count}")
    print("\n".join(wrong) if wrong else "nothing was wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
