"""Torture a sweep: its trials, fork server, flow and Prefect server are killed at random, and it is resumed until done.

``python -m tests.torture.sweep --seeds 50 --trials 40`` prints a line a seed and ends with 0 if nothing was wrong: in
the end every trial has exactly one result, the right one; what was finished is not done again; the report is right, so
is what Prefect says of the last run; no process is left. ``--record`` keeps what was done: the same command goes on.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from flows.planning.plan import Plan, make_plan
from flows.prefect_server import serve
from flows.prefect_server.process import healthy
from jaxcache._primitives.atomic_files import write_file
from jaxcache.lab.environment import code_version

PROJECT = Path(__file__).resolve().parents[2]
MARK = "JAXCACHE_TORTURE"  # in the environment of every process that a seed starts
RECORD = PROJECT / "outputs" / "torture_sweep.json"
POLICIES = ("lru", "fifo", "random", "gdsf", "lfu", "sieve", "s3fifo", "size_based", "lnc_ra", "adaptive")
ENDINGS = ("kill", "kill", "interrupt", "interrupt_twice", "terminate")  # of the flow
SURVIVED = ("trial", "trial", "trial", "fork_server", "server")
FAULTS = {"local": SURVIVED, "dask": (*SURVIVED, "worker")}  # that a run is to survive, by runner
ENDED_RUNS, FAULTY_RUNS, MOST_RUNS = 3, 5, 8  # the last ones are left in peace
MOST_FAULTS = 8  # of a run, which on a slow machine is to end as well
RUN_SECONDS, SERVER_SECONDS = 600.0, 120.0
PATIENCE_SECONDS = 10.0  # to wait for something that a fault may hit
WRONG_OUTPUT = ("Traceback", "Error logging to API")
# CPython's fork server, when the flow is killed in the middle of a request to it.
ABANDONED = re.compile(
    r'Traceback.*\n  File "<string>", line 1, in <module>\n(?:  .*\n)+?    raise EOFError\nEOFError\n'
)


def words(trials: int, runner: str) -> list[str]:
    """Return the command of so many short trials, in tens, of two programs."""
    limits = ",".join(f"{4 + 4 * number}MiB" for number in range(max(1, trials // (2 * len(POLICIES)))))
    return [
        f"runner={runner}", "runner.workers=2", "runner.retries=20", "workload=monte_carlo", "workload.requests=4",
        "workload.paths=32", "workload.steps=2", "shapes.distinct=3", "shapes.largest=24", "seed=0,1",
        f"eviction={','.join(POLICIES)}", f"memory_limit={limits}",
    ]  # fmt: skip


@dataclass
class Sweep:
    """One sweep under torture, and what has been seen of it."""

    root: Path
    home: Path
    command: list[str]
    plan: Plan
    faults: tuple[str, ...]
    drawn: random.Random
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    finished: dict[Path, tuple[int, bytes]] = field(default_factory=dict)
    processes: dict[int, psutil.Process] = field(default_factory=dict)

    @property
    def directories(self) -> list[Path]:
        return sorted(path.parent for path in self.root.glob("outputs/*/sweep.json"))

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {**kept, "PREFECT_HOME": str(self.home), MARK: str(self.root)}

    def start(self) -> subprocess.Popen[bytes]:
        """Start the sweep, or go on with it, in one of the two ways."""
        line = self.command
        if self.directories and self.drawn.random() < 0.5:
            line = [f"sweep.resume={self.directories[0]}"]
            self.done["resumed by name"] += 1
        with (self.root / "output.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.sweep", *line], cwd=PROJECT, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def look(self) -> None:
        """Note what is finished: it is not to change any more."""
        for directory in self.directories:
            for path in (*directory.glob("trials/*/result.json"), *directory.glob("references/*/reference.json")):
                self._look_at(path)

    def _look_at(self, path: Path) -> None:
        written = path.stat().st_mtime_ns if path.name == "result.json" else 0  # a known reference is written again
        before = self.finished.get(path)
        if before is not None and before[0] == written != 0:
            return
        content = path.read_bytes()
        if before is None:
            self.finished[path] = (written, content)
        elif before != (written, content):
            self.wrong.append(f"{path.relative_to(self.root)} was finished, and written again")


def server_of(home: Path) -> list[psutil.Process]:
    """Return the processes of the project's server."""
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        server = psutil.Process(json.loads((home / "server.json").read_text())["pid"])
        return [server, *server.children(recursive=True)]
    return []


