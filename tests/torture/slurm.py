"""Torture sweeps on SLURM: jobs, workers, trials and SLURM's own daemons are killed at random while they run.

``python -m tests.torture.slurm --rounds 20`` starts a SLURM of its own, prints a line per round and ends with 0 if
nothing was wrong: in the end every trial has one right result that was written once, decides as in the first round, and
neither a job nor a process is left.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.planning.plan import make_plan
from tests._support.slurm import Cluster, NoSlurmError, running_slurm

from .sweep import MARK, PROJECT, judge_report, judge_result, marked, wait_until_gone

FAULTS = ("cancel", "signal", "requeue", "worker", "trial", "fork_server", "node", "controller", "cancel_all")
MOST_FAULTS, MOST_RUNS = 8, 6
RUN_SECONDS = 600.0
DECISIONS = ("hits", "misses", "evictions")


@dataclass
class Round:
    """One sweep under torture, and what was seen of it."""

    root: Path
    cluster: Cluster
    words: list[str]
    drawn: random.Random
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    written: dict[Path, tuple[int, int]] = field(default_factory=dict)

    @property
    def sweep(self) -> Path:
        """Directory of the sweep."""
        return next(path.parent for path in self.root.glob("outputs/*/sweep.json"))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m flows.sweep``."""
        variables = {**os.environ, **self.cluster.environment, MARK: str(self.root)}
        return subprocess.run(
            [sys.executable, "-m", "flows.sweep", *words], cwd=PROJECT, env=variables, capture_output=True, text=True,
            timeout=RUN_SECONDS, check=False,
        )  # fmt: skip

    def look(self) -> None:
        """Note which results there are: none is to be written again."""
        for path in self.root.glob("outputs/*/trials/*/result.json"):
            with contextlib.suppress(FileNotFoundError):
                stat_result = path.stat()
                seen = stat_result.st_ino, stat_result.st_mtime_ns
                if self.written.setdefault(path, seen) != seen:
                    self.wrong.append(f"{path.parent.name} has a result, and it was written again")

    def administer(self) -> None:
        """Do what SLURM leaves to its administrator, and spare jobs that were queued again two minutes' wait.

        A controller that was killed may have lost that a job runs, and start it again. Its node refuses that; SLURM
        then drains the node and holds the job until somebody has looked.
        """
        node, _, reason = self.cluster.run("sinfo", "--noheader", "--Node", "--format=%N %E").strip().partition(" ")
        if reason == "Duplicate jobid":
            self.cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
            self.done["resumed node"] += 1
        for job, state in self.cluster.jobs().items():
            if state == "PENDING" and "[" not in job:
                self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        for line in self.cluster.run("squeue", "--noheader", "--format=%A %r").splitlines():
            job, _, reason = line.partition(" ")
            if reason.strip() == "launch failed requeued held":
                self.cluster.run("scontrol", "release", job)
                self.done["released job"] += 1


