"""A thousand writers of one object store at once: each with a directory of its own, all with some programs in common.

``python -m tests.torture.writers --writers 1000`` prints what happened and ends with 0 if nothing was wrong: no wrong
byte, no exception, no writer that the store held up for long, and every entry that anybody has put is in the bucket at
the end, by itself or by the command push: the server cannot keep up with so many, so that most give it up for a while.
A thousand writers and a server share the processors of one machine; a writer is held up by what it takes beyond them.
"""

import argparse
import contextlib
import faulthandler
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import psutil

from jaxcache import DiskCache
from jaxcache._cli.commands import main as jaxcache_command
from jaxcache._disk.files import EntryFiles

from .._support.object_servers import make_bucket, s3_environment, s3_server
from .disk import RAISED, WRONG, value_of

BUCKET, REMOTE = "torture", "s3://torture/jax"
SHARED_KEYS = 40  # that all ask for
OWN_KEYS = 2  # of each writer
THREADS = 50  # of each process, a writer each
HELD_UP_SECONDS = 12.0  # that a writer may take besides what the processors need: 1 s by look-ups, 11 s at its end


def open_cache(folder: Path, remote: str | None = REMOTE) -> DiskCache:
    return DiskCache(folder, fingerprint={"torture": "yes"}, remote=remote)


def key_of(number: int) -> str:
    return f"jit_f{number}-{number}"