def marked(root: Path) -> list[psutil.Process]:
    """Return the processes that a seed started, without its server's."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE or process.environ().get(MARK) != str(root):
                continue
            if process.cmdline()[1:3] != ["-m", serve.__name__]:
                found.append(process)
    return found


# What is done to a run.


def victims(flow: int, fault: str, home: Path) -> list[psutil.Process]:
    """Return the processes that a fault may hit."""
    if fault == "server":  # one that answers: on a busy machine it would never get to its feet
        found = server_of(home)[:1]
        return found if found and healthy(api_url(home), timeout_seconds=1) else []
    spared = {process.pid for process in server_of(home)}
    with contextlib.suppress(psutil.Error):
        children = [one for one in psutil.Process(flow).children(recursive=True) if one.pid not in spared]
        if fault == "trial":  # they have a session of their own
            return [one for one in children if os.getsid(one.pid) == one.pid]
        if fault == "worker":  # of Dask
            return [one for one in children if "spawn_main" in " ".join(one.cmdline())]
        return [one for one in children if "forkserver" in " ".join(one.cmdline()) and os.getsid(one.pid) != one.pid]
    return []


def hit(sweep: Sweep, flow: int, fault: str) -> bool:
    """Kill one of what a fault may hit; return whether there was any."""
    with contextlib.suppress(psutil.Error, OSError):
        found = victims(flow, fault, sweep.home)
        if found:
            sweep.drawn.choice(found).kill()
            sweep.done[f"killed: {fault}"] += 1
            return True
    return False


def end(sweep: Sweep, flow: subprocess.Popen[bytes], how: str) -> None:
    """End the flow's process as a fault, a person or a system does."""
    sweep.done[f"flow: {how}"] += 1
    if how == "kill":
        flow.kill()
    elif how == "terminate":
        flow.terminate()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(flow.pid, signal.SIGINT)  # as the terminal does
            if how == "interrupt_twice":
                time.sleep(sweep.drawn.uniform(0.0, 1.0))
                os.killpg(flow.pid, signal.SIGINT)


def run_once(sweep: Sweep, number: int) -> int:
    """Run the sweep's command once with faults; return its exit code."""
    drawn, began = sweep.drawn, time.monotonic()
    flow = sweep.start()
    try:
        delay = drawn.choice([drawn.uniform(1, 4), drawn.uniform(4, 20), drawn.uniform(4, 20)])
        ending = began + delay if number < ENDED_RUNS else None
        fault_at, fault = began + drawn.uniform(2, 6), drawn.choice(sweep.faults)
        faults = drawn.randrange(1, MOST_FAULTS) if number < FAULTY_RUNS else 0
        while flow.poll() is None:
            now = time.monotonic()
            sweep.look()
            if ending is not None and now > ending:
                end(sweep, flow, drawn.choice(ENDINGS))
                ending = None
            if faults and now > fault_at and hit(sweep, flow.pid, fault):
                faults -= 1
                fault_at, fault = now + drawn.uniform(0.5, 6), drawn.choice(sweep.faults)
            elif now > fault_at + PATIENCE_SECONDS:  # that a killed server comes back is not to be waited for
                fault_at, fault = now, drawn.choice(sweep.faults)
            if now - began > RUN_SECONDS:
                sweep.wrong.append(f"a run took more than {RUN_SECONDS:.0f} s")
                return flow.wait(0) if flow.poll() is not None else -signal.SIGKILL
            time.sleep(0.05)
    finally:
        if flow.poll() is None:
            flow.kill()
        flow.wait()
    sweep.look()
    sweep.done[f"ended with {flow.returncode}"] += 1
    return flow.returncode


