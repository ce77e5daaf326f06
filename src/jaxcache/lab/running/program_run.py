"""Runs of a user's program in fresh interpreters of its own, for a trial or a reference -> what they measured."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ... import CostTable, Trace
from ..._process.measured_run import Settings
from ..counted import counted
from ..layout import REQUESTS, STDERR, STDOUT, TRIAL_PROGRESS
from ..result import (
    FunctionCounts,
    Memory,
    ProgramReference,
    ProgramRun,
    Reference,
    Statistics,
    Timeline,
    Timing,
)
from ..workloads import Answer, Program
from .device import pin_environment
from .execute import Outcome, Served, describe_answer
from .job import TrialJob
from .program_output import MEASURE, compare, digest_of, kept, restored
from .timeline import quantiles

_MODULE = "jaxcache._process.measured_run"
_SOURCES = {"memory": "held", "disk": "loaded", "compiled": "compiled"}
_JAX_TRAILER = (
    "For simplicity, JAX has removed its internal frames"  # below the error, in a traceback that it has filtered
)


class ProgramFailed(Exception):
    """Raised when a run of a program did not do its work; the message is the reason, in one line."""


class ProgramKilled(ProgramFailed):
    """Raised when a signal has ended a run of a program, which another run may be spared."""


@dataclass(frozen=True)
class Run:
    """One run of a program, as its process has measured it.

    Attributes:
        figures: What ``measured_run`` has written.
        output: What is compared with the reference's; None if nothing is.
        trace: Requests; None if they were not recorded.
        costs: Cost table; empty if none was asked for.
    """

    figures: dict[str, Any]
    output: bytes | None
    trace: Trace | None
    costs: CostTable

    @property
    def whole(self) -> ProgramRun:
        """Figures of the process as a whole."""
        return ProgramRun(
            wall_seconds=self.figures["wall_seconds"], compile_seconds=self.figures["compile_seconds"],
            programs=self.figures["programs_compiled"], peak_rss_bytes=self.figures["peak_rss_bytes"],
            outside_bytes=(self.figures["statistics"] or {}).get("jax_bytes", 0),
        )  # fmt: skip

    @property
    def statistics(self) -> Statistics:
        """Counts of the cache."""
        counts: dict[str, Any] = self.figures["statistics"]
        by_function = {
            name: FunctionCounts(**{field: each[field] for field in FunctionCounts.model_fields})
            for name, each in counts["by_function"].items()
        }
        values = {field: counts[field] for field in Statistics.model_fields if field != "by_function"}
        return Statistics(**values, by_function=by_function)


def execute_program(job: TrialJob) -> tuple[Outcome, str, str | None]:
    """Run a trial's program; return what was measured, the device, and what is wrong with its output, or None.

    Raises:
        ProgramFailed: If it did not end as it should.
    """
    trial, program = job.trial, _program_of(job)
    runner, started_at, started = _Runner(job, program), datetime.now(UTC), time.perf_counter()
    persistent = trial.persistent
    settings: dict[str, Any] = {
        "limit": trial.memory_limit, "eviction": trial.eviction.name, "directory_limit": persistent.limit,
        "directory_eviction": persistent.eviction, "layers": [str(layer.absolute()) for layer in persistent.layers],
        "remote": persistent.remote,
    }  # fmt: skip
    directory = job.scratch / "programs" if persistent.mode == "fresh" else persistent.shared_directory
    if directory is not None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        settings["directory"] = str(directory.absolute())
    for _ in range(program.warm_runs):
        runner.run("warm", **settings)
    run = runner.run("trial", record=True, **settings)
    answer, checksum = runner.judge(run)
    figures, stats = run.figures, run.statistics
    timing = Timing(
        started_at=started_at.isoformat(timespec="milliseconds"),
        work_seconds=time.perf_counter() - started,
        serve_seconds=figures["wall_seconds"],
        run_seconds=max(0.0, figures["wall_seconds"] - stats.compile_seconds),
        processor_seconds=figures["processor_seconds"],
        disk_saved_seconds=figures["disk_saved_seconds"],
        calls_per_second=(stats.hits + stats.misses) / figures["wall_seconds"],
        **_latency_of_calls(run),
    )
    outcome = Outcome(
        Served(checksum, answer, [], figures["processor_seconds"], None),
        stats,
        timing,
        Memory(start_rss_bytes=figures["start_rss_bytes"], peak_rss_bytes=figures["peak_rss_bytes"]),
        _timeline(run, stats),
        (),
        run.whole,
    )
    return outcome, runner.device_of(run), None if answer.right else f"wrong result: {describe_answer(answer)}"


def execute_program_reference(job: TrialJob) -> Reference:
    """Run a trial's program with a cache without a limit, which records it, and under ``jax.jit`` alone.

    Raises:
        ProgramFailed: If a run did not end as it should, or the two gave different output.
    """
    program, runner = _program_of(job), _Runner(job, _program_of(job))
    for _ in range(program.warm_runs):
        runner.run("warm", eviction="none")
    recordings = [runner.run("recorded", record=True, eviction="none") for _ in range(program.repeat)]
    plain = runner.run("plain", cached=False)
    first = recordings[0]
    stats, trace = first.statistics, first.trace
    assert trace is not None
    if not len(trace):
        raise ProgramFailed(_no_requests(first, plain))
    checksum = "" if plain.output is None else digest_of(plain.output)
    if plain.output is not None and first.output is not None:
        answer = compare(program, first.output, plain.output)
        if not answer.right:
            raise ProgramFailed(
                f"two runs differ in their output, under a cache and under jax.jit: {describe_answer(answer)}"
            )
    trace.save(job.directory / REQUESTS)
    note = _difference([recording.trace for recording in recordings if recording.trace is not None])
    try:
        output = "" if plain.output is None else kept(program, plain.output)
    except ValueError as error:
        raise ProgramFailed(str(error)) from error
    return Reference(
        program_id=job.program_id,
        workload=job.trial.workload.name,
        shapes=job.trial.shapes.name,
        seed=job.trial.seed,
        device=runner.device_of(first),
        slot=job.device.slot,
        environment=job.environment,
        checksum=checksum,
        requests=trace.requests,
        distinct=len(first.costs),
        unbounded_bytes=stats.live_bytes,
        unbounded_cost_seconds=stats.cost_seconds,
        uncached_cost_seconds=stats.cost_seconds + stats.compile_seconds_avoided,
        jit_seconds=plain.whole.wall_seconds,
        run_seconds=max(0.0, first.whole.wall_seconds - stats.compile_seconds),
        processor_seconds=first.figures["processor_seconds"],
        costs={signature: (cost.size_bytes, cost.seconds) for signature, cost in first.costs.items()},
        program=ProgramReference(
            recorded=first.whole,
            plain=plain.whole,
            repeats=None if len(recordings) < 2 else not note,
            repeat_note=note,
            output=output,
        ),
    )


def _program_of(job: TrialJob) -> Program:
    program = job.trial.program
    assert program is not None
    return program


def _no_requests(recorded: Run, plain: Run) -> str:
    compiled = plain.whole.programs
    if not compiled:
        return "the program never calls jax.jit: nothing was compiled, and there is nothing to cache"
    fault = recorded.figures["fault"]
    if fault is not None:
        return f"the cache served no call: {fault}"
    return (
        f"the program calls nothing that jax.jit made: what was compiled ({counted(compiled, 'program')}) "
        "was for operations outside of it, which JAX holds itself; put them into a function under jax.jit"
    )


def _difference(traces: Sequence[Trace]) -> str:
    """Return where recordings differ first; empty if they do not."""
    first = _requested(traces[0])
    for other in map(_requested, traces[1:]):
        shared = min(len(first), len(other))
        unequal = np.flatnonzero(first[:shared] != other[:shared])
        if len(unequal):
            index = int(unequal[0])
            return f"request {index + 1} is {first[index]} in one run and {other[index]} in another"
        if len(first) != len(other):
            return f"one run has {counted(len(first), 'request')}, another {len(other):,}"
    return ""


def _requested(trace: Trace) -> NDArray[Any]:
    return np.array(trace.names, object)[trace.signatures]


def _call_seconds(trace: Trace) -> NDArray[np.float64]:
    """Return the seconds of each request until its call returned, with what was compiled for it."""
    columns = ("lowering_seconds", "backend_seconds", "dispatch_seconds")
    return np.sum([np.nan_to_num(trace.columns[name]) for name in columns], axis=0)


def _latency_of_calls(run: Run) -> dict[str, float]:
    if run.trace is None or not len(run.trace):
        return {"p50_seconds": 0.0, "p99_seconds": 0.0}
    p50, p99 = np.quantile(_call_seconds(run.trace), [0.5, 0.99]).tolist()
    return {"p50_seconds": p50, "p99_seconds": p99}


def _timeline(run: Run, stats: Statistics) -> Timeline:
    latency = {}
    if run.trace is not None and len(run.trace):
        seconds, tiers = _call_seconds(run.trace), run.trace.columns["tier"]
        for tier, source in _SOURCES.items():
            if (tiers == tier).any():
                latency[source] = quantiles(seconds[tiers == tier].tolist())
    return Timeline(
        requests=(stats.hits + stats.misses,), live_bytes=(stats.peak_bytes,), lengths={}, latency=latency,
        loading_seconds=run.figures["loading_seconds"],
    )  # fmt: skip


class _Runner:
    """Runner of one job's program."""

    def __init__(self, job: TrialJob, program: Program) -> None:
        self._job, self._program = job, program
        self._location = pin_environment(job.device)
        self._environment = self._variables()
        self._runs = 0
        self._scratch = job.scratch.absolute()  # the program runs in another directory
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._costs = self._scratch / "costs.json"
        CostTable(job.costs).save(self._costs)

    def _variables(self) -> dict[str, str]:
        variables = dict(os.environ)
        if self._job.device.platform == "cpu":
            variables["JAX_PLATFORMS"] = "cpu"
        threads = variables.get("OMP_NUM_THREADS")
        variables.pop("OPENBLAS_NUM_THREADS", None)  # of the fork server, which must have no threads
        if threads is not None:
            variables["OPENBLAS_NUM_THREADS"] = threads
        folder = str(self._program.python.parent)
        variables["PATH"] = os.pathsep.join([folder, variables.get("PATH", os.defpath)])
        variables["PYTHONUNBUFFERED"] = "1"  # what a program that is killed has printed is there
        return {**variables, **self._program.environment}

    def device_of(self, run: Run) -> str:
        """Return the device of a run, as its JAX sees it."""
        return f"{run.figures['device']} {self._location}"

    def run(self, purpose: str, record: bool = False, **settings: Any) -> Run:
        """Run the program once.

        Raises:
            ProgramFailed: If it did not end as it should.
        """
        self._runs += 1
        scratch = self._scratch / f"{self._runs}-{purpose}"
        scratch.mkdir()
        figures, costs, requests = scratch / "figures.json", scratch / "costs.json", scratch / "requests.npz"
        program = self._program
        described = Settings(
            kind=program.kind, program=program.what, args=program.words, seed=self._job.trial.seed,
            figures=str(figures), costs=str(self._costs), costs_out=str(costs),
            record=str(requests) if record else None, progress=str(self._scratch / TRIAL_PROGRESS),
            requests=self._job.reference_requests, **settings,
        )  # fmt: skip
        (scratch / "settings.json").write_text(json.dumps(dataclasses.asdict(described)))
        before = self._state_of_file()
        with (self._job.directory / STDOUT).open("wb") as stdout:
            words = [str(program.python), "-m", _MODULE, str(scratch / "settings.json")]
            self._start(words, f"the program ({purpose} run)", stdout)
        measured = self._read(figures)
        if measured["recording_fault"] is not None:
            raise ProgramFailed(f"the requests could not be recorded: {measured['recording_fault']}")
        output = self._output(before)
        if program.check.command is not None:
            self._start(shlex.split(program.check.command), "program.check.command", sys.stderr)
        trace = _load(requests) if record else None
        return Run(measured, output, trace, CostTable.load(costs) if costs.exists() else CostTable())

    def _start(self, words: list[str], what: str, stdout: IO[Any]) -> None:
        """Run a command to its end; what it writes to stderr goes to the file of the job's process."""
        offset, timeout = os.lseek(2, 0, os.SEEK_CUR), self._program.timeout
        try:
            process = subprocess.Popen(
                words, cwd=self._program.directory, env=self._environment, stdin=subprocess.DEVNULL, stdout=stdout
            )
        except OSError as error:
            raise ProgramFailed(f"{what} cannot be started: {error}") from error
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ProgramFailed(
                f"{what} took more than {timeout:g} s; raise program.timeout or shorten the run"
            ) from None
        if code:
            kind = ProgramKilled if code < 0 else ProgramFailed
            raise kind(f"{what} {_ending(code)}{self._last_line(offset)}")

    def _last_line(self, offset: int) -> str:
        """Return the last line that was written to stderr from an offset on, as a part of a sentence."""
        with (self._job.directory / STDERR).open("rb") as file:
            file.seek(offset)
            lines = file.read().decode(errors="replace").strip().splitlines()
        if lines and lines[-1].startswith(_JAX_TRAILER):
            lines = lines[:-2]  # a line of dashes comes before it
        if not lines:
            return ""
        hint = "; its stdin is empty" if "EOFError" in lines[-1] else ""
        return f": {lines[-1].strip()}{hint}"

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            figures: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ProgramFailed(
                "the program ended without its figures, as by os._exit or os.exec; let it return or call sys.exit"
            ) from error
        return figures

    def _state_of_file(self) -> tuple[int, ...]:
        """Return what changes in the checked file when it is written."""
        try:
            state = os.stat(self._program.check.file or "")
        except OSError:
            return ()
        return state.st_mtime_ns, state.st_ino, state.st_size

    def _output(self, before: tuple[int, ...]) -> bytes | None:
        check = self._program.check
        if check.stdout:
            return (self._job.directory / STDOUT).read_bytes()
        if check.file is None:
            return None
        if self._state_of_file() in ((), before):
            raise ProgramFailed(f"the program did not write program.check.file={check.file}")
        try:
            return check.file.read_bytes()
        except OSError as error:
            raise ProgramFailed(f"program.check.file={check.file} cannot be read: {error.strerror}") from error

    def judge(self, run: Run) -> tuple[Answer, str]:
        """Return how far a trial's output is from the reference's, and its checksum; empty if nothing is compared."""
        if run.output is None:
            return Answer(measure=MEASURE, error=0.0, tolerance=0.0), ""
        checksum, job = digest_of(run.output), self._job
        if job.reference_output:
            return compare(self._program, run.output, restored(job.reference_output)), checksum
        error = 0.0 if job.reference_checksum in (None, checksum) else float("inf")
        return Answer(measure=MEASURE, error=error, tolerance=self._program.check.tolerance), checksum


def _ending(code: int) -> str:
    return f"exited with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"


def _load(requests: Path) -> Trace:
    if not any(requests.iterdir()):
        return Trace.from_arrays(keys=[], size_bytes=[], compile_seconds=[])
    return Trace.load(requests)


@contextmanager
def ending_leftovers() -> Iterator[None]:
    """End what a program has left running in this process's group, at the end of the context."""
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