def write(
    root: Path, remote: str | None, writer: int, start: threading.Barrier, report: list[dict[str, float]]
) -> None:
    """Ask for keys, put what is not there, and close; report what was counted, and the seconds that it took."""
    own = range(SHARED_KEYS + writer * OWN_KEYS, SHARED_KEYS + (writer + 1) * OWN_KEYS)
    shared = [(writer + step) % SHARED_KEYS for step in range(0, SHARED_KEYS, SHARED_KEYS // 4)]
    cache = open_cache(root / f"host-{writer}", remote)
    start.wait()
    began = time.perf_counter()
    for number in [*own, *shared]:
        value = cache.get(key_of(number))
        if value is None:
            cache.put(key_of(number), value_of(number), 1.0)
        elif value != value_of(number):
            os._exit(WRONG)
    cache.close()
    counts, seconds = cache.process_counts(), time.perf_counter() - began
    report.append({"published": counts.published, "remote hits": counts.remote_hits, "misses": counts.misses,
                   "faults": counts.remote_faults, "seconds": seconds})  # fmt: skip


def work(root: Path, remote: str | None, writers: range, starting: Path) -> None:
    """Be many writers, a thread each; end with a code of its own if anything is wrong."""
    warnings.simplefilter("ignore")
    faulthandler.enable()  # an abort in a thread of obstore's would leave no word
    start, report, failed = threading.Barrier(len(writers) + 1), [], []

    def run(writer: int) -> None:
        try:
            write(root, remote, writer, start, report)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    (root / f"ready-{writers.start}").touch()
    while not starting.exists():
        time.sleep(0.01)
    before = time.process_time()
    start.wait()
    for thread in threads:
        thread.join()
    worked = {"processor_seconds": time.process_time() - before, "writers": report}
    (root / f"report-{writers.start}").write_text(json.dumps(worked))
    if failed:
        os._exit(RAISED)


def torture(writers: int) -> tuple[Counter[str], list[str]]:
    """Return what happened and what was wrong."""
    wrong: list[str] = []
    root = Path(tempfile.mkdtemp(prefix="jaxcache-torture-writers-"))
    try:
        with s3_server() as port, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.environ.update(s3_environment(port))
            make_bucket(port, BUCKET)
            (root / "without").mkdir()
            (root / "with").mkdir()
            alone, _ = run_all(root / "without", None, writers, wrong)
            seconds, happened = run_all(root / "with", REMOTE, writers, wrong)
            for name, at in [("median", len(alone) // 2), ("longest", -1)]:
                happened[f"{name} seconds, no store"] = round(alone[at])
                happened[f"{name} seconds"] = round(seconds[at])
            busy = happened["processor seconds"] / len(os.sched_getaffinity(0))
            if seconds[-1] > busy + HELD_UP_SECONDS:
                wrong.append(f"a writer took {seconds[-1]:.0f} s, of which the processors needed {busy:.0f}")
            wrong += inspect(root / "with", happened)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return happened, wrong


def run_all(root: Path, remote: str | None, writers: int, wrong: list[str]) -> tuple[list[float], Counter[str]]:
    """Let all writers loose at once; return their seconds and what they have counted, and add what was wrong."""
    happened, spawn, starting = Counter[str](), multiprocessing.get_context("spawn"), root / "start"
    shares = [range(first, min(first + THREADS, writers)) for first in range(0, writers, THREADS)]
    processes = [spawn.Process(target=work, args=(root, remote, share, starting)) for share in shares]
    for process in processes:
        process.start()
    while len(list(root.glob("ready-*"))) < len(shares) and all(process.is_alive() for process in processes):
        time.sleep(0.05)
    before = server_seconds()
    starting.touch()
    for process in processes:
        process.join()
        if process.exitcode:
            wrong.append("a get returned wrong bytes" if process.exitcode == WRONG
                         else f"a process ended with {process.exitcode}")  # fmt: skip
    worked = [json.loads(path.read_text()) for path in root.glob("report-*")]
    reports = [each for process in worked for each in process["writers"]]
    happened["writers"] = len(reports)
    happened["processor seconds"] = round(sum(each["processor_seconds"] for each in worked) + server_seconds() - before)
    for each in reports:
        happened.update({name: int(count) for name, count in each.items() if name != "seconds"})
        happened["writers with faults"] += each["faults"] > 0
    if len(reports) < writers:
        wrong.append(f"{writers - len(reports)} writers did not end well")
    return sorted(each["seconds"] for each in reports), happened


def server_seconds() -> float:
    """Return the processor seconds of the server so far."""
    started = psutil.Process().children(recursive=True)
    return sum(sum(child.cpu_times()[:2]) for child in started if "moto" in " ".join(child.cmdline()))


def inspect(root: Path, happened: Counter[str]) -> list[str]:
    """Push what the store did not take, and read all of it by a machine that has nothing."""
    wrong: list[str] = []
    held = names_held(root)
    happened["taken by the store"] = len(held)
    if happened["published"] > len(held):
        wrong.append(f"{happened['published']} entries were counted as published, and {len(held)} are there")
    for folder in sorted(root.glob("host-*")):
        if not {entry_id.name for entry_id in EntryFiles(folder).walk()} <= held:
            happened["pushed directories"] += 1
            with contextlib.redirect_stdout(None):
                if jaxcache_command(["push", "--dir", str(folder), REMOTE]):
                    wrong.append(f"push of {folder.name} failed")
    with open_cache(root / "reader") as reader:
        wrong += [f"key {number} is lost, or wrong" for number in range(SHARED_KEYS + happened["writers"] * OWN_KEYS)
                  if reader.get(key_of(number)) != value_of(number)]  # fmt: skip
        if reader.process_counts().remote_faults:
            wrong.append(f"reading all of it had faults: {reader.stats().fault}")
    return wrong


def names_held(root: Path) -> set[str]:
    """Return the names of the entries in the bucket."""
    from jaxcache._remote.layout import parse_entry_object
    from jaxcache._remote.object_store import ObjectStore
    from jaxcache._remote.urls import check_url

    store = ObjectStore(check_url(REMOTE))
    parsed = [parse_entry_object(each.name) for each in store.run(store.list(""))]
    return {entry[1] for entry in parsed if entry is not None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--writers", type=int, default=1000)
    given = parser.parse_args()
    happened, wrong = torture(given.writers)
    for name, count in happened.items():
        print(f"{name:<30} {count}")
    print("\n".join(wrong) if wrong else "nothing was wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