# What is to hold in the end.


def judge(sweep: Sweep, server: str) -> None:
    """Check everything that a finished sweep has left behind."""
    say = sweep.wrong.append
    if len(sweep.directories) != 1:
        return say(f"{len(sweep.directories)} sweeps were made instead of one")
    (place,) = sweep.directories
    planned = {one.trial_id for one in sweep.plan.trials}
    manifest = json.loads((place / "sweep.json").read_text())
    if manifest["ended"] != "completed":
        say(f"the manifest says {manifest['ended']}")
    if sorted(manifest["order"]) != sorted(planned):
        say("the manifest's order is not the planned trials, each once")
    if {path.name for path in (place / "trials").iterdir()} != planned:
        say("there are places of other trials, or some are missing")
    found = {path.parent.name: json.loads(path.read_text()) for path in place.glob("trials/*/result.json")}
    if set(found) != planned:
        say(f"{len(found)} of {len(planned)} trials have a result")
    for trial_id, one in found.items():
        judge_result(trial_id, one, say)
    references = list(place.glob("references/*/reference.json"))
    if {path.parent.name for path in references} != {one.program_id for one in sweep.plan.trials}:
        say("there are references of other programs, or some are missing")
    judge_report(place, planned, say)
    left = [path for name in ("scratch", "*.tmp") for path in place.rglob(name)]
    if left:
        say(f"left behind: {', '.join(str(path.relative_to(place)) for path in left[:5])}")
    _judge_prefect(manifest["run_url"].rpartition("/")[2], server, len(planned) + 3, say)
    return None


def judge_result(trial_id: str, one: dict[str, Any], say: Any) -> None:
    if one["status"] != "completed":
        return say(f"{trial_id} has {one['status']}: {one['reason']}")
    if one["trial_id"] != trial_id:
        say(f"the result in {trial_id} is of {one['trial_id']}")
    if one["checksum"] != one["reference_checksum"]:
        say(f"{trial_id} has another checksum than its reference")
    counts = one["statistics"]
    if counts["misses"] != counts["disk_hits"] + counts["compiled"]:
        say(f"{trial_id} counts {counts['misses']} misses, which are not those from disk and those compiled")
    return None


def judge_report(place: Path, planned: set[str], say: Any) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(place / "results.parquet").to_pylist()
    rows = [row for row in table if row["trial_id"] is not None]  # others are predictions
    if sorted(row["trial_id"] for row in rows) != sorted(planned):
        say(f"results.parquet has {len(rows)} rows for {len(planned)} trials")
    total = f"{len(planned)} of {len(planned)} trials succeeded."
    if total not in (place / "report.md").read_text():
        say(f"report.md does not say {total!r}")


def _judge_prefect(run_id: str, server: str, tasks: int, say: Any) -> None:
    """Ask for the last run. Its records trail it by a moment."""
    deadline, run, states = time.monotonic() + 60, "nothing", Counter[str]()
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            run = ask(server, f"/flow_runs/{run_id}")["state"]["type"]
            body = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 200}
            states = Counter(task["state_type"] for task in ask(server, "/task_runs/filter", body))
        if run == "COMPLETED" and states == {"COMPLETED": tasks}:
            return
        time.sleep(1)
    say(f"Prefect says {run} of the last run, and of its {tasks} tasks {dict(states)}")