def words(trials: int, root: Path) -> list[str]:
    """Return the command of about so many short trials of two programs."""
    limits = ",".join(f"{4 + 4 * number}MiB" for number in range(max(1, trials // 8)))
    return [
        "runner=slurm", "runner.jobs=2", "runner.cpus_per_task=1", "workload=monte_carlo", "workload.requests=4",
        "workload.paths=32", "workload.steps=2", "shapes.distinct=3", "shapes.largest=24", "seed=0,1",
        "eviction=lru,fifo,gdsf,sieve", f"memory_limit={limits}", f"sweep.directory={root / 'outputs'}",
        f"persistent.directory={root / 'cache'}",
    ]  # fmt: skip


def processes(round_: Round, kind: str) -> list[psutil.Process]:
    """Return the processes of jobs of a kind."""
    found: list[psutil.Process] = []
    for process in marked(round_.root):
        with contextlib.suppress(psutil.Error, OSError):
            line = " ".join(process.cmdline())
            is_trial = os.getsid(process.pid) == process.pid and "forkserver" in line
            own = "worker" if "slurm.worker" in line and not is_trial else "trial" if is_trial else "fork_server"
            if own == kind and ("forkserver" in line or kind == "worker"):
                found.append(process)
    return found


def hit(round_: Round, fault: str) -> bool:
    """Let a fault happen; return whether there was anything that it could hit."""
    cluster, drawn = round_.cluster, round_.drawn
    running = [job for job, state in cluster.jobs().items() if state == "RUNNING"]
    if fault in ("node", "controller"):
        name = {"node": "slurmd", "controller": "slurmctld"}[fault]
        cluster.kill(name)
        time.sleep(drawn.uniform(0, 4))
        cluster.start(name)
        return True
    if fault == "cancel_all":
        return round_.command("cancel", str(round_.sweep)).returncode == 0
    if fault in ("worker", "trial", "fork_server"):
        victims = processes(round_, fault)
        with contextlib.suppress(psutil.Error):
            if victims:
                drawn.choice(victims).kill()
        return bool(victims)
    if not running:
        return False
    job = drawn.choice(running)
    commands = {"cancel": ("scancel",), "signal": ("scancel", "--signal=USR1", "--batch"),
                "requeue": ("scontrol", "requeue")}  # fmt: skip
    cluster.run(*commands[fault], job)
    return True


def run_once(round_: Round, faults: int) -> None:
    """Submit the sweep, or what is left of it, and let faults happen until its jobs have ended."""
    done = round_.command(*round_.words)
    if done.returncode:
        round_.wrong.append(f"it could not be submitted: {done.stderr.strip()[-300:]}")
        return
    began, next_fault = time.monotonic(), time.monotonic() + round_.drawn.uniform(1, 6)
    while round_.cluster.jobs() or not _answers(round_.cluster):
        round_.look()
        round_.administer()
        if faults and time.monotonic() > next_fault:
            fault = round_.drawn.choice(FAULTS if faults > 1 else FAULTS[:-1])
            if hit(round_, fault):
                round_.done[fault] += 1
                faults -= 1
            next_fault = time.monotonic() + round_.drawn.uniform(0.3, 4)
        if time.monotonic() - began > RUN_SECONDS:
            round_.wrong.append(f"jobs did not end within {RUN_SECONDS:.0f} s: {round_.cluster.jobs()}")
            round_.command("cancel", str(round_.sweep))
            return
        time.sleep(0.2)
    round_.look()


def _answers(cluster: Cluster) -> bool:
    """Return whether the controller answers: without it, there seem to be no jobs."""
    return bool(cluster.run("sinfo", "--noheader").strip())


def judge(round_: Round, expected: dict[str, tuple[int, ...]]) -> None:
    """Check what a finished sweep has left behind; remember or compare its decisions."""
    say, sweep = round_.wrong.append, round_.sweep
    planned = {each.trial_id for each in make_plan(tuple(round_.words)).trials}
    if len([*round_.root.glob("outputs/*/sweep.json")]) != 1:
        say("more than one sweep was made")
    found = {path.parent.name: json.loads(path.read_text()) for path in sweep.glob("trials/*/result.json")}
    if set(found) != planned:
        say(f"{len(found)} of {len(planned)} trials have a result")
    for trial_id, result in found.items():
        judge_result(trial_id, result, say)
        if result["statistics"] is None:
            continue
        decisions = tuple(result["statistics"][name] for name in DECISIONS)
        if expected.setdefault(result["label"], decisions) != decisions:
            say(f"{result['label']} decided {decisions}, and {expected[result['label']]} before")
    judge_report(sweep, planned, say)
    left = [path for name in ("scratch", "*.tmp") for path in sweep.rglob(name)]
    if left:
        say(f"left behind: {', '.join(str(path.relative_to(sweep)) for path in left[:5])}")


def torture(
    number: int, trials: int, cluster: Cluster, expected: dict[str, tuple[int, ...]], costs: Path
) -> tuple[Round, float]:
    """Run one sweep to its end under torture. The cost table of the first, undisturbed, is that of all others."""
    root, began = Path(tempfile.mkdtemp(prefix=f"jaxcache-torture-slurm-{number}-")), time.monotonic()
    command = [*words(trials, root), *([f"costs={costs}"] if costs.exists() else [])]
    round_ = Round(root, cluster, command, random.Random(number))
    for run in range(MOST_RUNS):
        faults = round_.drawn.randrange(3, MOST_FAULTS) if costs.exists() and run < MOST_RUNS - 2 else 0
        run_once(round_, faults)
        manifest = json.loads((round_.sweep / "sweep.json").read_text())
        if (manifest["ended"], manifest["reported"]) == ("completed", True) or round_.wrong:
            break
        round_.done[f"resumed after {manifest['ended']}"] += 1
    else:
        round_.wrong.append("it did not come to an end")
    round_.wrong += [f"a process is left: {process}" for process in wait_until_gone(marked(root))]
    if not round_.wrong:  # else there may be no report to judge
        judge(round_, expected)
    if not costs.exists():
        shutil.copy(round_.sweep / "costs.json", costs)
    if not round_.wrong:
        shutil.rmtree(root)
    return round_, time.monotonic() - began


def main() -> int:
    """Run rounds; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.slurm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="how many, after one without faults")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--trials", type=int, default=16, help="of each sweep, in eights")
    options = parser.parse_args()
    home, expected, failed = Path(tempfile.mkdtemp(prefix="slurm-")), dict[str, tuple[int, ...]](), 0
    try:
        with running_slurm(home) as cluster:
            for number in (0, *range(options.seed, options.seed + options.rounds)):
                round_, seconds = torture(number, options.trials, cluster, expected, home / "costs.json")
                done = ", ".join(f"{name} {count}" for name, count in sorted(round_.done.items()))
                print(f"round {number}: {seconds:.0f} s; {done or 'nothing done to it'}", flush=True)
                for line in round_.wrong:
                    print(f"  WRONG: {line}; see {round_.root}", flush=True)
                failed += bool(round_.wrong)
    except NoSlurmError as error:
        print(f"no SLURM here: {error}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(f"{failed} rounds found something" if failed else "nothing was wrong", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