def ask(server: str, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        f"{server}{path}", data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def server_command(home: Path, word: str) -> str:
    """Let ``flows.server`` do something; return the API's address if there is one then."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    subprocess.run(
        [sys.executable, "-m", "flows.server", word], cwd=PROJECT, env={**kept, "PREFECT_HOME": str(home)},
        capture_output=True, timeout=SERVER_SECONDS + 60, check=word == "start", start_new_session=True,
    )  # fmt: skip
    return "" if word == "stop" else api_url(home)


def api_url(home: Path) -> str:
    return f"http://127.0.0.1:{json.loads((home / 'server.json').read_text())['port']}/api"


# Seeds.


def torture(seed: int, trials: int, runner: str, home: Path, keep: bool) -> dict[str, Any]:
    """Run one sweep to its end under torture; return what was done to it and what was wrong."""
    root = Path(tempfile.mkdtemp(prefix=f"jaxcache-torture-{seed}-"))
    began = time.monotonic()
    command = [*words(trials, runner), f"sweep.directory={root / 'outputs'}", f"persistent.directory={root / 'cache'}"]
    sweep = Sweep(root, home, command, make_plan(tuple(command)), FAULTS[runner], random.Random(seed))
    try:
        for number in range(MOST_RUNS):
            code = run_once(sweep, number)
            if code == 0:
                break
        else:
            sweep.wrong.append(f"the last run ended with {code}")
        orphans = wait_until_gone(marked(root))
        sweep.wrong += [f"a process is left: {process}" for process in orphans]
        judge(sweep, server_command(home, "start"))
        output = ABANDONED.sub("", (root / "output.txt").read_text(errors="replace"))
        sweep.wrong += [f"the output has {word!r}" for word in WRONG_OUTPUT if word in output]
    finally:
        for process in marked(root):
            with contextlib.suppress(psutil.Error):
                process.kill()
    kept = str(root) if sweep.wrong or keep else None
    if kept is None:
        shutil.rmtree(root, ignore_errors=True)
    return {"trials": len(sweep.plan.trials), "runner": runner, "code": code_version(), "done": dict(sweep.done),
            "seconds": round(time.monotonic() - began, 1), "wrong": sweep.wrong, "kept": kept}  # fmt: skip


def wait_until_gone(processes: list[psutil.Process]) -> list[str]:
    """Return what is left of processes after the ten seconds that they may take to notice that they are alone."""
    _, left = psutil.wait_procs(processes, timeout=10)
    told: list[str] = []
    for process in left:
        with contextlib.suppress(psutil.Error):
            told.append(f"{process.pid} {' '.join(process.cmdline())[:100]}")
    return told


def read_record(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def write_record(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(record, indent=1) + "\n", durable=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--trials", type=int, default=40, help="of each sweep, in twenties")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no seed after so long")
    parser.add_argument("--runner", choices=tuple(FAULTS), default="local", help="where trials run")
    parser.add_argument("--record", type=Path, default=RECORD, help="what was done; seeds without a fault are left out")
    parser.add_argument("--keep", action="store_true", help="keep the files of seeds without a fault too")
    given = parser.parse_args()
    record, began = read_record(given.record), time.monotonic()
    expected = {"trials": given.trials, "runner": given.runner, "code": code_version()}
    home = Path(tempfile.mkdtemp(prefix="jaxcache-torture-prefect-"))
    failed = 0
    try:
        for seed in range(given.seed, given.seed + given.seeds):
            before = record.get(str(seed), {})
            if not before.get("wrong", True) and expected.items() <= before.items():
                print(f"seed {seed}: done before, nothing was wrong", flush=True)
                continue
            if time.monotonic() - began > 60 * given.minutes:
                print(f"{given.minutes:g} minutes are over; the same command goes on with seed {seed}")
                break
            one = torture(seed, given.trials, given.runner, home, given.keep)
            record[str(seed)] = one
            write_record(given.record, record)
            failed += bool(one["wrong"])
            told = ", ".join(f"{name} {count}" for name, count in sorted(one["done"].items()))
            print(f"seed {seed}: {one['seconds']:.0f} s; {told}", flush=True)
            for line in one["wrong"]:
                print(f"  WRONG: {line}", flush=True)
            if one["wrong"]:
                print(f"  see {one['kept']}", flush=True)
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on.", file=sys.stderr)
        return 130
    finally:
        server_command(home, "stop")
        shutil.rmtree(home, ignore_errors=True)
    print(f"{failed} seeds found something" if failed else "nothing was wrong", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
